"""`vox2vec segment SCAN --head FILE -o labels.nii.gz`: the structures of a scan, on its own grid."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from vox2vec.inference.segmentation import segment
from vox2vec.nn.head_file import load_head
from vox2vec.nn.pretrained import load_backbone
from vox2vec.reading.load import load_volume


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec segment`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "segment",
        help="structures of a whole scan",
        description="Find the structures that a head was trained on, and write them as labels on the scan's own grid.",
    )
    parser.add_argument(
        "scan", metavar="SCAN", help=".nii, .nii.gz, .nrrd, .mha, a DICOM folder or one of a series' files"
    )
    parser.add_argument(
        "--head", required=True, metavar="HEAD", help="of eval.py, such as fold_0/linear.safetensors, or owner/name"
    )
    parser.add_argument("-o", "--output", required=True, metavar="NIFTI", type=Path, help="such as labels.nii.gz")
    parser.add_argument(
        "--weights",
        help="the backbone that the head was trained on: contrastive, vicreg, a file, a Hub repository (default: "
        "backbone.safetensors beside the head, else contrastive)",
    )
    parser.add_argument("--series", metavar="UID", help="which series, where a DICOM folder holds several")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument("--precision", default="auto", choices=("auto", "32", "bf16"), help="as of embed")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Segment, write, and say what was found."""
    if not arguments.output.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"labels are written as .nii or .nii.gz, got {arguments.output.name}")
    if not arguments.output.resolve().parent.is_dir():
        raise FileNotFoundError(f"the folder of the output must exist, {arguments.output.resolve().parent} does not")
    head = load_head(arguments.head)
    backbone = load_backbone(arguments.weights or _beside(Path(arguments.head)))
    volume = load_volume(arguments.scan, series=arguments.series)
    labels = segment(volume, backbone, head, device=arguments.device, precision=arguments.precision)
    labels.save(arguments.output)
    millilitres = abs(np.linalg.det(labels.affine[:3, :3])) / 1000
    print(f"{arguments.output}: {'x'.join(map(str, labels.shape))} voxels, the scan's own grid")
    for number, name in head.label_names.items():
        print(f"  {number} {name}: {np.count_nonzero(labels.image == number) * millilitres:.1f} ml")


def _beside(head: Path) -> str:
    path = head.parent / "backbone.safetensors"
    return str(path) if path.is_file() else "contrastive"
