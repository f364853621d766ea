"""Anyone's own scans: a folder of files or DICOM series, or a CSV of paths."""

import csv
import re
import zipfile
from pathlib import Path

from vox2vec.data.sources.archives import niftis_in
from vox2vec.data.sources.dataset_json import case_id
from vox2vec.data.sources.dicom_tree import series_id, usable_series
from vox2vec.data.sources.source import LeftOut, ListedSource
from vox2vec.data.sources.stored import LabelFile, PlainFile, ScanFile, Series, ZippedSeries
from vox2vec.reading.dicom import find_series
from vox2vec.reading.files import files_below

_IMAGE = re.compile(r"\.(nii|nii\.gz|nrrd|nhdr|mha|mhd)$", re.IGNORECASE)
_LABEL = re.compile(r"_(labels?|seg|segmentation|mask)$")


def folder(root: Path, *, labels: Path | None = None, name: str | None = None) -> ListedSource:
    """Every scan below a folder: NIfTI, NRRD, MetaImage, DICOM series, and NIfTI or one DICOM series inside a zip.

    Ids are paths below the folder without the ending, or PatientID/SeriesInstanceUID. `SCAN_labels.nii.gz` (also
    _label, _seg, _segmentation, _mask) beside `SCAN.nii.gz` is that scan's labels.

    Args:
        labels: a folder whose files are named as the scans (nnU-Net's channel "_0000" aside); needs scans in files.

    Raises:
        ValueError: no such folder, or no scan in it.
    """
    if not root.is_dir():
        raise ValueError(f"a folder of scans must be a folder, {root} is none")
    files: dict[str, PlainFile] = {}
    scans: dict[str, ScanFile] = {}
    label_files: dict[str, LabelFile] = {}
    left_out: list[LeftOut] = []
    has_others = False
    for path in files_below(root):
        if _IMAGE.search(path.name):
            files[_below(root, path)] = PlainFile(path)
        elif path.suffix.lower() == ".zip":
            _add_zip(path, _below(root, path), scans, left_out)
        else:
            has_others = True
    for id in [id for id in files if _LABEL.search(id) and _LABEL.sub("", id) in files]:
        label_files[_LABEL.sub("", id)] = files.pop(id)
    scans |= files
    if has_others:
        usable, refused = usable_series(find_series(root))
        scans |= {series_id(series): Series(series) for series in usable}
        left_out += refused
    if labels is not None:
        label_files |= _labels_in(labels, scans)
    if not scans:
        raise ValueError(f"no scan in {root}; read are NIfTI, NRRD, MetaImage, DICOM series, and zips of them")
    return ListedSource(name or root.resolve().name, scans, label_files, left_out)


def csv_list(path: Path, *, name: str | None = None) -> ListedSource:
    """The scans of a CSV with a column "image" (a file or a DICOM folder), and optionally "label" and "id".

    Relative paths start at the CSV's folder. Ids default to the paths as written.

    Raises:
        ValueError: no such file, no column "image", no row, or two rows of one id.
    """
    if not path.is_file():
        raise ValueError(f"a list of scans must be a CSV file, {path} is none")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or "image" not in rows[0]:
        raise ValueError(
            f'{path} must have a column "image" and a row for each scan, got {list(rows[0]) if rows else []}'
        )
    scans: dict[str, ScanFile] = {}
    labels: dict[str, LabelFile] = {}
    left_out: list[LeftOut] = []
    for row in rows:
        id, image = row.get("id") or row["image"], path.parent / row["image"]
        if id in scans:
            raise ValueError(f"{path} must give each scan its own id, got {id!r} twice")
        if not image.exists():
            left_out.append(LeftOut(str(image), f"listed in {path.name}, not on disk"))
            continue
        scans[id] = _dicom_folder(image) if image.is_dir() else PlainFile(image)
        if row.get("label"):
            labels[id] = PlainFile(path.parent / row["label"])
    return ListedSource(name or path.stem, scans, labels, left_out)


def _dicom_folder(path: Path) -> ScanFile:
    """The only CT series of a folder; where it is not one, reading says why."""
    usable = [series for series in find_series(path) if series.refusal is None]
    return Series(usable[0]) if len(usable) == 1 else PlainFile(path)


def _add_zip(path: Path, id: str, scans: dict[str, ScanFile], left_out: list[LeftOut]) -> None:
    try:
        niftis = niftis_in(path)
        with zipfile.ZipFile(path) as archive:
            has_dicom = any(name.lower().endswith((".dcm", ".ima")) for name in archive.namelist())
    except ValueError as error:
        left_out.append(LeftOut(str(path), str(error)))
        return
    scans |= {f"{id}/{_IMAGE.sub('', file.member)}": file for file in niftis}
    if has_dicom:
        scans[id] = ZippedSeries(path)
    elif not niftis:
        left_out.append(LeftOut(str(path), "no scan inside: neither NIfTI nor .dcm files"))


def _labels_in(labels: Path, scans: dict[str, ScanFile]) -> dict[str, LabelFile]:
    if not labels.is_dir():
        raise ValueError(f"a folder of labels must be a folder, {labels} is none")
    by_case: dict[str, LabelFile] = {case_id(p): PlainFile(p) for p in files_below(labels) if _IMAGE.search(p.name)}
    found = {id: by_case[case] for id in scans if (case := case_id(Path(id))) in by_case}
    if not found:
        raise ValueError(f"labels must be named as their scans, none of {labels} is; such as {sorted(by_case)[:3]}")
    return found


def _below(root: Path, path: Path) -> str:
    return re.sub(r"\.zip$", "", _IMAGE.sub("", path.relative_to(root).as_posix()))
