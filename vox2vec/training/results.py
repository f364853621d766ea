"""What an evaluation leaves for a person: results.json with every patient, summary.csv, and comparisons of runs."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vox2vec.metrics.intervals import Interval, bootstrap, paired_difference, spread_over_folds
from vox2vec.training.evaluation import METRICS

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Results:
    """One run's results.

    Attributes:
        settings: what was run: setup, data, weights and their fingerprint, seeds, versions, the command.
        structures: number (as text) to name.
        folds: fold (as text) to its split and the scores of its test patients: `scores[head][id][structure]`.
    """

    settings: Mapping[str, Any]
    structures: Mapping[str, str]
    folds: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """Such as "probing, 4 scans"."""
        size = self.settings.get("train_size")
        return f"{self.settings['setup']}" + (f", {size} scan{'s' * (size > 1)}" if size else "")

    @property
    def heads(self) -> list[str]:
        return list(dict.fromkeys(head for fold in self.folds.values() for head in fold["scores"]))

    def patients(self, head: str) -> dict[str, str]:
        """Each test patient's fold."""
        return {id: fold for fold, result in self.folds.items() for id in result["scores"].get(head, {})}

    def table(self, head: str, metric: str) -> np.ndarray:
        """(patients, structures), in the order of `patients` and `structures`; NaN where there is no score."""
        scores = {id: s for result in self.folds.values() for id, s in result["scores"].get(head, {}).items()}
        rows = [[scores[id][name].get(metric) for name in self.structures.values()] for id in self.patients(head)]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.structures))

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        partial = path.with_name(path.name + ".partial")
        fields = {
            "format_version": FORMAT_VERSION,
            "settings": self.settings,
            "structures": self.structures,
            "folds": self.folds,
        }
        partial.write_text(json.dumps(fields, indent=1, allow_nan=False))
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Of a results.json, or the folder of a run.

        Raises:
            ValueError: no results there, or of another version.
        """
        file = path / "results.json" if path.is_dir() else path
        if not file.is_file():
            raise ValueError(f"a run must hold results.json, {path} has none; finish it with eval.py")
        try:
            fields = json.loads(file.read_text())
            if fields.pop("format_version") != FORMAT_VERSION:
                raise ValueError(f"{file} is of another version; run the evaluation again")
            return cls(**fields)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{file} must be the results of an evaluation, it is not ({error})") from error


@dataclass(frozen=True)
class Row:
    """One line of a summary: a metric of one structure, or of all ("mean"), over the test patients of all folds.

    Attributes:
        mean, sd: over the folds' means; `sd` is NaN for one fold.
        low, high: 95 % bootstrap interval of the mean over patients.
        patients: that have the structure.
        absent: without it, left out.
        missed: that have it, and nothing was found; they have no Hausdorff distance.
    """

    head: str
    structure: str
    metric: str
    mean: float
    sd: float
    low: float
    high: float
    patients: int
    absent: int
    missed: int


def summary(results: Results) -> list[Row]:
    """Every head, metric and structure, and their mean."""
    rows = []
    for head in results.heads:
        folds = np.array(list(results.patients(head).values()))
        true, found = (results.table(head, name) for name in ("voxels_true", "voxels_found"))
        for metric in METRICS:
            table = results.table(head, metric)
            columns = {name: [i] for i, name in enumerate(results.structures.values())}
            for structure, chosen in {**columns, "mean": list(range(table.shape[1]))}.items():
                part = table[:, chosen]
                mean, sd = spread_over_folds(part, folds)
                _, low, high = bootstrap(part)
                there = true[:, chosen] > 0
                missed = int((there & (found[:, chosen] == 0)).sum())
                counts = int(there.sum()), int((~there).sum()), missed
                rows.append(Row(head, structure, metric, mean, sd, low, high, *counts))
    return rows


def write_summary(rows: list[Row], path: Path) -> None:
    """As CSV; numbers to four digits, empty where there is none."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row.__dataclass_fields__)
        for row in rows:
            writer.writerow(_told(getattr(row, name)) for name in Row.__dataclass_fields__)


def difference(one: Results, other: Results, head: str, metric: str = "dice") -> Interval | None:
    """The mean of `one` less that of `other` on the patients both were tested on; None where they share none."""
    shared = sorted(set(one.patients(head)) & set(other.patients(head)))
    if not shared or list(one.structures.values()) != list(other.structures.values()):
        return None
    tables = []
    for results in (one, other):
        rows = {id: i for i, id in enumerate(results.patients(head))}
        tables.append(results.table(head, metric)[[rows[id] for id in shared]])
    return paired_difference(*tables)


def _told(value: Any) -> Any:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4f}"
    return value
