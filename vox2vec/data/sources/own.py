"""Whatever path a user gives, as a data set."""

from pathlib import Path

from vox2vec.data.sources.dataset_json import dataset_json
from vox2vec.data.sources.folder import csv_list, folder
from vox2vec.data.sources.source import ListedSource
from vox2vec.data.sources.stored import PlainFile


def own_data(path: Path, *, labels: Path | None = None) -> ListedSource:
    """A folder with a dataset.json, a dataset.json, a CSV, one scan's file, or any folder of scans.

    Args:
        labels: a folder of label files, for a folder of scans.
    """
    if not path.exists():
        raise ValueError(f"data must be a folder, a CSV, a dataset.json or a scan, {path} does not exist")
    if path.name == "dataset.json" or (path / "dataset.json").is_file():
        return dataset_json(path)
    if path.suffix.lower() == ".csv":
        return csv_list(path)
    if path.is_file():
        return ListedSource(path.resolve().parent.name, {path.name: PlainFile(path)})
    return folder(path, labels=labels)
