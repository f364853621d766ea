"""Structures of a scan from one or a few labelled scans, without training: files in, labels on the scan's grid out."""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from vox2vec.inference.embed import Embedder
from vox2vec.inference.runner import Precision
from vox2vec.matching.index import Index
from vox2vec.matching.neighbours import LabelledVoxels, labels_by_neighbours
from vox2vec.nn.fpn import FPN3d
from vox2vec.reading.labels import read_labels
from vox2vec.reading.load import load_volume
from vox2vec.volume import Volume


def segment_by_examples(
    scan: Volume | str | PathLike[str],
    examples: Iterable[tuple[Volume | str | PathLike[str], Volume | str | PathLike[str]]],
    backbone: FPN3d,
    *,
    names: Mapping[int, str] | None = None,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    progress: bool = True,
    **options: float,
) -> Volume:
    """The structures of labelled scans, found in another: each voxel of the body asks the labelled voxels most like it.

    Args:
        scan: in HU, any orientation, or the path of one.
        examples: pairs of a scan and its labels, whole numbers on any grid in the same world. They are taken one by
            one where `names` are given; without, their labels are looked through first.
        names: number to structure, all labels of the examples by default; numbers without a name are body.
        device, precision, progress: as of `embed`.
        options: of `vote_slabs`.

    Returns:
        uint8, or int16 where numbers exceed 255, on the scan's own grid; 0 is none of the structures.

    Raises:
        ValueError: no examples, or none of the structures in them.
    """
    if names is None:
        read = [(example, _labels(labels)) for example, labels in examples]
        names, examples = names_in(labels for _, labels in read), read
    embedder = Embedder(backbone, device=device, precision=precision, progress=progress)
    parts = []
    for number, (example, labels) in enumerate(examples):
        embedding = embedder(example)
        truth = _labels(labels).onto(embedding.grid, order=0, fill=0).image
        parts.append(LabelledVoxels.of(embedding, truth, names, seed=number))
    known = LabelledVoxels.joined(parts)
    volume = scan if isinstance(scan, Volume) else load_volume(scan)
    embedding = embedder(volume)
    found = labels_by_neighbours(Index.of(embedding), known, **options)
    return Volume(found, embedding.affine).onto(volume, order=0, fill=0)


def names_in(labels: Iterable[Volume]) -> dict[int, str]:
    """A name, such as "label 3", for every number above 0 that stands in labels.

    Raises:
        ValueError: there is none.
    """
    numbers = sorted({int(number) for one in labels for number in np.unique(one.image) if number > 0})
    if not numbers:
        raise ValueError("at least one labelled scan is needed whose labels are not all 0")
    return {number: f"label {number}" for number in numbers}


def _labels(labels: Volume | str | PathLike[str]) -> Volume:
    return labels if isinstance(labels, Volume) else read_labels(Path(labels))
