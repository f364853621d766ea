"""Class probabilities of a whole prepared scan, from overlapping windows."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Shaped

from vox2vec.inference.windows import Windows, upsampled
from vox2vec.nn.fpn import FPN3d
from vox2vec.preprocessing.intensity import scale_hu


def class_probabilities(
    image_hu: Shaped[np.ndarray, "x y z"],
    body: Bool[np.ndarray, "x y z"],
    backbone: FPN3d,
    head: Any,
    *,
    overlap: float = 0.5,
) -> Float32[np.ndarray, "c x y z"]:
    """The head's sigmoid probabilities, averaged over the windows that hold a voxel by a smooth weight; 0 off the body.

    Runs on the head's device, in the modes the networks are in. Memory: two arrays of the result's size at most.

    Args:
        image_hu: a scan on the grid of `backbone.recipe`, such as a cached one.
        head: takes a pyramid (n, c, x, y, z), gives logits (n, classes, x, y, z).
    """
    windows = Windows.over(_triple(image_hu.shape), backbone.recipe.patch_size, overlap=overlap)
    beyond = [max(s[-1] + n - m, 0) for s, n, m in zip(windows.starts, windows.size, image_hu.shape, strict=True)]
    padded = np.pad(scale_hu(image_hu, backbone.recipe.window_hu), [(0, b) for b in beyond], mode="edge")
    weight = upsampled(windows.weight(), windows.block)[tuple(slice(n) for n in windows.size)].astype(np.float32)
    device = next(head.parameters()).device
    total = np.zeros(padded.shape, np.float32)
    blended: np.ndarray | None = None
    for start in windows.holding(body):
        place = tuple(slice(s, s + n) for s, n in zip(start, windows.size, strict=True))
        with torch.inference_mode():
            logits = head(backbone(torch.from_numpy(padded[place])[None, None].to(device)))
        probabilities = logits[0].float().sigmoid().cpu().numpy()
        if blended is None:
            blended = np.zeros((len(probabilities), *padded.shape), np.float32)
        blended[(slice(None), *place)] += weight * probabilities
        total[place] += weight
    if blended is None:
        raise ValueError("a scan must hold a body to be segmented, its mask is empty")
    x, y, z = image_hu.shape
    blended, total = blended[:, :x, :y, :z], total[:x, :y, :z]
    blended /= np.maximum(total, np.finfo(np.float32).tiny)
    blended *= body
    return blended


def _triple(shape: tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = shape
    return (x, y, z)
