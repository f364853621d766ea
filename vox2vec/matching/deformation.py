"""A scan, and the same patient bent by a known amount: where every point went is exact, no landmark is needed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.ndimage import map_coordinates

from vox2vec.geometry import transformed
from vox2vec.reading.values import AIR_HU
from vox2vec.recipe import PAPER
from vox2vec.volume import Volume


@dataclass(frozen=True, eq=False)
class Deformation:
    """A smooth map of the world: rotation and scale around a centre, then cubic B-splines.

    Attributes:
        centre_mm: (3,), does not move under rotation and scale.
        matrix: rotation times scale.
        lattice: voxel indices of the control points to RAS+ millimetres.
        displacement_mm: spline coefficients.
    """

    centre_mm: Float[np.ndarray, "3"]
    matrix: Float[np.ndarray, "3 3"]
    lattice: Float[np.ndarray, "4 4"]
    displacement_mm: Float[np.ndarray, "3 x y z"]

    def source_mm(self, points_mm: Any) -> Float[np.ndarray, "*v 3"]:
        """Where points (..., 3) of the bent scan lie in the scan it was made of, both in RAS+ millimetres."""
        points = np.asarray(points_mm, dtype=np.float64)
        places = transformed(np.linalg.inv(self.lattice), points).reshape(-1, 3).T
        bent = [map_coordinates(c, places, order=3, mode="nearest", prefilter=False) for c in self.displacement_mm]
        turned = (points - self.centre_mm) @ self.matrix.T + self.centre_mm
        return turned + np.stack(bent, axis=-1).reshape(points.shape)

    def bent(self, volume: Volume, *, fill: float = AIR_HU) -> Volume:
        """The volume seen through the map, on its own grid, linearly interpolated; `fill` from beyond it."""
        image = np.empty(volume.shape, np.float32)
        for i in range(volume.shape[0]):  # slab by slab: the coordinates of a whole volume are large
            index = np.stack(np.meshgrid([i], *map(np.arange, volume.shape[1:]), indexing="ij"), axis=-1)[0]
            places = np.moveaxis(volume.to_voxels(self.source_mm(volume.to_mm(index))), -1, 0)
            image[i] = map_coordinates(volume.image, places, np.float32, order=1, cval=fill)
        return Volume(image, volume.affine)


@dataclass(frozen=True, eq=False)
class BentPair:
    """A scan, and a copy of it that was bent by `deformation` and has other HU."""

    scan: Volume
    copy: Volume
    deformation: Deformation


def bent_pair(scan: Volume, seed: int) -> BentPair:
    """The scan with a random copy (`draw_deformation`, `other_scanner`)."""
    deformation = draw_deformation(scan, seed)
    return BentPair(scan, other_scanner(deformation.bent(scan), seed), deformation)


def draw_deformation(
    volume: Volume,
    seed: int,
    *,
    rotation_deg: float = 10.0,
    scale: tuple[float, float] = (0.9, 1.1),
    elastic_mm: float = 8.0,
    spacing_mm: float = 64.0,
) -> Deformation:
    """A random map of the size of a volume.

    Args:
        rotation_deg: at most this far around each axis of the patient.
        scale: uniform.
        elastic_mm: standard deviation of the control points along each axis; with `spacing_mm` at least six times as
            large the map does not fold.
        spacing_mm: between control points.
    """
    if spacing_mm < 6 * elastic_mm:
        raise ValueError(f"spacing_mm must be at least 6 times elastic_mm, got {spacing_mm} and {elastic_mm}")
    rng = np.random.default_rng([seed, 6371])
    corners = volume.to_mm(np.array(np.meshgrid(*[(0, n - 1) for n in volume.shape])).reshape(3, -1).T)
    low, high = corners.min(axis=0), corners.max(axis=0)
    matrix = np.eye(3) * rng.uniform(*scale)
    for axis, angle in enumerate(np.deg2rad(rng.uniform(-rotation_deg, rotation_deg, 3))):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[two, one] = np.sin(angle)
        turn[one, two] = -turn[two, one]
        matrix = matrix @ turn
    points = tuple(np.ceil((high - low) / spacing_mm).astype(int) + 3)  # one beyond each end
    lattice = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    lattice[:3, 3] = low - spacing_mm
    coefficients = rng.normal(0, elastic_mm, (3, *points)).clip(-2 * elastic_mm, 2 * elastic_mm)
    return Deformation((low + high) / 2, matrix, lattice, coefficients)


def other_scanner(volume: Volume, seed: int, *, noise_hu: float = 20.0) -> Volume:
    """The same scan with other HU: everything denser than lung scaled by up to 10 %, shifted by up to 20 HU, noise."""
    rng = np.random.default_rng([seed, 8128])
    image = np.asarray(volume.image, np.float32)
    changed = np.where(image >= PAPER.body_hu, image * rng.uniform(0.9, 1.1) + rng.uniform(-20, 20), image)
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(noise_hu)
    return Volume((changed + noise).astype(np.float32), volume.affine)
