"""HU to the network's [0, 1]."""

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor


def scale_hu(image_hu: Shaped[np.ndarray, "x y z"], window_hu: tuple[float, float]) -> Float32[np.ndarray, "x y z"]:
    """`(hu - low) / (high - low)`, clipped to [0, 1]."""
    low, high = window_hu
    scaled = np.clip(image_hu, low, high, dtype=np.float32)
    scaled -= np.float32(low)
    scaled /= np.float32(high - low)
    return scaled


def scaled_hu(patches_hu: Shaped[Tensor, "*shape"], window_hu: tuple[float, float]) -> Float32[Tensor, "*shape"]:
    """`scale_hu` of patches where they are: the same numbers, and nothing leaves the device."""
    low, high = window_hu
    scaled = patches_hu.to(torch.float32).clamp(low, high).sub_(low)
    return scaled.div_(scaled.new_full((), high - low))  # by a tensor: by a number, CUDA multiplies with its inverse
