"""`vox2vec match SOURCE TARGET --points FILE -o OUT`: the same places in another scan."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from vox2vec.cli.prepared import add_weights_arguments, backbone_of
from vox2vec.figures.matching import match_figure
from vox2vec.inference.embed import Embedder
from vox2vec.matching.index import Index, checked_weights
from vox2vec.matching.landmarks import MATCHED, match
from vox2vec.reading.load import load_volume
from vox2vec.reading.points import Points, read_points, write_points


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec match`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "match",
        help="find points of one scan in another",
        description="Find each point of a list, given in the source scan, in the target scan, by the vectors of their "
        "voxels. World millimetres in RAS, or LPS where the file says so; the output is in the same.",
    )
    parser.add_argument("source", metavar="SOURCE", help="the scan that the points lie in: .nii.gz, DICOM, ...")
    parser.add_argument("target", metavar="TARGET", help="the scan to find them in")
    parser.add_argument(
        "--points", required=True, metavar="FILE", help=".csv with columns x, y, z and name; Slicer's .fcsv, .mrk.json"
    )
    parser.add_argument("-o", "--output", required=True, metavar="OUT", type=Path, help=".csv, .fcsv or .mrk.json")
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
    add_weights_arguments(parser)
    parser.add_argument("--figure", metavar="DIR", type=Path, help="draw the first matches there, a picture each")
    parser.add_argument("--num_figures", metavar="N", type=int, default=6, help="at most (default: 6)")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Embed both scans, match, write, and draw if asked."""
    if not arguments.output.name.endswith((".csv", ".fcsv", ".json")):
        raise ValueError(f"matches are written as .csv, .fcsv or .mrk.json, got {arguments.output.name}")
    if not arguments.output.resolve().parent.is_dir():
        raise FileNotFoundError(f"the folder of the output must exist, {arguments.output.resolve().parent} does not")
    points = read_points(arguments.points, system=arguments.system)
    backbone = backbone_of(arguments.weights)
    weights = checked_weights(arguments.level_weights, backbone.num_scales)
    volumes = load_volume(arguments.source), load_volume(arguments.target)
    embedder = Embedder(backbone, device=arguments.device, precision=arguments.precision)
    source, target = (embedder(volume) for volume in volumes)
    index, other = (Index.of(one, weights=weights, average=True) for one in (source, target))
    found = match(index, points.points_mm, other, mutual_mm=arguments.mutual)
    told = {
        "score": [_told(value, 3) for value in found.score],
        "mutual": ["yes" if mutual else "no" for mutual in found.mutual],
        "back_mm": [_told(value, 1) for value in found.back_mm],
        "outlier": ["yes" if outlier else "no" for outlier in found.outlier],
        "status": list(found.status),
    }
    write_points(Points(points.names, found.points_mm, points.system), arguments.output, columns=told)
    matched = np.array([status == MATCHED for status in found.status])
    print(
        f"{arguments.output}: {matched.sum()} of {len(matched)} points matched, {found.mutual.sum()} mutually, "
        f"{found.outlier.sum()} outliers; {points.system} millimetres"
    )
    for name, status in zip(points.names, found.status, strict=True):
        if status != MATCHED:
            print(f"  {name}: {status} of the source; is the list in {points.system}?")
    if arguments.figure is not None:
        arguments.figure.mkdir(parents=True, exist_ok=True)
        for i in np.flatnonzero(matched)[: arguments.num_figures]:
            vector = source.at(points.points_mm[[i]])[0]
            figure = match_figure(
                volumes[0],
                points.points_mm[i],
                volumes[1],
                found.points_mm[i],
                target.similarity(vector),
                title=f"{points.names[i]}: similarity {found.score[i]:.2f}, {found.back_mm[i]:.0f} mm there and back",
            )
            path = arguments.figure / f"match_{i + 1:03d}.png"
            figure.savefig(path)
            print(path)


def _told(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"
