"""`vox2vec embed SCAN -o OUT`: the features of a scan, in one file."""

import argparse
from pathlib import Path
from typing import Any

from vox2vec.cli.arguments import (
    add_device,
    add_output,
    add_scan,
    add_weights,
    backbone_of,
    checked_folder,
    checked_output,
)
from vox2vec.figures.overview import write_figures
from vox2vec.inference.embed import embed
from vox2vec.reading.load import load_volume


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec embed`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "embed", description="Write the features of every voxel of a CT to one file."
    )
    add_scan(parser)
    add_output(parser, help="such as scan.safetensors")
    add_weights(parser)
    add_device(parser)
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="torch.compile the network on the CPU (default: where the scan has enough windows to earn it back)",
    )
    parser.add_argument("--batch_size", type=int, help="windows a forward pass (default: 1, more of small ones)")
    parser.add_argument(
        "--figure", metavar="DIR", type=Path, help="write slices, the features' colours, and a similarity map there"
    )
    parser.add_argument(
        "--point",
        metavar=("X", "Y", "Z"),
        nargs=3,
        type=float,
        help="RAS+ millimetres of the voxel that the similarity map shows (default: the middle of the scan)",
    )
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Embed a scan, write the file, and the figures if asked."""
    checked_output(arguments.output, suffixes=[".safetensors"], inputs=[arguments.scan, arguments.weights])
    if arguments.figure is not None:
        checked_folder(arguments.figure)
    volume = load_volume(arguments.scan, series=arguments.series)
    how = {name: getattr(arguments, name) for name in ("device", "precision", "batch_size")}
    embedding = embed(volume, backbone_of(arguments.weights), compiled=arguments.compile, **how)
    embedding.save(arguments.output)
    shape, spacing = "x".join(map(str, embedding.shape)), "x".join(f"{s:g}" for s in embedding.grid.spacing_mm)
    print(f"{arguments.output}: {embedding.num_channels} channels on {shape} voxels of {spacing} mm")
    if arguments.figure is not None:
        print(*write_figures(embedding, volume, arguments.figure, point_mm=arguments.point), sep="\n")
