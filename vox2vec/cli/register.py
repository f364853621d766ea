"""`vox2vec register FIXED MOVING -o OUT`: one scan laid onto another."""

import argparse
from pathlib import Path
from typing import Any

from vox2vec.cli.arguments import (
    LABELS,
    add_device,
    add_output,
    add_scan,
    add_weights,
    backbone_of,
    checked_folder,
    checked_output,
)
from vox2vec.figures.registration import registration_figures
from vox2vec.inference.embed import Embedder
from vox2vec.matching.registration import Registration, register
from vox2vec.reading.labels import read_labels
from vox2vec.reading.load import load_volume
from vox2vec.reading.points import Points, read_points, write_points


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec register`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "register",
        description="Find where every point of a fixed scan lies in a moving one, without folds, and write the moving "
        "scan on the fixed one's grid.",
    )
    add_scan(parser, "fixed", help="the scan whose grid and points are kept")
    add_scan(parser, "moving", series="--moving_series", help="the scan that is laid onto it")
    add_output(parser, metavar="NIFTI", help="the moving scan on the fixed one's grid")
    parser.add_argument(
        "--labels", metavar="FILE", type=Path, help="of the moving scan; laid over as OUT_labels.nii.gz"
    )
    parser.add_argument(
        "--points", metavar="FILE", help="of the fixed scan, as of match; found ones go to OUT_points.csv, RAS or LPS"
    )
    parser.add_argument("--field", metavar="NIFTI", type=Path, help="write ITK's displacement field, for 3D Slicer too")
    parser.add_argument("--figure", metavar="DIR", type=Path, help="draw before and after, checkerboard and grid there")
    add_weights(parser)
    add_device(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Register, write what is asked for, and draw if asked."""
    outputs = _checked(arguments)
    points = None if arguments.points is None else read_points(arguments.points)
    labels = None if arguments.labels is None else read_labels(arguments.labels)
    fixed = load_volume(arguments.fixed, series=arguments.series)
    moving = load_volume(arguments.moving, series=arguments.moving_series)
    embedder = Embedder(backbone_of(arguments.weights), device=arguments.device, precision=arguments.precision)
    found = register(fixed, moving, embedder)
    found.onto().save(arguments.output)
    print(
        f"{arguments.output}: {'x'.join(map(str, fixed.shape))} voxels, the fixed scan's own; {found.folding:.2%} folds"
    )
    if labels is not None:
        found.labels(labels).save(outputs["labels"])
    if points is not None:
        _write_points(found, points, outputs["points"])
    if arguments.field is not None:
        found.save(arguments.field)
    if arguments.figure is not None:
        _draw(found, arguments.figure)


def _checked(arguments: argparse.Namespace) -> dict[str, Path]:
    read = [arguments.fixed, arguments.moving, arguments.labels, arguments.points, arguments.weights]
    checked_output(arguments.output, suffixes=LABELS, inputs=read)
    stem = arguments.output.name.removesuffix(".gz").removesuffix(".nii")
    beside = {"labels": f"{stem}_labels.nii.gz", "points": f"{stem}_points.csv"}
    outputs = {name: arguments.output.with_name(file) for name, file in beside.items()}
    for name, path in outputs.items():
        if getattr(arguments, name) is not None:
            checked_output(path, inputs=read)
    if arguments.field is not None:
        checked_output(arguments.field, suffixes=LABELS, inputs=read)
    if arguments.figure is not None:
        checked_folder(arguments.figure)
    return outputs


def _write_points(found: Registration, points: Points, path: Path) -> None:
    inside = found.supported(points.points_mm)
    moved = Points(points.names, found.points(points.points_mm), points.system)
    write_points(moved, path, columns={"supported": ["yes" if one else "no" for one in inside]})
    print(
        f"{path}: {inside.sum()} of {len(inside)} points have a place in the moving scan; {points.system} millimetres"
    )


def _draw(found: Registration, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    drawn = registration_figures(found.fixed, found.moving, found.onto(), found.points)
    for name, figure in drawn.items():
        path = folder / f"{name}.png"
        figure.savefig(path)
        print(path)
