"""`vox2vec match SOURCE TARGET --points FILE -o OUT`: the same places in another scan."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vox2vec.cli.arguments import (
    add_device,
    add_output,
    add_scan,
    add_weights,
    backbone_of,
    checked_folder,
    checked_output,
)
from vox2vec.evaluation.lesions import Tracked
from vox2vec.figures.matching import draw_matches
from vox2vec.inference.embed import Embedder
from vox2vec.matching.alone import match_alone
from vox2vec.matching.index import Index, checked_weights
from vox2vec.matching.landmarks import match
from vox2vec.matching.matches import NO_COUNTERPART, Matches
from vox2vec.reading.load import load_volume
from vox2vec.reading.points import Points, read_points


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec match`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "match",
        description="Find each point of a list, given in the source scan, in the target scan: by a field of matches of "
        "the two scans' voxels, then by what their intensities say nearby. World millimetres in RAS, or LPS where the "
        "file says so; the output is in the same.",
    )
    add_scan(parser, "source", help="the scan that the points lie in")
    add_scan(parser, "target", series="--target_series", help="the scan to find them in")
    parser.add_argument(
        "--points", required=True, metavar="FILE", help=".csv with columns x, y, z and name; Slicer's .fcsv, .mrk.json"
    )
    add_output(parser, help=".csv, .fcsv or .mrk.json")
    parser.add_argument("--system", choices=("RAS", "LPS"), help="of a CSV that does not say it (default: RAS)")
    parser.add_argument(
        "--mutual",
        metavar="MM",
        type=float,
        default=10.0,
        help="a mutual match leads back within (default: 10)",
    )
    parser.add_argument(
        "--level_weights",
        metavar="W",
        type=float,
        nargs="+",
        help="of the pyramid's levels, finest first (default: all 1); "
        "vox2vec.matching.level_weights learns them without labels",
    )
    parser.add_argument(
        "--alone", action="store_true", help="each point by its own vector, whatever the points around it say"
    )
    parser.add_argument(
        "--truth",
        metavar="FILE",
        help="where the points truly lie in the target, by name, in a list as --points; with a column radius (mm) for "
        "lesions: tells the share within 10 mm and within min(radius, 10 mm)",
    )
    add_weights(parser)
    add_device(parser)
    parser.add_argument("--figure", metavar="DIR", type=Path, help="draw the first matches there, a picture each")
    parser.add_argument("--num_figures", metavar="N", type=int, default=6, help="at most (default: 6)")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Embed both scans, match, write, and draw if asked."""
    points, truth = _read(arguments)
    backbone = backbone_of(arguments.weights)
    weights = checked_weights(arguments.level_weights, backbone.num_scales)
    source = load_volume(arguments.source, series=arguments.series)
    scans = source, load_volume(arguments.target, series=arguments.target_series)
    embedder = Embedder(backbone, device=arguments.device, precision=arguments.precision)
    embeddings = embedder(scans[0]), embedder(scans[1])
    here, there = (Index.of(embedding, weights=weights, average=True) for embedding in embeddings)
    way = match_alone if arguments.alone else partial(match, scans=scans)
    found = way(here, points.points_mm, there, mutual_mm=arguments.mutual)
    found.save(arguments.output, names=points.names, system=points.system)
    _tell(found, points, arguments.output, truth)
    if arguments.figure is not None:
        some = np.flatnonzero(found.found)[: arguments.num_figures]
        shown = [points.names[i] for i in some], points.points_mm[some], found.points_mm[some], found.score[some]
        print(*draw_matches(arguments.figure, scans, embeddings, *shown), sep="\n")


def _read(arguments: argparse.Namespace) -> tuple[Points, Points | None]:
    read = [arguments.source, arguments.target, arguments.points, arguments.truth, arguments.weights]
    checked_output(arguments.output, suffixes=[".csv", ".fcsv", ".json"], inputs=read)
    if arguments.figure is not None:
        checked_folder(arguments.figure)
    points = read_points(arguments.points, system=arguments.system)
    return points, None if arguments.truth is None else read_points(arguments.truth, system=arguments.system)


def _tell(found: Matches, points: Points, output: Path, truth: Points | None) -> None:
    print(
        f"{output}: {found.found.sum()} of {len(found.found)} points matched, {found.mutual.sum()} mutually, "
        f"{found.outlier.sum()} outliers; {points.system} millimetres"
    )
    for name, status, matched in zip(points.names, found.status, found.found, strict=True):
        if not matched:
            asked = " in the target" if status == NO_COUNTERPART else f" of the source; is the list in {points.system}?"
            print(f"  {name}: {status}{asked}")
    if truth is not None:
        print(Tracked.of(points.names, found.points_mm, truth))
