"""NIfTI files: .nii and .nii.gz."""

import gzip
import warnings
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import FileBasedImage

from vox2vec.reading.values import hu_volume
from vox2vec.volume import Volume

_CORRUPT = "{name} is truncated or corrupt ({error}); copy or download it again"
_MM = {"meter": 1000.0, "micron": 0.001}


def read_nifti(path: Path) -> Volume:
    """The scan of a NIfTI file, in HU, with the affine of its sform, else of its qform.

    Memory: the stored array once, and once more where it needs scaling or another type.
    """
    try:
        nifti = nibabel.load(path, mmap=False)
    except Exception as error:
        raise ValueError(f"{path} must be NIfTI, but its header cannot be read ({error}); copy it again") from error
    if not path.name.lower().endswith(".gz") or not isinstance(nifti, nibabel.Nifti1Image):
        return nifti_volume(nifti, name=str(path))
    with gzip.open(path) as stream:
        volume = nifti_volume(type(nifti).from_stream(stream), name=str(path))
        try:
            stream.read()  # to the check sum, where nibabel does not go
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(_CORRUPT.format(name=path, error=error)) from error
    return volume


def nifti_volume(nifti: FileBasedImage, *, name: str) -> Volume:
    """The scan of an opened NIfTI image, `name` in messages; for images that are read from archives."""
    if not isinstance(nifti, nibabel.Nifti1Pair):
        raise ValueError(f"{name} must be NIfTI, got {type(nifti).__name__}; convert it to .nii.gz")
    header = nifti.header
    proxy: Any = nifti.dataobj
    try:
        # Scaling is left to us: nibabel's makes float64 of a whole scan.
        scaled_by_us = isinstance(proxy, nibabel.arrayproxy.ArrayProxy)
        stored = proxy.get_unscaled() if scaled_by_us else np.array(proxy)
    except Exception as error:
        raise ValueError(_CORRUPT.format(name=name, error=error)) from error
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        warnings.warn(
            f"{name}: the orientation is not stated (no sform, no qform code), assumed axes {_codes(nifti.affine)}. "
            "Compare with the original, left and right may be swapped",
            UserWarning,
            stacklevel=2,
        )
    affine = np.array(nifti.affine, dtype=np.float64)
    affine[:3] *= _MM.get(header.get_xyzt_units()[0], 1.0)
    slope, intercept = (float(proxy.slope), float(proxy.inter)) if scaled_by_us else (1.0, 0.0)
    return hu_volume(stored, affine, slope=slope, intercept=intercept, name=name)


def _codes(affine: np.ndarray) -> str:
    return "".join(code or "?" for code in nibabel.aff2axcodes(affine))
