"""The arguments that commands share, and what they name: weights, data sets, a cache, files to write."""

import argparse
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from vox2vec.data.cache import Cache
from vox2vec.data.sources.amid_set import amid_set
from vox2vec.data.sources.dataset_json import msd
from vox2vec.data.sources.labelled import labelled, labelled_data, msd_tasks, papers_sets
from vox2vec.data.sources.own import own_data
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.data.sources.public_sets import amos, btcv, flare2022, lidc, midrc, nlst, nsclc
from vox2vec.data.sources.source import Source
from vox2vec.data.sources.structures import MSD_TASKS
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.pretrained import is_at_hand, load_backbone, vox2vec_small
from vox2vec.reading.dicom_header import is_dicom_file
from vox2vec.recipe import PAPER, Recipe

LABELS = (".nii", ".nii.gz")
PICTURES = (".png", ".pdf", ".svg")
_RESULTS = (".safetensors", ".csv", ".fcsv", ".json", *PICTURES)  # none is read as one of a folder's scans

_TREES: dict[str, Callable[..., Source]] = {"nlst": nlst, "nsclc": nsclc, "midrc": midrc, "lidc": lidc}
_ARCHIVES: dict[str, Callable[[Path], Source]] = {"amos": amos, "flare": flare2022}
_WEIGHTS = (
    "contrastive or vicreg (from the Hugging Face Hub), small (ships with the package), a file, or a Hub repository "
    "(default: contrastive; small where the Hub is out of reach)"
)


def add_weights(parser: Any, *, alias_ckpt: bool = False, help: str = _WEIGHTS) -> None:
    """`--weights`, for `backbone_of`; with `alias_ckpt` also by its published name, `--ckpt`."""
    names = ("--weights", "--ckpt") if alias_ckpt else ("--weights",)
    parser.add_argument(*names, dest="weights", metavar="WEIGHTS", help=help)


def add_device(parser: Any, *, training: bool = False) -> None:
    """`--device` and `--precision`: of a training also as published, `--accelerator`, and as Lightning trains."""
    if training:
        parser.add_argument(
            "--device", "--accelerator", dest="device", default="auto", help="auto, cpu, gpu, mps (default: auto)"
        )
        parser.add_argument(
            "--precision",
            choices=("32", "bf16", "16"),
            help="(default: bf16 on a GPU that has it, half the memory; else 32, exact everywhere)",
        )
        return
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "32", "bf16"),
        help="auto takes bfloat16 where the hardware has it and the error, measured first, is at most 1 %%",
    )


def add_scan(parser: Any, name: str = "scan", *, series: str = "--series", help: str = "") -> None:
    """A scan to read, and which series of it: SCAN and `--series`, or of another name, each with a flag of its own."""
    kinds = ".nii, .nii.gz, .nrrd, .mha, a DICOM folder or one of a series' files"
    parser.add_argument(name, metavar=name.upper(), help=f"{help}: {kinds}" if help else kinds)
    add_series(parser, series, of=name.upper())


def add_series(parser: Any, flag: str = "--series", *, of: str = "SCAN") -> None:
    """Which series of a scan is meant."""
    parser.add_argument(flag, metavar="UID", help=f"which series of {of}, where a DICOM folder holds several")


def add_output(parser: Any, *, metavar: str = "OUT", required: bool = True, help: str | None = None) -> None:
    """`-o`, for `checked_output`."""
    parser.add_argument("-o", "--output", required=required, metavar=metavar, type=Path, help=help)


def add_sources(parser: argparse.ArgumentParser) -> None:
    """One flag for each public data set, one for anyone's own data, one for amid's; for `sources_of`."""
    group = parser.add_argument_group("data sets", "any number of them; with none, 8 synthetic phantoms")
    for name in (*_ARCHIVES, *_TREES):
        group.add_argument(f"--{name}_dir", metavar="DIR", type=Path, help=f"{name.upper()} as downloaded")
    group.add_argument(
        "--data_dir",
        metavar="PATH",
        type=Path,
        action="append",
        default=[],
        help="your own scans: a folder of NIfTI, NRRD, MHA or DICOM, an nnU-Net or MSD data set, a CSV with a column "
        "image; may be given again",
    )
    group.add_argument(
        "--labels_dir",
        "--label_dir",
        dest="labels_dir",
        metavar="DIR",
        type=Path,
        help="labels of the one --data_dir, named as the scans",
    )
    group.add_argument(
        "--amid",
        metavar="NAME=DIR",
        action="append",
        default=[],
        help="a CT data set of amid, such as KiTS23=/data/kits; needs vox2vec[amid]; may be given again",
    )


def add_cache(parser: argparse.ArgumentParser) -> None:
    """The cache, and how its CTs are prepared: the paper's way by default; for `cache_of`."""
    parser.add_argument("--cache_dir", metavar="DIR", type=Path, required=True)
    parser.add_argument(
        "--spacing", metavar=("X", "Y", "Z"), nargs=3, type=float, default=PAPER.spacing_mm, help="mm (default: 1 1 2)"
    )
    parser.add_argument(
        "--patch_size",
        metavar=("X", "Y", "Z"),
        nargs=3,
        type=int,
        default=PAPER.patch_size,
        help="voxels (default: 128 128 32)",
    )
    parser.add_argument(
        "--no_table", action="store_true", help="leave the table out of the body (published: it counts)"
    )


def add_labelled(parser: argparse.ArgumentParser) -> None:
    """One flag for each kind of labelled data; for `labelled_sets`."""
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


def backbone_of(weights: str | None) -> FPN3d:
    """The backbone of `--weights`; by default the released one, or, plainly told, the small one that ships."""
    if weights is not None:
        return load_backbone(weights)
    if is_at_hand("contrastive"):
        return load_backbone("contrastive")
    print(
        "weights: small, which ship with vox2vec (3 mm, 0.7 million parameters, MODEL_CARD.md), because the released "
        "ones are neither in the cache nor in reach"
    )
    return vox2vec_small()


def cache_of(arguments: argparse.Namespace) -> Cache:
    """The cache that the arguments name, for their spacing and patch size."""
    recipe = Recipe(spacing_mm=tuple(arguments.spacing), patch_size=tuple(arguments.patch_size))
    return Cache(arguments.cache_dir, recipe, table=not arguments.no_table)


def names_data(arguments: argparse.Namespace) -> bool:
    """Whether any data set is named."""
    folders = (getattr(arguments, f"{name}_dir") for name in (*_ARCHIVES, *_TREES))
    return bool(arguments.data_dir or arguments.amid or any(folders))


def sources_of(arguments: argparse.Namespace, *, num_workers: int = 1) -> list[Source]:
    """The data sets that the arguments name; the phantoms, said on stderr, where they name none."""
    if arguments.labels_dir is not None and len(arguments.data_dir) != 1:
        raise ValueError(f"--labels_dir goes with exactly one --data_dir, got {len(arguments.data_dir)}")
    named: list[Source] = [
        opened(folder) for name, opened in _ARCHIVES.items() if (folder := getattr(arguments, f"{name}_dir"))
    ]
    named += [
        opened(folder, num_workers=max(1, num_workers))
        for name, opened in _TREES.items()
        if (folder := getattr(arguments, f"{name}_dir"))
    ]
    named += [own_data(path, labels=arguments.labels_dir) for path in arguments.data_dir]
    named += [_amid(text, "--amid takes NAME=DIR") for text in arguments.amid]
    if not named:
        print("NO DATA SET WAS NAMED: taking 8 synthetic phantoms, good for trying out only", file=sys.stderr)
        named = [Phantoms()]
    return named


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
        return {"": _amid(arguments.amid or "", "--dataset amid needs --amid NAME=DIR")}
    images = _needed(arguments.images_dir, "--images_dir", dataset)
    return {"": labelled_data(images, labels=arguments.labels_dir, names=arguments.names)}


def checked_output(
    path: Path, *, suffixes: Sequence[str] = (), inputs: Iterable[str | PathLike[str] | None] = ()
) -> Path:
    """The file to write, if it can be written and nothing that is read is lost by it; for before the work.

    Args:
        suffixes: one of which ends its name; none: any name.
        inputs: what the command reads. What is no path (a name of weights, a Hub repository, None) is passed over;
            in a folder that is read, an earlier result (a table, a picture, an embedding) may be replaced, and no
            file that could be one of its scans.

    Raises:
        FileNotFoundError: its folder does not exist.
        ValueError: its name ends otherwise; it is an input, under whatever name (links are followed), a folder, or
            read-only; its folder cannot be written to.
    """
    if suffixes and not path.name.endswith(tuple(suffixes)):
        raise ValueError(f"the output's name must end in {' or '.join(suffixes)}, got {path.name}")
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"the folder of the output must exist, {path.resolve().parent} does not; make it first")
    if path.is_dir():
        raise ValueError(f"the output must be a file, {path} is a folder; give a name in it")
    for read in inputs:
        if read is not None:
            _check_that_it_stays(Path(read), path)
    if path.exists() and not _is_writable(path):
        raise ValueError(f"the output must be a file that may be replaced, {path} is read-only; take another name")
    _check_that_it_takes_files(path.resolve().parent)
    return path


def checked_folder(path: Path) -> Path:
    """The folder to write files into, there or to be made, if both can be done; for before the work.

    Raises:
        ValueError: it is a file, or lies in one; it cannot be written to.
    """
    there = next(folder for folder in (path.resolve(), *path.resolve().parents) if folder.exists())
    if not there.is_dir():
        raise ValueError(f"{path} must be a folder, {there} is a file; take another name")
    _check_that_it_takes_files(there)
    return path


def _check_that_it_stays(read: Path, output: Path) -> None:
    if not (read.exists() and output.exists()):
        if read.resolve() == output.resolve():
            raise ValueError(f"the output must differ from what is read, got {output} for both; take another name")
        return
    if read.samefile(output):
        raise ValueError(f"the output must differ from what is read, {output} is {read}; take another name")
    if read.is_dir() and any(_may_be_a_scan(name) for name in _names_in(read, output.resolve())):
        raise ValueError(
            f"the output must replace no scan in a folder that is read, {output} is in {read} already; take another "
            "name, or remove it first"
        )


def _names_in(folder: Path, file: Path) -> Iterator[Path]:
    """The names of a file in a folder: its own, and those of links to it or to a folder above it.

    Only links are followed and only hard links of the file are looked at, so that a large folder is listed, not read.
    """
    if file.is_relative_to(folder.resolve()):
        yield file
    number = file.stat().st_ino
    for entry in _entries_below(folder):
        if entry.is_symlink():
            if file.is_relative_to(os.path.realpath(entry.path)):
                yield file if entry.is_dir() else Path(entry.path)
        elif entry.inode() == number and file.samefile(entry.path):
            yield Path(entry.path)


def _entries_below(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries_below(entry.path)


def _may_be_a_scan(file: Path) -> bool:
    return not file.name.lower().endswith(_RESULTS) or is_dicom_file(file)


def _is_writable(file: Path) -> bool:
    """Root may write whatever the mode says; a file that is marked read-only is meant to stay all the same."""
    return bool(file.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)) and os.access(file, os.W_OK)


def _check_that_it_takes_files(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{folder} must be a folder that files can be written to: {error.strerror}") from error


def _amid(text: str, rule: str) -> Source:
    name, equals, folder = text.partition("=")
    if not equals or not folder:
        raise ValueError(f"{rule}, such as KiTS23=/data/kits; got {text!r}")
    return amid_set(name, Path(folder))


def _needed(path: Path | None, flag: str, dataset: str) -> Path:
    if path is None:
        raise ValueError(f"--dataset {dataset} needs {flag}")
    return path
