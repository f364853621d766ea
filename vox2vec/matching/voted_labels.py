"""Labels between voxels: the one of highest linear weight."""

from itertools import product

import numpy as np
from jaxtyping import Float64, Shaped


def voted_labels(image: Shaped[np.ndarray, "x y z"], voxels: Float64[np.ndarray, "v 3"]) -> Shaped[np.ndarray, " v"]:
    """Of each fractional voxel the label that the eight voxels around it hold with the largest sum of linear weights.

    Beyond the border the border's labels stand.
    """
    last = np.array(image.shape) - 1
    places = voxels.clip(0, last)
    below = np.floor(places).astype(np.int64)
    beyond = places - below
    corners = [np.array(corner) for corner in product((0, 1), repeat=3)]
    held = np.stack([image[tuple(np.minimum(below + corner, last).T)] for corner in corners])
    best = held[0].copy()
    (mixed,) = np.nonzero((held != held[0]).any(axis=0))
    held, beyond = held[:, mixed], beyond[mixed]
    weights = np.stack([np.where(corner, beyond, 1 - beyond).prod(axis=1) for corner in corners])
    sums = np.stack([(weights * (held == one)).sum(axis=0) for one in held])
    best[mixed] = np.take_along_axis(held, sums.argmax(axis=0)[None], axis=0)[0]
    return best
