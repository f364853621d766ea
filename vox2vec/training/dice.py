"""The official Dice of whole CTs, slab by slab: never all classes of all voxels at once."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int64, Integer
from torch import nn

from vox2vec.data.cache import Cache
from vox2vec.data.entry import Entry
from vox2vec.geometry import Box
from vox2vec.inference.segmentation import THRESHOLD, probability_slabs
from vox2vec.nn.fpn import FPN3d


def dice_tables(
    cache: Cache, entries: Sequence[Entry], backbone: FPN3d, heads: nn.ModuleDict, numbers: Sequence[int]
) -> dict[str, Float[np.ndarray, "s c"]]:
    """For each head the Dice of each class in each CT, at 0.5 inside the body; NaN where the class is absent.

    Memory: the classes on as many slices as a window has.
    """
    tables: dict[str, list[list[float]]] = {name: [] for name in heads}
    for entry in entries:
        scan = cache.open(entry)
        whole = Box((0, 0, 0), scan.shape)
        labels = scan.labels(whole)
        sizes = [int(np.count_nonzero(labels == number)) for number in numbers]
        counts = {name: np.zeros((len(numbers), 2), np.int64) for name in heads}
        slabs = probability_slabs(scan.image_hu(whole), scan.body(whole), backbone, list(heads.values()))
        for place, parts in slabs:
            for name, classes in zip(heads, parts, strict=True):
                counts[name] += found_and_true(classes, labels[..., place], numbers)
        for name, table in tables.items():
            table.append(
                [
                    2 * int(both) / (int(found) + size) if size else float("nan")
                    for (found, both), size in zip(counts[name], sizes, strict=True)
                ]
            )
    return {name: np.array(table) for name, table in tables.items()}


def found_and_true(
    classes: Float32[np.ndarray, "c x y z"], labels: Integer[np.ndarray, "x y z"], numbers: Sequence[int]
) -> Int64[np.ndarray, "c 2"]:
    """For each class the voxels found, each class by itself at 0.5, and those of them that are labelled so."""
    counts = np.zeros((len(numbers), 2), np.int64)
    for i, number in enumerate(numbers):
        mask = classes[i] >= THRESHOLD
        counts[i] = np.count_nonzero(mask), np.count_nonzero(mask & (labels == number))
    return counts
