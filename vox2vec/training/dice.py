"""How well heads find the structures of whole cached CTs, while they learn."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import nn

from vox2vec.data.cache import Cache
from vox2vec.data.entry import Entry
from vox2vec.geometry import Box
from vox2vec.inference.segmentation import THRESHOLD, class_probabilities
from vox2vec.metrics.overlap import dice
from vox2vec.nn.fpn import FPN3d


def dice_tables(
    cache: Cache, entries: Sequence[Entry], backbone: FPN3d, heads: nn.ModuleDict, numbers: Sequence[int]
) -> dict[str, Float[np.ndarray, "s c"]]:
    """For each head the Dice of each class in each CT, at 0.5 inside the body; NaN where the class is absent."""
    tables: dict[str, list[list[float]]] = {name: [] for name in heads}
    for entry in entries:
        scan = cache.open(entry)
        whole = Box((0, 0, 0), scan.shape)
        image, body, labels = scan.image_hu(whole), scan.body(whole), scan.labels(whole)
        found = class_probabilities(image, body, backbone, list(heads.values()))
        for table, classes in zip(tables.values(), found, strict=True):
            table.append(
                [dice(mask, labels == number) for mask, number in zip(classes >= THRESHOLD, numbers, strict=True)]
            )
    return {name: np.array(table) for name, table in tables.items()}
