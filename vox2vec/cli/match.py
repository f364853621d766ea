"""`vox2vec match SOURCE TARGET --points FILE -o OUT`: the same places in another scan."""

import argparse
from collections.abc import Iterator
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
from vox2vec.figures.matching import match_figure
from vox2vec.inference.embed import Embedder
from vox2vec.inference.embedding import Embedding
from vox2vec.matching.index import Index, checked_weights
from vox2vec.matching.landmarks import Matches, match
from vox2vec.reading.load import load_volume
from vox2vec.reading.points import Points, read_points
from vox2vec.volume import Volume


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec match`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "match",
        description="Find each point of a list, given in the source scan, in the target scan, by the vectors of their "
        "voxels. World millimetres in RAS, or LPS where the file says so; the output is in the same.",
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
    _check(arguments)
    points = read_points(arguments.points, system=arguments.system)
    truth = None if arguments.truth is None else read_points(arguments.truth, system=arguments.system)
    backbone = backbone_of(arguments.weights)
    weights = checked_weights(arguments.level_weights, backbone.num_scales)
    source = load_volume(arguments.source, series=arguments.series)
    target = load_volume(arguments.target, series=arguments.target_series)
    embedder = Embedder(backbone, device=arguments.device, precision=arguments.precision)
    embeddings = embedder(source), embedder(target)
    here, there = (Index.of(embedding, weights=weights, average=True) for embedding in embeddings)
    found = match(here, points.points_mm, there, mutual_mm=arguments.mutual)
    found.save(arguments.output, names=points.names, system=points.system)
    _tell(found, points, arguments.output)
    if truth is not None:
        print(Tracked.of(points.names, found.points_mm, truth))
    if arguments.figure is not None:
        for path in _drawn(arguments, (source, target), embeddings, points, found):
            print(path)


def _check(arguments: argparse.Namespace) -> None:
    read = [arguments.source, arguments.target, arguments.points, arguments.truth, arguments.weights]
    checked_output(arguments.output, suffixes=[".csv", ".fcsv", ".json"], inputs=read)
    if arguments.figure is not None:
        checked_folder(arguments.figure)


def _tell(found: Matches, points: Points, output: Path) -> None:
    print(
        f"{output}: {found.found.sum()} of {len(found.found)} points matched, {found.mutual.sum()} mutually, "
        f"{found.outlier.sum()} outliers; {points.system} millimetres"
    )
    for name, status, matched in zip(points.names, found.status, found.found, strict=True):
        if not matched:
            print(f"  {name}: {status} of the source; is the list in {points.system}?")


def _drawn(
    arguments: argparse.Namespace,
    volumes: tuple[Volume, Volume],
    embeddings: tuple[Embedding, Embedding],
    points: Points,
    found: Matches,
) -> Iterator[Path]:
    """The files of the first matches' pictures."""
    arguments.figure.mkdir(parents=True, exist_ok=True)
    for i in np.flatnonzero(found.found)[: arguments.num_figures]:
        here, there = points.points_mm[i], found.points_mm[i]
        similarity = embeddings[1].similarity(embeddings[0].at([here])[0])
        title = f"{points.names[i]}: similarity {found.score[i]:.2f}, {found.back_mm[i]:.0f} mm there and back"
        path = arguments.figure / f"match_{i + 1:03d}.png"
        match_figure(volumes[0], here, volumes[1], there, similarity, title=title).savefig(path)
        yield path
