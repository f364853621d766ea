"""HU to the network's [0, 1]."""

import numpy as np
from jaxtyping import Float32, Shaped


def scale_hu(image_hu: Shaped[np.ndarray, "x y z"], window_hu: tuple[float, float]) -> Float32[np.ndarray, "x y z"]:
    """`(hu - low) / (high - low)`, clipped to [0, 1]."""
    low, high = window_hu
    scaled = np.clip(image_hu, low, high, dtype=np.float32)
    scaled -= np.float32(low)
    scaled /= np.float32(high - low)
    return scaled
