"""Class probabilities of a whole prepared scan, from overlapping windows."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Shaped
from torch import nn

from vox2vec.inference.windows import Windows, upsampled
from vox2vec.nn.fpn import FPN3d
from vox2vec.preprocessing.intensity import scale_hu


def class_probabilities(
    image_hu: Shaped[np.ndarray, "x y z"],
    body: Bool[np.ndarray, "x y z"],
    backbone: FPN3d,
    heads: Sequence[nn.Module],
    *,
    overlap: float = 0.5,
) -> list[Float32[np.ndarray, "_ x y z"]]:
    """Each head's sigmoid probabilities, averaged by a smooth weight over the windows of a voxel; 0 off the body.

    The backbone runs once for all heads, on its own device, in the modes the networks are in. Memory: the results, and
    one window's.

    Args:
        image_hu: a scan on the grid of `backbone.recipe`, such as a cached one.
        heads: each takes a pyramid (n, c, x, y, z) and gives logits (n, classes, x, y, z).

    Raises:
        ValueError: there is no body.
    """
    if not body.any():
        raise ValueError("a scan must hold a body to be segmented, its mask is empty")
    x, y, z = image_hu.shape
    windows = Windows.over((x, y, z), backbone.recipe.patch_size, overlap=overlap)
    padded = windows.padded(scale_hu(image_hu, backbone.recipe.window_hu))
    weight = upsampled(windows.weight(), windows.block)[tuple(slice(n) for n in windows.size)].astype(np.float32)
    device = next(backbone.parameters()).device
    total = np.zeros(padded.shape, np.float32)
    blended: list[np.ndarray] = []
    for start in windows.holding(body):
        place = tuple(slice(s, s + n) for s, n in zip(start, windows.size, strict=True))
        with torch.inference_mode():
            pyramid = backbone(torch.from_numpy(padded[place])[None, None].to(device))
            found = [head(pyramid)[0].float().sigmoid().cpu().numpy() for head in heads]
        blended = blended or [np.zeros((len(classes), *padded.shape), np.float32) for classes in found]
        for sums, classes in zip(blended, found, strict=True):
            sums[(slice(None), *place)] += weight * classes
        total[place] += weight
    share = np.where(body, 1 / np.maximum(total[:x, :y, :z], np.finfo(np.float32).tiny), 0).astype(np.float32)
    return [np.multiply(sums[:, :x, :y, :z], share, out=sums[:, :x, :y, :z]) for sums in blended]
