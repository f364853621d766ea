"""Structures of a scan from one or a few labelled scans, without training: files in, labels on the scan's grid out."""

import logging
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer, Shaped

from vox2vec.inference.embed import Embedder
from vox2vec.inference.runner import Precision
from vox2vec.matching.atlas import Atlas, labels_by_atlases
from vox2vec.matching.field import NoField
from vox2vec.matching.index import Index
from vox2vec.matching.neighbours import LabelledVoxels, labels_by_neighbours
from vox2vec.nn.fpn import FPN3d
from vox2vec.reading.labels import read_labels
from vox2vec.reading.load import load_volume
from vox2vec.volume import Volume

_logger = logging.getLogger(__name__)


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
    """The structures of labelled scans, carried to another by a field between the two; see `labels_by_examples`.

    The features of all examples are held at once.

    Args:
        scan: in HU, any orientation, or the path of one.
        examples: pairs of a scan and its labels, whole numbers on any grid in the same world. They are taken one by
            one where `names` are given; without, their labels are looked through first.
        names: number to structure, all labels of the examples by default; numbers without a name are body.
        device, precision, progress: as of `embed`.
        options: of `carried_votes`.

    Returns:
        uint8, or int16 where numbers exceed 255, on the scan's own grid; 0 is none of the structures.

    Raises:
        ValueError: no examples, or none of the structures in them.
    """
    if names is None:
        read = [(example, _labels(labels)) for example, labels in examples]
        names, examples = names_in(labels for _, labels in read), read
    embedder = Embedder(backbone, device=device, precision=precision, progress=progress)
    volume = scan if isinstance(scan, Volume) else load_volume(scan)
    embedding = embedder(volume)

    def known() -> Iterable[tuple[Index, Integer[np.ndarray, "x y z"]]]:
        for example, labels in examples:
            index = Index.of(embedder(example), average=True)
            yield index, _labels(labels).onto(index.embedding.grid, order=0, fill=0).image

    found = labels_by_examples(Index.of(embedding, average=True), known(), names, **options)
    return Volume(found, embedding.affine).onto(volume, order=0, fill=0)


def labels_by_examples(
    scan: Index,
    examples: Iterable[tuple[Index, Shaped[np.ndarray, "_ _ _"]]],
    names: Mapping[int, str],
    **options: float,
) -> Integer[np.ndarray, "_ _ _"]:
    """The number of the likeliest structure on the prepared grid, 0 for none.

    Each example that a field leads to is asked around the place where the field puts a voxel (`carried_votes`). Where
    no example has a field, because the scans have too little in common, each voxel asks the labelled voxels most like
    it, wherever they are (`vote_slabs`). The log says so.

    Args:
        examples: pairs of a labelled scan and its labels on its prepared grid.
        names: number to structure; other numbers are none of the structures.
        options: of `carried_votes`.

    Raises:
        ValueError: no examples, or none of the structures in them.
    """
    atlases, without = [], []
    for number, (index, labels) in enumerate(examples):
        try:
            atlases.append(Atlas.of(scan, index, labels, names))
        except NoField as error:
            _logger.warning("labelled scan %d is passed over: %s", number + 1, error)
            without.append(LabelledVoxels.of(index.embedding, labels, names, seed=number))
    if atlases or not without:
        return labels_by_atlases(scan, atlases, **options)
    _logger.warning("no labelled scan is left: each voxel asks the labelled voxels most like it, wherever they are")
    return labels_by_neighbours(scan, LabelledVoxels.joined(without))


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
