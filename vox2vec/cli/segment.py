"""`vox2vec segment SCAN --head FILE | --examples DIR -o labels.nii.gz`: the structures of a scan, on its own grid."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vox2vec.cli.prepared import backbone_of
from vox2vec.data.sources.labelled import read_names
from vox2vec.data.sources.own import own_data
from vox2vec.data.sources.source import ListedSource
from vox2vec.inference.embed import Embedder
from vox2vec.inference.segmentation import segment
from vox2vec.matching.index import Index
from vox2vec.matching.neighbours import LabelledVoxels, labels_by_neighbours
from vox2vec.nn.head_file import SegmentationHead, load_head
from vox2vec.nn.pretrained import fingerprint, load_backbone, vox2vec_small
from vox2vec.reading.load import load_volume
from vox2vec.volume import Volume


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec segment`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "segment",
        help="structures of a whole scan",
        description="Find the structures that a head was trained on, or those of one or a few labelled scans without "
        "training, and write them as labels on the scan's own grid.",
    )
    parser.add_argument(
        "scan", metavar="SCAN", help=".nii, .nii.gz, .nrrd, .mha, a DICOM folder or one of a series' files"
    )
    known = parser.add_mutually_exclusive_group(required=True)
    known.add_argument("--head", metavar="HEAD", help="of eval.py, such as fold_0/linear.safetensors, or owner/name")
    known.add_argument(
        "--examples",
        metavar="DIR",
        type=Path,
        help="labelled scans, SCAN_labels.nii.gz beside SCAN.nii.gz: each voxel asks the voxels most like it",
    )
    parser.add_argument(
        "--names", metavar="JSON", type=Path, help='structures of the examples, {"1": "liver"} (default: all labels)'
    )
    parser.add_argument("-o", "--output", required=True, metavar="NIFTI", type=Path, help="such as labels.nii.gz")
    parser.add_argument(
        "--weights",
        help="contrastive, vicreg, small, a file, a Hub repository: what the head was trained on (default: "
        "backbone.safetensors beside the head, else the one it knows; with --examples as of embed)",
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
    if arguments.names is not None and arguments.examples is None:
        raise ValueError("--names goes with --examples; a head has its own names")
    labels, names = _by_head(arguments) if arguments.examples is None else _by_examples(arguments)
    labels.save(arguments.output)
    millilitres = abs(np.linalg.det(labels.affine[:3, :3])) / 1000
    print(f"{arguments.output}: {'x'.join(map(str, labels.shape))} voxels, the scan's own grid")
    for number, name in names.items():
        print(f"  {number} {name}: {np.count_nonzero(labels.image == number) * millilitres:.1f} ml")


def _by_head(arguments: argparse.Namespace) -> tuple[Volume, Mapping[int, str]]:
    head = load_head(arguments.head)
    backbone = load_backbone(arguments.weights or _weights_of(head, Path(arguments.head)))
    volume = load_volume(arguments.scan, series=arguments.series)
    return segment(volume, backbone, head, device=arguments.device, precision=arguments.precision), head.label_names


def _by_examples(arguments: argparse.Namespace) -> tuple[Volume, Mapping[int, str]]:
    backbone = backbone_of(arguments.weights)
    volume = load_volume(arguments.scan, series=arguments.series)
    examples = own_data(arguments.examples).with_labels_only()
    if not examples.ids:
        raise ValueError(f"{arguments.examples} must hold scans with labels, SCAN_labels.nii.gz beside SCAN.nii.gz")
    truths = {id: _labels(examples, id) for id in examples.ids}
    names = read_names(arguments.names) if arguments.names else (examples.label_names or _all_labels(truths.values()))
    embedder = Embedder(backbone, device=arguments.device, precision=arguments.precision)
    parts = []
    for i, (id, truth) in enumerate(truths.items()):
        embedding = embedder(examples.load(id))
        labels = truth.onto(embedding.grid, order=0, fill=0).image
        parts.append(LabelledVoxels.of(embedding, labels, names, seed=i))
    print(f"{len(parts)} labelled scans: {', '.join(truths)}")
    embedding = embedder(volume)
    found = labels_by_neighbours(Index.of(embedding), LabelledVoxels.joined(parts))
    return Volume(found, embedding.affine).onto(volume, order=0, fill=0), names


def _labels(examples: ListedSource, id: str) -> Volume:
    truth = examples.labels(id)
    if truth is None:
        raise ValueError(f"{id} has no labels")
    return truth


def _all_labels(truths: Iterable[Volume]) -> dict[int, str]:
    numbers = {int(n) for truth in truths for n in np.unique(truth.image)} - {0}
    return {number: f"label {number}" for number in sorted(numbers)}


def _weights_of(head: SegmentationHead, path: Path) -> str:
    beside = path.parent / "backbone.safetensors"
    if beside.is_file():
        return str(beside)
    return "small" if head.fingerprint == fingerprint(vox2vec_small()) else "contrastive"
