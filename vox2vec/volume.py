"""A volume: an image and the affine that places its voxels in the patient."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from vox2vec.geometry import Box, shifted, spacing_of, transformed
from vox2vec.interpolation import resampled


@dataclass(frozen=True, eq=False)
class Volume:
    """An image whose voxel `(i, j, k)` has its centre at `affine @ (i, j, k, 1)`, in RAS+ world millimetres.

    Attributes:
        image: array (x, y, z): HU, labels, a mask, or a map. Never modified in place by this library.
        affine: 4x4, voxel indices to millimetres to the patient's right, anterior, superior. May flip, permute,
            rotate or shear the axes.
    """

    image: np.ndarray
    affine: np.ndarray

    def __post_init__(self) -> None:
        image = np.asarray(self.image)
        affine = np.array(self.affine, dtype=np.float64)
        if image.ndim != 3:
            raise ValueError(f"a volume's image must have three axes (x, y, z), got shape {image.shape}")
        if 0 in image.shape:
            raise ValueError(f"a volume must hold at least one voxel, got shape {image.shape}")
        if affine.shape != (4, 4):
            raise ValueError(f"an affine must be 4x4, got shape {affine.shape}")
        if not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
            raise ValueError(f"an affine must be finite with the last row 0 0 0 1, got {affine.tolist()}")
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if not (spacing > 0).all() or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
            raise ValueError(
                f"an affine must be invertible (its axes must span space), got {affine.tolist()}; "
                "the file's orientation is broken: convert it again from its DICOM series"
            )
        affine.flags.writeable = False
        object.__setattr__(self, "image", image)
        object.__setattr__(self, "affine", affine)

    def __repr__(self) -> str:
        shape, spacing = "x".join(map(str, self.shape)), "x".join(f"{s:.4g}" for s in self.spacing_mm)
        return f"Volume({shape} voxels of {spacing} mm, axes {self.axis_codes}, {self.image.dtype})"

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = self.image.shape
        return (x, y, z)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each axis."""
        return spacing_of(self.affine)

    @property
    def axis_codes(self) -> str:
        """Where each axis points, closest first, such as "RAS" or "LPS" (nibabel's convention)."""
        return "".join(nibabel.aff2axcodes(self.affine))

    def to_mm(self, voxels: Any) -> np.ndarray:
        """World millimetres (..., 3) of voxel indices (..., 3), which may be fractional."""
        return transformed(self.affine, np.asarray(voxels, dtype=np.float64))

    def to_voxels(self, points_mm: Any) -> np.ndarray:
        """Fractional voxel indices (..., 3) of world points (..., 3) in millimetres; round for the nearest voxel."""
        return transformed(np.linalg.inv(self.affine), np.asarray(points_mm, dtype=np.float64))

    def crop(self, box: Box) -> "Volume":
        """The part inside `box`, at the same place in the patient; shares the image's memory."""
        if min(box.start) < 0 or any(stop > n for stop, n in zip(box.stop, self.shape, strict=True)):
            raise ValueError(f"the box must lie inside the volume of shape {self.shape}, got {box}")
        return Volume(self.image[box.slices], shifted(self.affine, np.array(box.start)))

    def onto(self, other: "Volume", *, order: int = 1, fill: float | None = None) -> "Volume":
        """This volume's values on the grid of `other` (any spacing, orientation, extent).

        Args:
            order: 1 interpolates linearly (images, maps; gives floats), 0 takes the nearest voxel (labels, masks;
                keeps the dtype).
            fill: value where `other` reaches beyond this volume; by default the volume's lowest value, which is air
                in a CT and background in labels.
        """
        if order not in (0, 1):
            raise ValueError(f"order must be 0 (nearest, for labels) or 1 (linear, for images), got {order}")
        # Rounded: a coordinate of -1e-16 is 0, and axes that are parallel are recognised as such.
        matrix = (np.linalg.inv(self.affine) @ other.affine).round(9) + 0.0
        if fill is None:
            fill = float(self.image.min())
        image = resampled(self.image, matrix, other.shape, order=order, fill=fill)
        return Volume(image, other.affine)

    def save(self, path: str | PathLike[str]) -> None:
        """Write NIfTI (.nii or .nii.gz); booleans become uint8, integers of 64 bits int32, float16 float32.

        Raises:
            ValueError: another suffix; an integer beyond int32, which is the widest that NIfTI's readers share.
        """
        path = Path(path)
        if not path.name.endswith((".nii", ".nii.gz")):
            raise ValueError(f"a volume is saved as .nii or .nii.gz, got {path.name}")
        image = self.image.astype(np.uint8) if self.image.dtype == bool else self.image
        if image.dtype in (np.int64, np.uint64):
            image = _as_int32(image)
        elif image.dtype == np.float16:
            image = image.astype(np.float32)
        nifti = nibabel.Nifti1Image(image, self.affine)
        nifti.header.set_xyzt_units("mm")
        nibabel.save(nifti, path)


def _as_int32(image: np.ndarray) -> np.ndarray:
    limits = np.iinfo(np.int32)
    for extreme in (image.min(), image.max()):
        if not limits.min <= int(extreme) <= limits.max:
            raise ValueError(
                f"integers are saved as int32, from {limits.min} to {limits.max}, got {extreme}; give the labels "
                "smaller numbers, or save floats"
            )
    return image.astype(np.int32)
