"""The arguments that name data sets and their cache, shared by the commands that read them."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from vox2vec.data.cache import Cache
from vox2vec.data.sources.amid_set import amid_set
from vox2vec.data.sources.own import own_data
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.data.sources.public_sets import amos, flare2022, lidc, midrc, nlst, nsclc
from vox2vec.data.sources.source import Source
from vox2vec.recipe import PAPER, Recipe

_TREES: dict[str, Callable[..., Source]] = {"nlst": nlst, "nsclc": nsclc, "midrc": midrc, "lidc": lidc}
_ARCHIVES: dict[str, Callable[[Path], Source]] = {"amos": amos, "flare": flare2022}


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag for each public data set, one for anyone's own data, one for amid's."""
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
    group.add_argument("--label_dir", metavar="DIR", type=Path, help="labels of the one --data_dir, named as the scans")
    group.add_argument(
        "--amid",
        metavar="NAME=DIR",
        action="append",
        default=[],
        help="a CT data set of amid, such as KiTS23=/data/kits; needs vox2vec[amid]; may be given again",
    )


def add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    """The cache, and how its CTs are prepared: the paper's way by default."""
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
    if arguments.label_dir is not None and len(arguments.data_dir) != 1:
        raise ValueError(f"--label_dir goes with exactly one --data_dir, got {len(arguments.data_dir)}")
    named: list[Source] = [
        opened(folder) for name, opened in _ARCHIVES.items() if (folder := getattr(arguments, f"{name}_dir"))
    ]
    named += [
        opened(folder, num_workers=max(1, num_workers))
        for name, opened in _TREES.items()
        if (folder := getattr(arguments, f"{name}_dir"))
    ]
    named += [own_data(path, labels=arguments.label_dir) for path in arguments.data_dir]
    for text in arguments.amid:
        name, equals, folder = text.partition("=")
        if not equals or not folder:
            raise ValueError(f"--amid takes NAME=DIR, such as KiTS23=/data/kits; got {text!r}")
        named.append(amid_set(name, Path(folder)))
    if not named:
        print("NO DATA SET WAS NAMED: taking 8 synthetic phantoms, good for trying out only", file=sys.stderr)
        named = [Phantoms()]
    return named
