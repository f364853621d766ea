"""What a way of registration answers: where points of the fixed scan lie in the moving one; and what that is worth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

from vox2vec.preprocessing.body import body_mask
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

Places = Callable[[np.ndarray], np.ndarray]
"""Points (v, 3) of the fixed scan to points (v, 3) of the moving one, RAS+ millimetres; NaN where there is none."""

HU = (-1000.0, 1000.0)
"""What the intensities are cut to for the ways of others: metal of 20,000 HU spoils histograms and correlations."""

_POINTS = 2**20  # mapped together


class Answer(NamedTuple):
    """Of a way for one pair.

    Attributes:
        points: for some points.
        dense: makes the way to ask for millions of them; None where a way is for points only.
    """

    points: Places
    dense: Callable[[], Places] | None


@dataclass(frozen=True, eq=False)
class Displacement:
    """Where each voxel of a grid goes: linear between voxels, constant beyond the outermost.

    Attributes:
        grid: of the fixed scan; its image is not looked at.
        by_mm: (x, y, z, 3), to be added to a voxel's place, RAS+.
    """

    grid: Volume
    by_mm: np.ndarray

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        voxels = self.grid.to_voxels(points_mm).T
        by = [map_coordinates(self.by_mm[..., axis], voxels, order=1, mode="nearest") for axis in range(3)]
        return points_mm + np.stack(by, axis=-1)

    @property
    def answer(self) -> Answer:
        """For any number of points."""
        return Answer(self, lambda: self)


def on_cubes(volume: Volume, spacing_mm: float) -> Volume:
    """As the ways of others see a scan: RAS+, cropped to the body's box, cubes of `spacing_mm`, HU cut to `HU`."""
    scan = prepare_hu(volume, Recipe(spacing_mm=(spacing_mm,) * 3))
    return Volume(scan.image.clip(*HU).astype(np.float32), scan.affine)


def places_of(grid: Volume) -> np.ndarray:
    """Of all its voxels, (x, y, z, 3) millimetres."""
    return grid.to_mm(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1))


def folding(places: Places, fixed: Volume) -> float:
    """The share of the body of a scan on cubes at which the map turns space inside out: Jacobian determinant <= 0.

    By differences to the next voxel along each axis. The body is all but the air around the patient.
    """
    there = places(places_of(fixed).reshape(-1, 3)).reshape(*fixed.shape, 3)
    corner = there[:-1, :-1, :-1]
    steps = [there[1:, :-1, :-1] - corner, there[:-1, 1:, :-1] - corner, there[:-1, :-1, 1:] - corner]
    determinant = np.linalg.det(np.stack(steps, axis=-1))
    return float((determinant <= 0)[body_mask(fixed.image)[:-1, :-1, :-1]].mean())


def carried(places: Places, labels: Volume, fixed: Volume) -> np.ndarray:
    """Labels of the moving scan on the grid of the fixed one, each voxel's by the nearest; 0 beyond the moving scan."""
    found = np.zeros(fixed.shape, labels.image.dtype)
    slices = max(1, _POINTS // (fixed.shape[1] * fixed.shape[2]))
    for start in range(0, fixed.shape[0], slices):
        some = found[start : start + slices]
        voxels = np.stack(np.meshgrid(*map(np.arange, some.shape), indexing="ij"), axis=-1).reshape(-1, 3)
        there = places(fixed.to_mm(voxels + np.array([start, 0, 0])))
        nearest = np.floor(labels.to_voxels(np.nan_to_num(there, nan=1e6)) + 0.5).astype(int)  # no place: beyond it
        inside = ((nearest >= 0) & (nearest < labels.shape)).all(axis=1)
        some.reshape(-1)[inside] = labels.image[tuple(nearest[inside].T)]
    return found
