"""How well heads find the structures of one labelled CT: on the prepared grid, as published, and on the CT's own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer
from torch import nn

from vox2vec.data.cache import Cache
from vox2vec.data.entry import Entry
from vox2vec.geometry import Box
from vox2vec.inference.segmentation import label_dtype, labels_of, probability_slabs
from vox2vec.metrics.overlap import dice
from vox2vec.metrics.surface import hausdorff_mm, surface_dice
from vox2vec.nn.fpn import FPN3d
from vox2vec.training.dice import found_and_true
from vox2vec.volume import Volume

METRICS = ("dice", "dice_original", "surface_dice_2mm", "hausdorff95_mm")

Scores = dict[str, float | int | None]  # metric to value; None where there is nothing to measure


def scores_of(
    cache: Cache,
    entry: Entry,
    truth: Volume,
    backbone: FPN3d,
    heads: Mapping[str, nn.Module],
    numbers: Sequence[int],
) -> tuple[dict[str, dict[int, Scores]], dict[str, Volume]]:
    """For each head the scores of each structure, and the labels that it found, on the CT's own grid.

    "dice" is the official protocol's: each class by itself at 0.5, inside the body, on the prepared grid. The others
    are of the labels that a user gets, on the grid of `truth`: Dice, surface Dice at 2 mm, 95 % Hausdorff distance.
    "voxels_true" and "voxels_found" count on that grid: a structure without true voxels is absent and has no score, one
    without found voxels was missed and has no distance.

    Args:
        entry: of a CT that is cached with its labels.
        truth: the labels as they came, on the CT's own grid.
        numbers: the label of each class.
    """
    scan = cache.open(entry)
    whole = Box((0, 0, 0), scan.shape)
    official = scan.labels(whole)
    found = {name: np.zeros(scan.shape, label_dtype(numbers)) for name in heads}
    counts = {name: np.zeros((len(numbers), 2), np.int64) for name in heads}  # found, found and true
    slabs = probability_slabs(scan.image_hu(whole), scan.body(whole), backbone, list(heads.values()))
    for place, parts in slabs:
        for name, classes in zip(heads, parts, strict=True):
            found[name][..., place] = labels_of(classes, numbers)
            counts[name] += found_and_true(classes, official[..., place], numbers)
    scores, labels = {}, {}
    for name in heads:
        labels[name] = Volume(found[name], np.array(entry.affine)).onto(truth, order=0, fill=0)
        scores[name] = _scores(labels[name], truth, official, counts[name], numbers)
    return scores, labels


def scores_of_labels(
    found: Integer[np.ndarray, "x y z"], cache: Cache, entry: Entry, truth: Volume, numbers: Sequence[int]
) -> tuple[dict[int, Scores], Volume]:
    """The same for labels on the prepared grid, however they were found; "dice" is of the labels there."""
    scan = cache.open(entry)
    official = scan.labels(Box((0, 0, 0), scan.shape))
    masks = [found == number for number in numbers]
    both = [mask & (official == number) for mask, number in zip(masks, numbers, strict=True)]
    counts = np.array([[np.count_nonzero(m) for m in pair] for pair in zip(masks, both, strict=True)])
    labels = Volume(found, np.array(entry.affine)).onto(truth, order=0, fill=0)
    return _scores(labels, truth, official, counts, numbers), labels


def _scores(
    labels: Volume, truth: Volume, official: np.ndarray, counts: np.ndarray, numbers: Sequence[int]
) -> dict[int, Scores]:
    """`counts` (classes, 2): voxels found, found and true, on the prepared grid."""
    sizes = [int(np.count_nonzero(official == number)) for number in numbers]
    return {
        number: {
            "dice": 2 * int(both) / (int(marked) + size) if size else None,
            **_on_own_grid(labels.image == number, truth.image == number, truth.spacing_mm),
        }
        for number, size, (marked, both) in zip(numbers, sizes, counts, strict=True)
    }


def _on_own_grid(found: np.ndarray, true: np.ndarray, spacing_mm: tuple[float, float, float]) -> Scores:
    counts: dict[str, Any] = {
        "voxels_true": int(np.count_nonzero(true)),
        "voxels_found": int(np.count_nonzero(found)),
    }
    values = {
        "dice_original": dice(found, true),
        "surface_dice_2mm": surface_dice(found, true, spacing_mm=spacing_mm, tolerance_mm=2.0),
        "hausdorff95_mm": hausdorff_mm(found, true, spacing_mm=spacing_mm),
    }
    return {**{name: value if np.isfinite(value) else None for name, value in values.items()}, **counts}
