"""Label files: whole numbers on a grid, never scaled or clipped as HU."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK

from vox2vec.reading.sitk_image import last_line, sitk_affine
from vox2vec.volume import Volume


def read_labels(path: Path) -> Volume:
    """Labels (.nii, .nii.gz, .nrrd, .mha) as uint8 or int16, whichever holds them, with their affine to RAS+ mm."""
    if not path.is_file():
        raise ValueError(f"labels must be an existing file, {path} is none")
    if path.name.lower().endswith((".nii", ".nii.gz")):
        try:
            nifti: Any = nibabel.load(path, mmap=False)
            return label_volume(np.asanyarray(nifti.dataobj), nifti.affine, name=str(path))
        except (OSError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
            raise ValueError(f"{path} is truncated or corrupt ({error}); copy it again") from error
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read as labels ({last_line(error)}); convert it to .nii.gz") from error
    return label_volume(SimpleITK.GetArrayFromImage(image).T, sitk_affine(image), name=str(path))


def label_volume(stored: np.ndarray, affine: np.ndarray, *, name: str) -> Volume:
    """A label array of any type; a ValueError where it is not 3D, or holds fractions or values beyond int16."""
    while stored.ndim > 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim != 3:
        raise ValueError(f"{name}: labels must have three axes, one number a voxel; got shape {stored.shape}")
    low, high = float(stored.min()), float(stored.max())
    if not (low >= -(2**15) and high < 2**15):
        raise ValueError(f"{name}: labels must be numbers of 0 to 32767, got {low:g} to {high:g}")
    labels = stored.astype(np.uint8 if low >= 0 and high < 256 else np.int16)
    if stored.dtype.kind == "f" and not np.array_equal(labels, stored):
        raise ValueError(f"{name}: labels must be whole numbers, got fractions; is it a probability map, or the scan?")
    return Volume(labels, np.asarray(affine, dtype=np.float64))
