"""Data sets that a dataset.json describes: the Medical Segmentation Decathlon's form, and nnU-Net's, old and new."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vox2vec.data.sources.archives import niftis_in, tar_member
from vox2vec.data.sources.source import LeftOut, ListedSource
from vox2vec.data.sources.stored import ArchivedNifti, LabelFile, PlainFile, ScanFile
from vox2vec.reading.files import files_below


def dataset_json(path: Path, *, name: str | None = None) -> ListedSource:
    """The CTs that a dataset.json, or the folder that holds one, describes; those of imagesTs come without labels.

    Read are the lists of MSD ("training", "test"), nnU-Net's optional "dataset", else imagesTr/CASE_0000.ext with
    labelsTr/CASE.ext by name. A region of several labels (nnU-Net) has no name of its own here.

    Raises:
        ValueError: no dataset.json, another modality than CT, more than one channel, or a path out of its folder.
    """
    path = path / "dataset.json" if path.is_dir() else path
    fields = _fields(path)
    root = path.parent
    name = name or root.name
    _check_ct(fields, path)
    pairs = _listed(fields, root, path) or _named(root, fields.get("file_ending", ".nii.gz"))
    scans: dict[str, ScanFile] = {id: PlainFile(image) for id, (image, _) in pairs.items() if image.is_file()}
    missing = [LeftOut(str(i), "listed in dataset.json, not on disk") for i, _ in pairs.values() if not i.is_file()]
    if not scans:
        raise ValueError(f"{path} must describe scans that are on disk, none of its {len(pairs)} is there")
    labels: dict[str, LabelFile] = {
        id: PlainFile(label)
        for id, (_, label) in pairs.items()
        if id in scans and label is not None and label.is_file()
    }
    return ListedSource(name, scans, labels, missing, label_names_of(fields))


def msd(root: Path, task: str | None = None) -> ListedSource:
    """A CT task of the Medical Segmentation Decathlon: its folder or tar, or the folder of all tasks and `task`.

    Args:
        task: such as "Task03_Liver"; not needed where `root` is the task itself.

    Source: http://medicaldecathlon.com.
    """
    path = root if task is None else root / task
    if task is not None and not path.is_dir():
        path = root / f"{task}.tar"
    if path.is_dir():
        return dataset_json(path, name=f"MSD {path.name}")
    if not path.is_file():
        raise ValueError(
            f"MSD must be a task's folder or tar, such as Task03_Liver or Task03_Liver.tar; {path} is none"
        )
    return _task_in_tar(path)


def _task_in_tar(path: Path) -> ListedSource:
    scans: dict[str, ArchivedNifti] = {}
    labels: dict[str, ArchivedNifti] = {}
    for file in niftis_in(path):
        match = re.search(r"(?:^|/)(images|labels)(?:Tr|Ts)/([^/]+)\.nii(?:\.gz)?$", file.member)
        if match:
            (scans if match[1] == "images" else labels)[match[2]] = file
    if not scans:
        raise ValueError(f"{path} must hold imagesTr/*.nii.gz, found none")
    fields = json.loads(tar_member(path, "dataset.json") or "{}")
    _check_ct(fields, path)
    return ListedSource(f"MSD {path.stem}", scans, labels, (), label_names_of(fields))


def _fields(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"a dataset.json must be there, {path} is none")
    try:
        fields = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be JSON, it cannot be read ({error})") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} must hold a mapping, as MSD's and nnU-Net's do; got {type(fields).__name__}")
    return fields


def _check_ct(fields: Mapping[str, Any], path: Path) -> None:
    channels = fields.get("channel_names", fields.get("modality", {"0": "CT"}))
    names = list(channels.values()) if isinstance(channels, Mapping) else [channels]
    if len(names) != 1 or str(names[0]).upper() not in ("CT", "CECT", "CE CT"):
        raise ValueError(f"{path} must describe CT of one channel, it says {', '.join(map(str, names))}")


def label_names_of(fields: Mapping[str, Any]) -> dict[int, str]:
    """Of {"1": "liver"} (MSD) or {"liver": 1} (nnU-Net)."""
    pairs = fields.get("labels", {}).items()
    swapped = [(k, v) if str(k).isdigit() else (v, k) for k, v in pairs if not isinstance(v, (list, tuple))]
    return {int(number): str(structure) for number, structure in swapped if int(number) != 0}


def _listed(fields: Mapping[str, Any], root: Path, path: Path) -> dict[str, tuple[Path, Path | None]]:
    if isinstance(fields.get("dataset"), Mapping):
        return {
            id: (
                _inside(root, case["images"][0], path),
                _inside(root, case["label"], path) if "label" in case else None,
            )
            for id, case in fields["dataset"].items()
        }
    listed: dict[str, tuple[Path, Path | None]] = {}
    for case in [*fields.get("training", ()), *fields.get("test", ())]:
        image, label = (case["image"], case.get("label")) if isinstance(case, Mapping) else (case, None)
        file = _inside(root, image, path)
        if not file.is_file() and (channel := _with_channel(file)).is_file():
            file = channel  # nnU-Net's old form lists cases without the channel that their files carry
        listed[case_id(file)] = (file, None if label is None else _inside(root, label, path))
    return listed


def _named(root: Path, ending: str) -> dict[str, tuple[Path, Path | None]]:
    found: dict[str, tuple[Path, Path | None]] = {}
    for part in ("Tr", "Ts"):
        folder = root / f"images{part}"
        for file in files_below(folder) if folder.is_dir() else ():
            if file.name.endswith(ending):
                id = case_id(file)
                found[id] = (file, root / f"labels{part}" / f"{id}{ending}")
    return found


def case_id(file: Path) -> str:
    """A file's name without its ending and nnU-Net's channel "_0000"."""
    return re.sub(r"_0000$", "", re.sub(r"\.(nii\.gz|nii|nrrd|nhdr|mha|mhd)$", "", file.name, flags=re.IGNORECASE))


def _with_channel(file: Path) -> Path:
    stem, dot, ending = file.name.partition(".")
    return file.with_name(f"{stem}_0000{dot}{ending}")


def _inside(root: Path, place: str, path: Path) -> Path:
    file = root / place
    if not file.resolve().is_relative_to(root.resolve()) and ".." in Path(place).parts:
        raise ValueError(f"{path} must list files of its own folder, got {place}")
    return file
