"""A tree of DICOM files: its CT series, all of them or the longest of each patient."""

import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from vox2vec.data.sources.source import LeftOut, ListedSource
from vox2vec.data.sources.stored import Series
from vox2vec.reading.dicom import DicomSeries, find_series


def dicom_tree(
    root: Path,
    *,
    name: str = "DICOM",
    longest_per_patient: bool = False,
    min_slices: int = 2,
    num_workers: int = 1,
) -> ListedSource:
    """Every CT series below a folder; ids are "PatientID/SeriesInstanceUID".

    Headers are read once, about 1 ms a file; folders are shared out among `num_workers` processes. Which series are
    regular volumes shows when they are read.

    Args:
        longest_per_patient: keep the series of most slices of each patient.
        min_slices: series of fewer are left out.

    Raises:
        ValueError: no such folder, or no CT series in it.
    """
    if not root.is_dir():
        raise ValueError(f"{name} must be a folder with DICOM series below it, {root} is none")
    found = _merged(_found(root, num_workers))
    if not found:
        raise ValueError(f"{name}: no DICOM file below {root}")
    usable, left_out = usable_series(found)
    short = [s for s in usable if len(s.files) < min_slices]
    left_out += [LeftOut(_place(s), f"too few slices: {len(s.files)}, fewer than {min_slices}") for s in short]
    usable = [s for s in usable if len(s.files) >= min_slices]
    if longest_per_patient:
        usable, shorter = _longest(usable)
        left_out += [LeftOut(_place(s), f"the patient has a longer series, {kept}") for s, kept in shorter]
    if not usable:
        reasons = "; ".join(f"{item.path}: {item.reason}" for item in left_out[:3])
        raise ValueError(f"{name}: no CT series below {root}, {len(left_out)} were left out: {reasons}")
    return ListedSource(name, {series_id(s): Series(s) for s in usable}, {}, left_out)


def usable_series(found: Iterable[DicomSeries]) -> tuple[list[DicomSeries], list[LeftOut]]:
    """Those that can be a CT volume as far as headers tell, and why the others cannot."""
    all_found = list(found)
    left_out = [LeftOut(_place(s), s.refusal) for s in all_found if s.refusal is not None]
    return [s for s in all_found if s.refusal is None], left_out


def series_id(series: DicomSeries) -> str:
    """Patient first, so that splits can go by it."""
    return f"{series.patient_id or 'unknown'}/{series.uid}"


def _found(root: Path, num_workers: int) -> Iterable[DicomSeries]:
    """By the first level of several folders, which are the patients', so that large trees are shared out."""
    folders, has_files = _inside(root)
    while len(folders) == 1 and not has_files:
        folders, has_files = _inside(folders[0])
    if num_workers <= 1 or len(folders) < 2 * num_workers or has_files:
        return find_series(root)
    with ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [series for found in pool.map(find_series, folders, chunksize=4) for series in found]


def _inside(folder: Path) -> tuple[list[Path], bool]:
    """The folders in a folder, sorted, and whether files lie beside them; hidden ones aside."""
    visible = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return [path for path in visible if path.is_dir()], any(path.is_file() for path in visible)


def _merged(found: Iterable[DicomSeries]) -> list[DicomSeries]:
    """One entry a series: of copies in two places the one with more files."""
    kept: dict[str, DicomSeries] = {}
    for series in found:
        if series.uid not in kept or len(series.files) > len(kept[series.uid].files):
            kept[series.uid] = series
    return list(kept.values())


def _longest(found: list[DicomSeries]) -> tuple[list[DicomSeries], list[tuple[DicomSeries, str]]]:
    longest: dict[str, DicomSeries] = {}
    for series in sorted(found, key=lambda s: (-len(s.files), s.uid)):
        longest.setdefault(series.patient_id, series)
    kept = list(longest.values())
    return kept, [(s, longest[s.patient_id].uid) for s in found if longest[s.patient_id] is not s]


def _place(series: DicomSeries) -> str:
    return f"{series.files[0].parent} ({series.uid})"
