"""Embeddings whose vectors tell the place, so that the most similar voxel is where a map puts it."""

from collections.abc import Callable

import numpy as np
import torch

from vox2vec.inference.embedding import Embedding, packed
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

SPACING_MM = 3.0


def told_places(
    shape: tuple[int, int, int],
    origin_mm: tuple[float, float, float],
    original_mm: Callable[[np.ndarray], np.ndarray] = lambda points: points,
) -> Embedding:
    """Voxels of 3 mm; the vector of each turns with where `original_mm` says it was, a degree a millimetre."""
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = origin_mm
    grid = Volume(np.zeros(shape), affine)
    places = original_mm(grid.to_mm(np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3)))
    angles = np.deg2rad(places.T.reshape(3, *shape))
    level = torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)])).float()
    everywhere = np.ones(shape, bool)
    return Embedding(
        (level,), ((1, 1, 1),), shape, affine, torch.from_numpy(everywhere), (1, 1, 1),
        packed(everywhere), Recipe(spacing_mm=(SPACING_MM,) * 3), "made",
    )  # fmt: skip


def turned(points: np.ndarray) -> np.ndarray:
    """By 12 degrees around z, scaled by 1.06, shifted."""
    c, s = np.cos(np.deg2rad(12)), np.sin(np.deg2rad(12))
    return points @ (1.06 * np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])).T + [5.0, -8, 11]


def turned_back(points: np.ndarray) -> np.ndarray:
    """The inverse of `turned`."""
    c, s = np.cos(np.deg2rad(12)), np.sin(np.deg2rad(12))
    return (points - [5.0, -8, 11]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) / 1.06
