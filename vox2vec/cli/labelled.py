"""The arguments that name a labelled data set, and the paper's own by their names."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vox2vec.data.sources.amid_set import amid_set
from vox2vec.data.sources.dataset_json import label_names_of, msd
from vox2vec.data.sources.own import own_data
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.data.sources.public_sets import btcv
from vox2vec.data.sources.source import ListedSource, Source

MSD_TASKS = {
    "3": "Task03_Liver",
    "6": "Task06_Lung",
    "7": "Task07_Pancreas",
    "8": "Task08_HepaticVessel",
    "9": "Task09_Spleen",
    "10": "Task10_Colon",
}
"""The CT tasks of the Medical Segmentation Decathlon."""


def add_labelled_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag for each kind of labelled data."""
    group = parser.add_argument_group("labelled CTs")
    group.add_argument(
        "--dataset",
        choices=("btcv", "msd", "folder", "amid", "phantom", "paper"),
        default="btcv",
        help="paper: BTCV and the six MSD tasks, as far as they are there, in one table (default: btcv)",
    )
    group.add_argument("--btcv_dir", metavar="DIR", type=Path, help="BTCV as downloaded")
    group.add_argument("--msd_dir", metavar="DIR", type=Path, help="the folder that holds Task03_Liver and so on")
    group.add_argument("--task", choices=(*MSD_TASKS, "all"), help="of --dataset msd")
    group.add_argument(
        "--images_dir",
        metavar="PATH",
        type=Path,
        help="of --dataset folder: scans with SCAN_labels.nii.gz beside SCAN.nii.gz, a folder with a dataset.json, "
        "or a CSV with columns image and label",
    )
    group.add_argument("--labels_dir", metavar="DIR", type=Path, help="labels in a folder of their own, named as scans")
    group.add_argument(
        "--names",
        metavar="JSON",
        type=Path,
        help='structures, {"1": "liver"} or {"liver": 1} (default: the data\'s own)',
    )
    group.add_argument("--amid", metavar="NAME=DIR", help="of --dataset amid: a labelled CT set, such as KiTS23=/data")


def labelled_sets(arguments: argparse.Namespace) -> dict[str, Source]:
    """The named data sets by the folder of their results ("" for the log folder itself), labelled CTs only.

    Raises:
        ValueError: the flag that says where the data lie is missing, or nothing with labels lies there.
    """
    dataset = arguments.dataset
    if dataset == "paper":
        return _papers(arguments)
    if dataset == "msd" and arguments.task == "all":
        root = _needed(arguments.msd_dir, "--msd_dir", dataset)
        return {task: _labelled(msd(root, task)) for task in MSD_TASKS.values()}
    if dataset == "phantom":
        return {"": Phantoms()}
    if dataset == "btcv":
        source: Source = _labelled(btcv(_needed(arguments.btcv_dir, "--btcv_dir", dataset)))
    elif dataset == "msd":
        if arguments.task is None:
            raise ValueError(f"--dataset msd needs --task, one of {', '.join(MSD_TASKS)}, or all")
        source = _labelled(msd(_needed(arguments.msd_dir, "--msd_dir", dataset), MSD_TASKS[arguments.task]))
    elif dataset == "amid":
        name, equals, folder = (arguments.amid or "").partition("=")
        if not equals or not folder:
            raise ValueError(f"--dataset amid needs --amid NAME=DIR, such as KiTS23=/data/kits; got {arguments.amid!r}")
        source = amid_set(name, Path(folder))
    else:
        images = _needed(arguments.images_dir, "--images_dir", dataset)
        labels = arguments.labels_dir
        if labels is not None and labels.resolve() == images.resolve():
            labels = None  # they lie beside the scans
        source = _labelled(own_data(images, labels=labels))
        if arguments.names is not None:
            source = replace(source, label_names=read_names(arguments.names))
    return {"": source}


def _papers(arguments: argparse.Namespace) -> dict[str, Source]:
    found: dict[str, Source] = {}
    if arguments.btcv_dir is not None:
        found["btcv"] = _labelled(btcv(arguments.btcv_dir))
    if arguments.msd_dir is not None:
        there = (t for t in MSD_TASKS.values() if (arguments.msd_dir / t).is_dir() or _tar(arguments.msd_dir, t))
        found |= {task: _labelled(msd(arguments.msd_dir, task)) for task in there}
    if not found:
        raise ValueError("--dataset paper needs --btcv_dir or --msd_dir, with at least one data set there")
    return found


def _tar(root: Path, task: str) -> bool:
    return (root / f"{task}.tar").is_file()


def _labelled(source: ListedSource) -> ListedSource:
    labelled = source.with_labels_only()
    if not labelled.ids:
        raise ValueError(f"{source.name} must hold scans with labels, none of its {len(source.ids)} scans has any")
    return labelled


def _needed(path: Path | None, flag: str, dataset: str) -> Path:
    if path is None:
        raise ValueError(f"--dataset {dataset} needs {flag}")
    return path


def read_names(path: Path) -> Mapping[int, str]:
    """Structures by number, of a JSON file."""
    try:
        names = label_names_of({"labels": json.loads(path.read_text())})
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f'--names must be a JSON file like {{"1": "liver"}}, {path} is not ({error})') from error
    if not names:
        raise ValueError(f"--names must name at least one structure, {path} names none")
    return names
