"""A displacement on a lattice: where every point of a scan goes, and ITK's file of it."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from jaxtyping import Float
from scipy.ndimage import map_coordinates

from vox2vec.geometry import spacing_of, transformed
from vox2vec.matching.jacobian import folding

_INTENT_VECTOR = 1007
_TO_LPS = np.array([-1.0, -1.0, 1.0], np.float32)


@dataclass(frozen=True, eq=False)
class Displacement:
    """Vectors at the nodes of a lattice along right, anterior, superior; linear between them.

    Attributes:
        vectors_mm: RAS+ millimetres from each node to where it goes.
        affine: 4x4, indices of the nodes to RAS+ millimetres.
    """

    vectors_mm: Float[np.ndarray, "x y z 3"]
    affine: Float[np.ndarray, "4 4"]

    def at(self, points_mm: Any) -> Float[np.ndarray, "v 3"]:
        """Where points (v, 3) go, RAS+ millimetres; beyond the lattice they move as its border does; NaN stays NaN."""
        points = np.asarray(points_mm, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points must be (v, 3) millimetres, got shape {points.shape}; one point is [[x, y, z]]")
        known = np.isfinite(points).all(axis=1)
        moved = np.full(points.shape, np.nan)
        nodes = transformed(np.linalg.inv(self.affine), points[known]).T
        along = [map_coordinates(self.vectors_mm[..., a], nodes, np.float64, order=1, mode="nearest") for a in range(3)]
        moved[known] = points[known] + np.stack(along, axis=1)
        return moved

    @property
    def folding(self) -> float:
        """The share of the lattice's cells that are turned inside out at a corner."""
        return folding(self.vectors_mm, spacing_of(self.affine))

    def save(self, path: str | PathLike[str]) -> None:
        """Write ITK's displacement field: LPS millimetres, NIfTI (.nii, .nii.gz) of five axes with the vector intent.

        SimpleITK's `DisplacementFieldTransform` and 3D Slicer read it. They take a point of the fixed scan to its place
        in the moving one, which is what resamples the moving scan on the fixed one's grid.
        """
        path = Path(path)
        if not path.name.endswith((".nii", ".nii.gz")):
            raise ValueError(f"a displacement field is saved as .nii or .nii.gz, got {path.name}")
        nifti = nibabel.Nifti1Image((self.vectors_mm.astype(np.float32) * _TO_LPS)[:, :, :, None], self.affine)
        nifti.header.set_intent(_INTENT_VECTOR)
        nifti.header.set_xyzt_units("mm")
        nibabel.save(nifti, path)
