"""DICOM folders: which series a tree holds, and one series as a volume."""

import logging
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vox2vec.reading.dicom_header import ENHANCED_CT, Header, read_header
from vox2vec.reading.dicom_slices import by_position
from vox2vec.reading.dicom_stack import stacked
from vox2vec.reading.files import files_below
from vox2vec.reading.values import warn_unless_hu
from vox2vec.volume import Volume

_logger = logging.getLogger(__name__)
_SINGLE_SLICE = "it holds a single slice, a volume needs several; load the folder of the whole series"


@dataclass(frozen=True)
class DicomSeries:
    """Files of one SeriesInstanceUID below one folder, as their headers tell.

    Attributes:
        files: in the order of their positions along the slices' normal; localizers beside slices are left out.
        is_localizer: whether the series holds localizers (scouts) alone.
        refusal: why it cannot be a CT volume, None where the headers leave that open; pixels and gaps are looked at
            by `read_series` alone.
        unreadable: broken DICOM files in the same folders, which may be slices of this series.
    """

    uid: str
    study_uid: str
    patient_id: str
    modality: str
    description: str
    is_localizer: bool
    files: tuple[Path, ...]
    refusal: str | None = None
    unreadable: tuple[Path, ...] = ()

    def __str__(self) -> str:
        text = f"{self.uid} ({self.description or 'no description'}, {self.modality}, {_count(self.files)})"
        return text if self.refusal is None else f"{text}: {self.refusal}"


def find_series(folder: str | os.PathLike[str]) -> list[DicomSeries]:
    """All DICOM series of a folder and the folders below it, sorted by their first file's path; one pass of headers.

    Files that are not DICOM, DICOMDIR, and hidden files are passed over; links to folders are followed. About 1 ms
    and 2 kB a file while it runs: call it patient by patient for trees of millions of files. A ValueError where the
    folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"DICOM series are looked for in a folder, {folder} is none")
    return _series_of(files_below(folder))


def series_of_file(path: Path) -> DicomSeries:
    """The series of one DICOM file, with all its files of the same folder."""
    header = read_header(path)
    if header is None:
        raise ValueError(f"{path} must be an image of a DICOM series, it is a DICOMDIR; load its folder instead")
    siblings = sorted(p for p in path.parent.iterdir() if p.is_file() and not p.name.startswith("."))
    return pick_series(_series_of(siblings), path, header.series_uid)


def pick_series(found: Sequence[DicomSeries], path: Path, uid: str | None = None) -> DicomSeries:
    """The one series that can be a CT volume, or the one of `uid`; else a ValueError that lists what is there."""
    if not found:
        raise ValueError(_nothing_in(path))
    listed = "".join(f"\n  {series}" for series in found)
    if uid is not None:
        for series in found:
            if series.uid == uid.strip():
                return series
        raise ValueError(f"series must be the SeriesInstanceUID of one in {path}, got {uid!r}; there are:{listed}")
    usable = [series for series in found if series.refusal is None]
    if len(usable) > 1:
        raise ValueError(
            f"{path} must hold one CT series, got {len(usable)}; pick one by series=UID (--series UID), or pass one "
            f"file of it:{listed}"
        )
    if not usable and len(found) > 1:
        raise ValueError(f"{path} must hold a CT volume, but none of its {len(found)} series is one:{listed}")
    chosen = (usable or found)[0]
    for series in found:
        if series is not chosen:
            _logger.info("%s: left out series %s", path, series)
    return chosen


def read_series(series: DicomSeries) -> Volume:
    """The volume of a series: HU, axes (column index, row index, slice), affine to RAS millimetres.

    Identical copies of a slice are dropped with a logged warning.

    Raises:
        ValueError: the series is no CT volume, or not regular: gaps, missing slices, several phases, mixed
            orientations or sizes, broken files.
    """
    name = f"series {series.uid} in {series.files[0].parent}"
    if series.refusal is not None:
        raise ValueError(f"{name} must be a CT volume: {series.refusal}")
    if series.unreadable:
        raise ValueError(
            f"{name} may be incomplete, {_count(series.unreadable)} beside it cannot be read, such as "
            f"{series.unreadable[0]} (cut short?); copy again or remove"
        )
    try:
        headers = [header for path in series.files if (header := read_header(path)) is not None]
        volume = stacked(headers, name=name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if any(header.slope is None or header.intercept is None for header in headers):
        warnings.warn(
            f"{name}: no RescaleSlope or RescaleIntercept is stated, assumed 1 and 0. Check that air is -1000 and "
            "water 0",
            UserWarning,
            stacklevel=2,
        )
    warn_unless_hu(volume.image, name=name)
    return volume


def _series_of(files: Iterable[Path]) -> list[DicomSeries]:
    headers: dict[str, list[Header]] = {}
    unreadable: list[Path] = []
    for path in files:
        try:
            header = read_header(path)
        except ValueError as error:
            _logger.warning("passed over: %s", error)
            unreadable.append(path)
        else:
            if header is not None:
                headers.setdefault(header.series_uid, []).append(header)
    return [_series(found, unreadable) for found in headers.values()]


def _series(headers: Sequence[Header], unreadable: Sequence[Path]) -> DicomSeries:
    slices = [header for header in headers if header.is_image and not header.is_localizer]
    kept = slices or headers
    if len(kept) < len(headers):
        left_out = len(headers) - len(kept)
        _logger.info("series %s: left out %d localizers or other objects", headers[0].series_uid, left_out)
    refusal = _refusal(kept)
    first = kept[0]
    folders = {header.path.parent for header in kept}
    return DicomSeries(
        uid=first.series_uid,
        study_uid=first.study_uid,
        patient_id=first.patient_id,
        modality=first.modality or "no modality",
        description=first.description,
        is_localizer=all(header.is_localizer for header in headers),
        files=tuple(header.path for header in _ordered(kept)),
        refusal=refusal,
        unreadable=tuple(path for path in unreadable if path.parent in folders),
    )


def _refusal(headers: Sequence[Header]) -> str | None:
    """Why these files, as their headers tell, are no CT volume; with the remedy."""
    first = headers[0]
    unplaced = [header for header in headers if not header.is_placed]
    if first.modality != "CT":
        return f"its modality is {first.modality or 'not stated'}, only CT is read; choose a CT series"
    if not first.is_image:
        return "it holds no image; choose a CT series"
    if first.is_localizer:
        return "it is a localizer (scout), not a volume; choose the series of the slices"
    if any(header.sop_class in ENHANCED_CT or header.frames > 1 for header in headers):
        return "it is enhanced (multi-frame) DICOM, which is not read; convert it with dcm2niix and load the .nii.gz"
    if any(header.samples != 1 for header in headers):
        return "it holds colour (RGB) pictures, not HU; choose a series of CT slices"
    if unplaced:
        return (
            f"{len(unplaced)} of {len(headers)} files, such as {unplaced[0].path.name}, do not state their place "
            "(ImagePositionPatient, ImageOrientationPatient, PixelSpacing); export the original CT slices"
        )
    return _SINGLE_SLICE if len(headers) == 1 else None


def _ordered(headers: Sequence[Header]) -> list[Header]:
    if not all(header.is_placed for header in headers):
        return list(headers)
    try:
        return [header for group in by_position(headers) for header in group]
    except ValueError:  # a broken orientation, which `read_series` refuses
        return list(headers)


def _nothing_in(path: Path) -> str:
    files = [path] if path.is_file() else list(files_below(path))
    if not files:
        return f"{path} must hold a DICOM series, it is an empty folder"
    return (
        f"{path} must hold a DICOM series, none of its {_count(files)} is readable DICOM, such as {files[0].name}; "
        "a scan of another format is loaded by its file, not its folder"
    )


def _count(files: Sequence[Path]) -> str:
    return f"{len(files)} file{'s' if len(files) != 1 else ''}"
