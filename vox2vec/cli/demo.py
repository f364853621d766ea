"""`vox2vec demo`: the main job on built-in data, offline."""

import argparse
from pathlib import Path
from typing import Any

import torch

from vox2vec.cli.embed import write_figures
from vox2vec.data.phantom import phantom
from vox2vec.inference.embed import embed
from vox2vec.nn.fpn import FPN3d


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec demo`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="features of a synthetic CT, offline",
        description="Embed a synthetic torso with an untrained network and write the figures; no data needed.",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, default=Path("vox2vec_demo"), help="(default: vox2vec_demo)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which synthetic patient (default: 0)")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Embed a phantom and write the scan, its features and their figures."""
    arguments.output.mkdir(parents=True, exist_ok=True)
    patient = phantom(arguments.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(arguments.seed)
        backbone = FPN3d(base_channels=8, num_scales=3).eval()
    embedding = embed(patient.volume, backbone)
    patient.volume.save(arguments.output / "phantom.nii.gz")
    patient.labels.save(arguments.output / "phantom_labels.nii.gz")
    embedding.save(arguments.output / "phantom.safetensors")
    liver = patient.landmarks["liver"].tolist()
    write_figures(embedding, patient.volume, arguments.output, point_mm=liver)
    print(f"A synthetic CT, its {embedding.num_channels} features a voxel and the figures are in {arguments.output}/:")
    for path in sorted(arguments.output.iterdir()):
        print(f"  {path.name}")
    print("The network was not trained: the colours follow intensity and texture. For trained weights, see the README.")
