"""`vox2vec register FIXED MOVING -o OUT`: one scan laid onto another."""

import argparse
from pathlib import Path
from typing import Any

from vox2vec.cli import arguments as shared
from vox2vec.figures.registration import registration_figures
from vox2vec.figures.style import save_figures
from vox2vec.inference.embed import Embedder
from vox2vec.matching.registration import register
from vox2vec.reading.labels import read_labels
from vox2vec.reading.load import load_volume
from vox2vec.reading.points import read_points


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec register`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "register", description="Find where each point of a fixed scan lies in a moving one, densely and without folds."
    )
    shared.add_scan(parser, "fixed", help="the scan whose grid and points are kept")
    shared.add_scan(parser, "moving", series="--moving_series", help="the scan that is laid onto it")
    shared.add_output(parser, metavar="NIFTI", help="the moving scan on the fixed one's grid")
    parser.add_argument(
        "--labels", metavar="FILE", type=Path, help="of the moving scan; laid over as OUT_labels.nii.gz"
    )
    parser.add_argument("--points", metavar="FILE", help="of the fixed scan, as of match; found: OUT_points.csv")
    parser.add_argument("--field", metavar="NIFTI", type=Path, help="write ITK's displacement field, for 3D Slicer too")
    parser.add_argument("--figure", metavar="DIR", type=Path, help="draw before and after, checkerboard and grid there")
    shared.add_weights(parser)
    shared.add_device(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Register, write what is asked for, and draw if asked."""
    outputs = _checked(arguments)
    points = None if arguments.points is None else read_points(arguments.points)
    labels = None if arguments.labels is None else read_labels(arguments.labels)
    fixed = load_volume(arguments.fixed, series=arguments.series)
    moving = load_volume(arguments.moving, series=arguments.moving_series)
    backbone = shared.backbone_of(arguments.weights)
    found = register(fixed, moving, Embedder(backbone, device=arguments.device, precision=arguments.precision))
    found.onto().save(arguments.output)
    if labels is not None:
        found.labels(labels).save(outputs["labels"])
    if points is not None:
        found.save_points(points, outputs["points"])
    if arguments.field is not None:
        found.save(arguments.field)
    print(*outputs.values(), f"{found.folding:.2%} folds", sep="\n")
    if arguments.figure is not None:
        save_figures(registration_figures(fixed, moving, found.onto(), found.points), arguments.figure)


def _checked(arguments: argparse.Namespace) -> dict[str, Path]:
    read = [getattr(arguments, name) for name in ("fixed", "moving", "labels", "points", "weights")]
    stem = str(arguments.output).removesuffix(".gz").removesuffix(".nii")
    every = {"output": arguments.output, "labels": Path(f"{stem}_labels.nii.gz"), "points": Path(f"{stem}_points.csv")}
    asked = {k: v for k, v in {**every, "field": arguments.field}.items() if getattr(arguments, k) is not None}
    for name, path in asked.items():
        shared.checked_output(path, suffixes=(".csv",) if name == "points" else shared.LABELS, inputs=read)
    if arguments.figure is not None:
        shared.checked_folder(arguments.figure)
    return asked
