"""The probabilities of a whole scan in one array, for small scans."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from vox2vec.inference.segmentation import probability_slabs
from vox2vec.nn.fpn import FPN3d


def class_probabilities(
    image_hu: np.ndarray, body: np.ndarray, backbone: FPN3d, heads: Sequence[nn.Module]
) -> list[np.ndarray]:
    """All slabs of `probability_slabs`: an array (classes, x, y, z) a head."""
    whole: list[np.ndarray] = []
    for place, parts in probability_slabs(image_hu, body, backbone, heads):
        whole = whole or [np.zeros((len(part), *image_hu.shape), np.float32) for part in parts]
        for classes, part in zip(whole, parts, strict=True):
            classes[..., place] = part
    return whole
