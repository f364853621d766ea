"""`vox2vec position SCAN REFERENCE -o OUT`: where in the reference each slice of a scan lies."""

import argparse
import csv
from pathlib import Path
from typing import Any

from vox2vec.cli.prepared import add_weights_arguments, backbone_of
from vox2vec.figures.position import position_figure
from vox2vec.inference.embed import Embedder
from vox2vec.matching.index import Index
from vox2vec.matching.position import axial_position
from vox2vec.reading.load import load_volume


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec position`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "position",
        help="where in another scan each slice lies",
        description="Find for each slice of a scan the height of the most similar places in a reference scan, such as "
        "a whole torso, by the features of its voxels. World millimetres, RAS+ z.",
    )
    parser.add_argument("scan", metavar="SCAN", help=".nii.gz, DICOM, ...")
    parser.add_argument("reference", metavar="REFERENCE", help="a scan that holds what SCAN holds")
    parser.add_argument("-o", "--output", required=True, metavar="CSV", type=Path)
    parser.add_argument("--every", metavar="MM", type=float, default=10.0, help="from slice to slice (default: 10)")
    parser.add_argument("--figure", metavar="PNG", type=Path, help="draw the curve between both scans")
    add_weights_arguments(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Embed both scans, write the curve, and draw it if asked."""
    for path in (arguments.output, arguments.figure):
        if path is not None and not path.resolve().parent.is_dir():
            raise FileNotFoundError(f"the folder of the output must exist, {path.resolve().parent} does not")
    backbone = backbone_of(arguments.weights)
    volumes = load_volume(arguments.scan), load_volume(arguments.reference)
    embedder = Embedder(backbone, device=arguments.device, precision=arguments.precision)
    scan, reference = (Index.of(embedder(volume)) for volume in volumes)
    curve = axial_position(scan, reference, every_mm=arguments.every)
    with arguments.output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["z_mm", "reference_z_mm", "spread_mm", "fitted_z_mm"])
        columns = curve.slices_mm, curve.reference_mm, curve.spread_mm, curve.fitted_mm
        writer.writerows([f"{value:.2f}" for value in row] for row in zip(*columns, strict=True))
    print(
        f"{arguments.output}: {len(curve.slices_mm)} slices, at z {curve.fitted_mm[0]:.0f} to "
        f"{curve.fitted_mm[-1]:.0f} mm of the reference"
    )
    if arguments.figure is not None:
        position_figure(
            *volumes,
            curve.slices_mm,
            curve.reference_mm,
            curve.spread_mm,
            curve.fitted_mm,
            title="Where each slice lies, by the features of its voxels",
        ).savefig(arguments.figure)
        print(arguments.figure)
