"""`vox2vec segment SCAN --head FILE | --examples DIR -o labels.nii.gz`: the structures of a scan, on its own grid."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vox2vec.cli.arguments import (
    LABELS,
    add_device,
    add_output,
    add_scan,
    add_weights,
    backbone_of,
    checked_output,
)
from vox2vec.data.sources.labelled import labelled_data
from vox2vec.inference.segmentation import segment
from vox2vec.matching.examples import names_in, segment_by_examples
from vox2vec.nn.head_file import load_head, weights_beside
from vox2vec.nn.pretrained import load_backbone
from vox2vec.reading.load import load_volume
from vox2vec.volume import Volume


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec segment`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "segment",
        description="Find the structures that a head was trained on, or those of one or a few labelled scans without "
        "training, and write them as labels on the scan's own grid.",
    )
    add_scan(parser)
    known = parser.add_mutually_exclusive_group(required=True)
    known.add_argument("--head", metavar="HEAD", help="of eval.py, such as fold_0/linear.safetensors, or owner/name")
    known.add_argument(
        "--examples",
        metavar="DIR",
        type=Path,
        help="labelled scans, SCAN_labels.nii.gz beside SCAN.nii.gz: their structures are carried along",
    )
    parser.add_argument(
        "--names", metavar="JSON", type=Path, help='structures of the examples, {"1": "liver"} (default: all labels)'
    )
    add_output(parser, metavar="NIFTI", help="such as labels.nii.gz")
    add_weights(
        parser,
        help="contrastive, vicreg, small, a file, a Hub repository: what the head was trained on (default: "
        "backbone.safetensors beside the head, else the one it knows; with --examples as of embed)",
    )
    add_device(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Segment, write, and say what was found."""
    read = [arguments.scan, arguments.head, arguments.examples, arguments.names, arguments.weights]
    checked_output(arguments.output, suffixes=LABELS, inputs=read)
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
    backbone = load_backbone(arguments.weights or weights_beside(head, arguments.head))
    volume = load_volume(arguments.scan, series=arguments.series)
    return segment(volume, backbone, head, device=arguments.device, precision=arguments.precision), head.label_names


def _by_examples(arguments: argparse.Namespace) -> tuple[Volume, Mapping[int, str]]:
    backbone = backbone_of(arguments.weights)
    volume = load_volume(arguments.scan, series=arguments.series)
    source = labelled_data(arguments.examples, names=arguments.names)
    truths = {id: truth for id in source.ids if (truth := source.labels(id)) is not None}
    names = source.label_names or names_in(truths.values())
    print(f"{len(truths)} labelled scans: {', '.join(truths)}")
    examples = ((source.load(id), truth) for id, truth in truths.items())
    labels = segment_by_examples(
        volume, examples, backbone, names=names, device=arguments.device, precision=arguments.precision
    )
    return labels, names
