"""NRRD and MetaImage files: .nrrd, .nhdr, .mha, .mhd."""

import re
import warnings
from pathlib import Path

import numpy as np
import SimpleITK

from vox2vec.reading.values import hu_volume
from vox2vec.volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK and DICOM count millimetres to the patient's left and posterior, this library to right and anterior."""

_READERS = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_ORIENTATION = {
    "NrrdImageIO": rb"^space:\s*(right|left|RAS|LAS|LPS)",
    "MetaImageIO": rb"^(TransformMatrix|Rotation|Orientation)\s*=",
}


def read_sitk_image(path: Path) -> Volume:
    """The scan of a NRRD or MetaImage file, in HU, axes as stored."""
    reader = _READERS[path.suffix.lower()]
    try:
        image = SimpleITK.ReadImage(str(path), imageIO=reader)
    except RuntimeError as error:
        raise ValueError(
            f"{path} must be a whole {path.suffix} file, it is truncated, corrupt, or its data file is missing "
            f"({last_line(error)}); copy it again"
        ) from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(
            f"{path}: a CT must hold one number a voxel, got {image.GetNumberOfComponentsPerPixel()} (RGB or a vector)"
        )
    volume = hu_volume(SimpleITK.GetArrayFromImage(image).T, sitk_affine(image), name=str(path))
    if not re.search(_ORIENTATION[reader], _header(path), re.MULTILINE | re.IGNORECASE):
        warnings.warn(
            f"{path}: the orientation is not stated, assumed axes left, posterior, superior. "
            "Compare with the original, left and right may be swapped",
            UserWarning,
            stacklevel=2,
        )
    return volume


def sitk_affine(image: SimpleITK.Image) -> np.ndarray:
    """Of the first three axes; files of fewer are refused by their shape."""
    n = image.GetDimension()
    axes = min(n, 3)
    direction = np.array(image.GetDirection()).reshape(n, n)
    affine = np.eye(4)
    affine[:axes, :axes] = (direction * image.GetSpacing())[:axes, :axes]
    affine[:axes, 3] = image.GetOrigin()[:axes]
    return LPS_TO_RAS @ affine


def last_line(error: Exception) -> str:
    """What ITK means to say, without the lines on where in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^.*\(0x[0-9a-f]+\): ", "", lines[-1]) if lines else type(error).__name__


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(2**16)
    return re.split(rb"\r?\n\r?\n|ElementDataFile", head, maxsplit=1)[0]
