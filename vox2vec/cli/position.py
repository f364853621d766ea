"""`vox2vec position SCAN REFERENCE -o OUT`: where in the reference each slice of a scan lies."""

import argparse
from pathlib import Path
from typing import Any

from vox2vec.cli.arguments import (
    PICTURES,
    add_device,
    add_output,
    add_scan,
    add_weights,
    backbone_of,
    checked_output,
)
from vox2vec.figures.position import position_figure
from vox2vec.inference.embed import Embedder
from vox2vec.matching.position import axial_position
from vox2vec.reading.load import load_volume


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec position`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "position",
        description="Find for each slice of a scan the height of the most similar places in a reference scan, such as "
        "a whole torso, by the features of its voxels. World millimetres, RAS+ z.",
    )
    add_scan(parser)
    add_scan(parser, "reference", series="--reference_series", help="a scan that holds what SCAN holds")
    add_output(parser, metavar="CSV")
    parser.add_argument("--every", metavar="MM", type=float, default=10.0, help="from slice to slice (default: 10)")
    parser.add_argument("--figure", metavar="PNG", type=Path, help="draw the curve between both scans")
    add_weights(parser)
    add_device(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Embed both scans, write the curve, and draw it if asked."""
    _check(arguments)
    backbone = backbone_of(arguments.weights)
    scan = load_volume(arguments.scan, series=arguments.series)
    reference = load_volume(arguments.reference, series=arguments.reference_series)
    embedder = Embedder(backbone, device=arguments.device, precision=arguments.precision)
    curve = axial_position(embedder(scan), embedder(reference), every_mm=arguments.every)
    curve.save(arguments.output)
    print(
        f"{arguments.output}: {len(curve.slices_mm)} slices, at z {curve.fitted_mm[0]:.0f} to "
        f"{curve.fitted_mm[-1]:.0f} mm of the reference"
    )
    if arguments.figure is not None:
        columns = curve.slices_mm, curve.reference_mm, curve.spread_mm, curve.fitted_mm
        title = "Where each slice lies, by the features of its voxels"
        position_figure(scan, reference, *columns, title=title).savefig(arguments.figure)
        print(arguments.figure)


def _check(arguments: argparse.Namespace) -> None:
    read = [arguments.scan, arguments.reference, arguments.weights]
    checked_output(arguments.output, suffixes=[".csv"], inputs=read)
    if arguments.figure is not None:
        checked_output(arguments.figure, suffixes=PICTURES, inputs=read)
