"""Where a displacement on a lattice turns space inside out, and the nearest smooth one that does not."""

from itertools import product

import numpy as np
from jaxtyping import Float
from scipy.ndimage import binary_dilation, uniform_filter

LEAST = 0.05
"""A volume is shrunk to no less than this share of itself."""

_ROUNDS = 50


def corner_jacobians(
    vectors_mm: Float[np.ndarray, "x y z 3"], spacing_mm: tuple[float, float, float]
) -> Float[np.ndarray, "8 a b c"]:
    """Determinants of `point + displacement` at the eight corners of each cell of a lattice, by the cell's own edges.

    They are those of the trilinear map inside the cell, as it nears its corners. Axes are along right, anterior,
    superior. Central differences at the nodes see less: a node may pass its neighbour unseen.
    """
    edges = [np.diff(vectors_mm, axis=axis) / spacing_mm[axis] for axis in range(3)]
    found = []
    for corner in product((0, 1), repeat=3):
        columns = []
        for axis in range(3):
            part = tuple(slice(None) if a == axis else slice(c, c - 1 or None) for a, c in enumerate(corner))
            columns.append(edges[axis][part] + np.eye(3)[axis])
        found.append(np.linalg.det(np.stack(columns, axis=-1)))
    return np.stack(found)


def folding(vectors_mm: Float[np.ndarray, "x y z 3"], spacing_mm: tuple[float, float, float]) -> float:
    """The share of cells with a corner whose determinant is not positive."""
    return float((corner_jacobians(vectors_mm, spacing_mm) <= 0).any(axis=0).mean())


def unfolded(
    vectors_mm: Float[np.ndarray, "x y z 3"], spacing_mm: tuple[float, float, float]
) -> Float[np.ndarray, "x y z 3"]:
    """The displacement smoothed where a determinant is below `LEAST`, until none is; unchanged where none is.

    Each round takes the mean of 3 x 3 x 3 nodes around bad cells, then also farther around. What that leaves after
    50 rounds is drawn towards the mean displacement as a whole, which ends at a shift.
    """
    vectors, bad = vectors_mm, _bad_nodes(vectors_mm, spacing_mm)
    for reach in range(1, _ROUNDS + 1):
        if not bad.any():
            return vectors
        around = binary_dilation(bad, iterations=1 + reach // 4)
        vectors = np.where(around[..., None], uniform_filter(vectors, (3, 3, 3, 1), mode="nearest"), vectors)
        bad = _bad_nodes(vectors, spacing_mm)
    while _bad_nodes(vectors, spacing_mm).any():
        vectors = (vectors + vectors.mean(axis=(0, 1, 2))) / 2
    return vectors


def _bad_nodes(vectors_mm: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    cells = (corner_jacobians(vectors_mm, spacing_mm) < LEAST).any(axis=0)
    nodes = np.zeros(vectors_mm.shape[:3], bool)
    for x, y, z in product((0, 1), repeat=3):
        nodes[x : x + cells.shape[0], y : y + cells.shape[1], z : z + cells.shape[2]] |= cells
    return nodes
