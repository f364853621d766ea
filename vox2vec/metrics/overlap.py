"""How much of a structure was found, and how much of what was found is the structure."""

import numpy as np
from jaxtyping import Bool

Mask = Bool[np.ndarray, "x y z"]


def dice(found: Mask, true: Mask) -> float:
    """`2 |A and B| / (|A| + |B|)`, in [0, 1]; NaN where the structure is absent from the truth, whatever was found.

    A mean leaves such structures out and says how many.
    """
    check_grid(found, true)
    if not true.any():
        return float("nan")
    return float(2 * np.count_nonzero(found & true) / (np.count_nonzero(found) + np.count_nonzero(true)))


def check_grid(found: Mask, true: Mask) -> None:
    """A ValueError where two masks do not lie on one grid."""
    if found.shape != true.shape:
        raise ValueError(f"masks must lie on one grid, got {found.shape} and {true.shape}; bring one onto the other's")
