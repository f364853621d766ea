"""A path becomes a scan, whatever its format."""

from os import PathLike
from pathlib import Path

from vox2vec.reading.dicom import find_series, pick_series, read_series, series_of_file
from vox2vec.reading.dicom_header import is_dicom_file
from vox2vec.reading.nifti import read_nifti
from vox2vec.reading.sitk_image import read_sitk_image
from vox2vec.volume import Volume

FORMATS = ".nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, a folder of a DICOM series, one DICOM file of a series"
"""What `load_volume` reads, for messages."""


def load_volume(path: str | PathLike[str], *, series: str | None = None) -> Volume:
    """Read a CT in HU, axes as stored, with its affine to RAS+ millimetres.

    The image is int16 where all values are whole and fit, else float32; padding below -1024 HU is clipped to it. The
    axes of DICOM are column index, row index, slice. Values that cannot be HU, and a file that does not state its
    orientation, give a UserWarning.

    Args:
        path: .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd; a folder with a DICOM series in it or below it; or one DICOM
            file, which stands for its whole series in that folder.
        series: SeriesInstanceUID to read, where a DICOM folder holds several.

    Raises:
        ValueError: the path does not hold exactly one regular CT volume; the message says what was found and the
            way out.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"a scan must be an existing file or folder, {path} does not exist")
    if path.is_dir():
        return read_series(pick_series(find_series(path), path, series))
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        _refuse_series(path, series)
        return read_nifti(path)
    if name.endswith((".nrrd", ".nhdr", ".mha", ".mhd")):
        _refuse_series(path, series)
        return read_sitk_image(path)
    if not is_dicom_file(path):
        raise ValueError(f"{path} is of no format that is read: {FORMATS}. Unpack archives, convert the rest to NIfTI")
    found = series_of_file(path)
    if series is not None and series.strip() != found.uid:
        raise ValueError(f"{path} belongs to series {found.uid}, not to {series}; pass its folder, or leave series out")
    return read_series(found)


def _refuse_series(path: Path, series: str | None) -> None:
    if series is not None:
        raise ValueError(f"series picks one of several in a DICOM folder, {path} holds one scan; leave series out")
