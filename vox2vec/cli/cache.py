"""`vox2vec cache ls|verify|prune DIR`: what a cache holds, whether it is whole, and what can go."""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from vox2vec.data.cache import entries_in, problems_in, prune
from vox2vec.data.entry import Entry

BROKEN = 1
_COLUMNS = ("key", "source", "id", "shape", "spacing_mm", "body_fraction", "table", "labels", "megabytes", "path")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec cache`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "cache",
        description="ls: the manifest, as CSV. verify: read every file and compare its sum; exit code 1 where one "
        "is broken. prune: delete broken entries, leftovers, remembered refusals, and with --source a whole data set.",
    )
    parser.add_argument("what", choices=("ls", "verify", "prune"))
    parser.add_argument("cache_dir", metavar="DIR", type=Path)
    parser.add_argument("--source", metavar="NAME", help="prune: delete the CTs of this data set")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Do it and say what was done."""
    folder: Path = arguments.cache_dir
    if not (folder / "scans").is_dir():
        raise ValueError(f"{folder} is no cache: it holds no folder scans; make one with vox2vec warmup-cache")
    if arguments.what == "prune":
        return _prune(folder, arguments.source)
    if arguments.source is not None:
        raise ValueError("--source goes with prune")
    return _ls(folder) if arguments.what == "ls" else _verify(folder)


def _ls(folder: Path) -> int:
    writer = csv.writer(sys.stdout)
    writer.writerow(_COLUMNS)
    writer.writerows(_row(entry) for entry in entries_in(folder))
    return 0


def _row(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.key,
        entry.source,
        entry.id,
        "x".join(map(str, entry.shape)),
        "x".join(f"{s:g}" for s in entry.spacing_mm),
        f"{entry.body_fraction:.3f}",
        "yes" if entry.settings["table"] else "no",
        "yes" if "labels" in entry.files else "no",
        f"{entry.num_bytes / 1e6:.1f}",
        entry.path,
    )


def _verify(folder: Path) -> int:
    problems = problems_in(folder)
    for key, problem in problems:
        print(f"{key}: {problem}")
    print(f"{len(problems)} problems in {len(list((folder / 'scans').iterdir()))} entries of {folder}")
    return BROKEN if problems else 0


def _prune(folder: Path, source: str | None) -> int:
    gone = prune(folder, source=source)
    print(f"deleted: {gone.broken} broken entries, {gone.named} of the data set named, {gone.leftovers} leftovers")
    return 0
