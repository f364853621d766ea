"""`vox2vec embed SCAN -o OUT`: the features of a scan, in one file."""

import argparse
from pathlib import Path
from typing import Any

from vox2vec.cli.prepared import add_weights_argument, backbone_of
from vox2vec.figures.overview import figures_of
from vox2vec.inference.embed import embed
from vox2vec.inference.embedding import Embedding
from vox2vec.reading.load import load_volume
from vox2vec.volume import Volume


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec embed`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "embed", help="features of a whole scan", description="Write the features of every voxel of a CT to one file."
    )
    parser.add_argument(
        "scan", metavar="SCAN", help=".nii, .nii.gz, .nrrd, .mha, a DICOM folder or one of a series' files"
    )
    parser.add_argument("-o", "--output", required=True, metavar="OUT", type=Path, help="such as scan.safetensors")
    add_weights_argument(parser)
    parser.add_argument("--series", metavar="UID", help="which series, where a DICOM folder holds several")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "32", "bf16"),
        help="auto takes bfloat16 where the hardware has it and the error, measured first, is at most 1 %%",
    )
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
    if not arguments.output.resolve().parent.is_dir():
        raise FileNotFoundError(f"the folder of the output must exist, {arguments.output.resolve().parent} does not")
    volume = load_volume(arguments.scan, series=arguments.series)
    embedding = embed(
        volume,
        backbone_of(arguments.weights),
        device=arguments.device,
        precision=arguments.precision,
        compiled=arguments.compile,
        batch_size=arguments.batch_size,
    )
    embedding.save(arguments.output)
    shape, spacing = "x".join(map(str, embedding.shape)), "x".join(f"{s:g}" for s in embedding.grid.spacing_mm)
    print(f"{arguments.output}: {embedding.num_channels} channels on {shape} voxels of {spacing} mm")
    if arguments.figure is not None:
        for path in write_figures(embedding, volume, arguments.figure, point_mm=arguments.point):
            print(path)


def write_figures(
    embedding: Embedding, volume: Volume, folder: Path, *, point_mm: list[float] | None = None
) -> list[Path]:
    """Write slices.png, pca.png and similarity.png of a scan into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = figures_of(embedding, volume, point_mm=point_mm)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in figures]
