"""The arguments that name a labelled data set, and the paper's own by their names."""

import argparse
from pathlib import Path

from vox2vec.data.sources.amid_set import amid_set
from vox2vec.data.sources.dataset_json import msd
from vox2vec.data.sources.labelled import labelled, labelled_data, msd_tasks, papers_sets
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.data.sources.public_sets import btcv
from vox2vec.data.sources.source import Source
from vox2vec.data.sources.structures import MSD_TASKS


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
        found = papers_sets(arguments.btcv_dir, arguments.msd_dir)
        if not found:
            raise ValueError("--dataset paper needs --btcv_dir or --msd_dir, with at least one data set there")
        return found
    if dataset == "phantom":
        return {"": Phantoms()}
    if dataset == "btcv":
        return {"": labelled(btcv(_needed(arguments.btcv_dir, "--btcv_dir", dataset)))}
    if dataset == "msd":
        if arguments.task is None:
            raise ValueError(f"--dataset msd needs --task, one of {', '.join(MSD_TASKS)}, or all")
        root = _needed(arguments.msd_dir, "--msd_dir", dataset)
        return msd_tasks(root) if arguments.task == "all" else {"": labelled(msd(root, MSD_TASKS[arguments.task]))}
    if dataset == "amid":
        name, equals, folder = (arguments.amid or "").partition("=")
        if not equals or not folder:
            raise ValueError(f"--dataset amid needs --amid NAME=DIR, such as KiTS23=/data/kits; got {arguments.amid!r}")
        return {"": amid_set(name, Path(folder))}
    images = _needed(arguments.images_dir, "--images_dir", dataset)
    return {"": labelled_data(images, labels=arguments.labels_dir, names=arguments.names)}


def _needed(path: Path | None, flag: str, dataset: str) -> Path:
    if path is None:
        raise ValueError(f"--dataset {dataset} needs {flag}")
    return path
