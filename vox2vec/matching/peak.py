"""The top of a peak that is known at voxels only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float64


def below_the_voxel(similar: Float[np.ndarray, "x y z"], best: Sequence[Any]) -> Float64[np.ndarray, "3"]:
    """Along each axis the top of a parabola through the best voxel and its two neighbours; 0 where one is missing."""
    offset = np.zeros(3)
    for axis in range(3):
        line = np.pad(np.moveaxis(similar, axis, 0)[(slice(None), *np.delete(best, axis))], 1, constant_values=-np.inf)
        below, middle, above = line[int(best[axis]) : int(best[axis]) + 3]
        curvature = below - 2 * middle + above
        if np.isfinite(curvature) and curvature < 0:
            offset[axis] = (below - above) / (2 * curvature)
    return offset.clip(-0.49, 0.49)  # half way, the point would lie in the next voxel, which may have no vector
