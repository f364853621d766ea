"""A table of findings, written whole or not at all."""

import csv
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path


def write_csv(path: str | PathLike[str], header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV, UTF-8, by way of a temporary name."""
    partial = Path(f"{path}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    partial.replace(path)
