"""What an evaluation leaves for a person: results.json with every scan, summary.csv, and comparisons of runs."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vox2vec.data.splits import patient_of
from vox2vec.evaluation.scores import METRICS
from vox2vec.metrics.intervals import Difference, bootstrap, paired_difference, spread_over_folds

FORMAT_VERSION = 2
_READ_VERSIONS = (1, 2)  # the first did not name the patients


class ScoredScan(NamedTuple):
    """What a row of a table is of. A scan that is tested in two splits has two rows."""

    fold: str
    patient: str
    scan: str


@dataclass(frozen=True)
class Results:
    """One run's results.

    Attributes:
        settings: what was run: setup, data, weights and their fingerprint, seeds, versions, the command.
        structures: number (as text) to name.
        folds: fold (as text) to its split, the scores of its test scans, `scores[head][id][structure]`, and whose each
            scan is, `patients[id]`.
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

    def scans(self, head: str) -> list[ScoredScan]:
        """What each row of `table` is of."""
        return [
            ScoredScan(fold, result.get("patients", {}).get(id, patient_of(id)), id)
            for fold, result in self.folds.items()
            for id in result["scores"].get(head, {})
        ]

    def table(self, head: str, metric: str) -> np.ndarray:
        """(scans, structures), in the order of `scans` and `structures`; NaN where there is no score."""
        scores = [of_scan for result in self.folds.values() for of_scan in result["scores"].get(head, {}).values()]
        rows = [[of_scan[name].get(metric) for name in self.structures.values()] for of_scan in scores]
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
        partial.write_text(json.dumps(fields, indent=1, allow_nan=False), encoding="utf-8")
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Of a results.json, or the folder of a run; version 1, which names no patients, is read too.

        Raises:
            ValueError: no results there, or of another version.
        """
        file = path / "results.json" if path.is_dir() else path
        if not file.is_file():
            raise ValueError(f"a run must hold results.json, {path} has none; finish it with eval.py")
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
            if fields.pop("format_version") not in _READ_VERSIONS:
                raise ValueError(f"{file} is of another version; run the evaluation again")
            return cls(**fields)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{file} must be the results of an evaluation, it is not ({error})") from error


@dataclass(frozen=True)
class Row:
    """One line of a summary: a metric of one structure, or of all ("mean"), over the test scans of all folds.

    Attributes:
        mean, sd: over the folds' means; `sd` is NaN for one fold.
        low, high: 95 % bootstrap interval of the mean over patients, each with all its scans.
        patients: that have the structure.
        scans: that have it.
        absent: scans without it, left out.
        missed: scans that have it, and nothing was found; they have no Hausdorff distance.
    """

    head: str
    structure: str
    metric: str
    mean: float
    sd: float
    low: float
    high: float
    patients: int
    scans: int
    absent: int
    missed: int


def summary(results: Results) -> list[Row]:
    """Every head, metric and structure, and their mean, whose counts are the structures' sums."""
    rows = []
    for head in results.heads:
        scans = results.scans(head)
        folds, patients = (np.array([getattr(scan, name) for scan in scans]) for name in ("fold", "patient"))
        true, found = (results.table(head, name) for name in ("voxels_true", "voxels_found"))
        for metric in METRICS:
            table = results.table(head, metric)
            columns = {name: [i] for i, name in enumerate(results.structures.values())}
            for structure, chosen in {**columns, "mean": list(range(table.shape[1]))}.items():
                part = table[:, chosen]
                mean, sd = spread_over_folds(part, folds)
                _, low, high = bootstrap(part, patients)
                there = true[:, chosen] > 0
                missed = int((there & (found[:, chosen] == 0)).sum())
                having = sum(len(set(patients[column])) for column in there.T)
                counts = having, int(there.sum()), int((~there).sum()), missed
                rows.append(Row(head, structure, metric, mean, sd, low, high, *counts))
    return rows


def write_summary(rows: list[Row], path: Path) -> None:
    """As CSV; numbers to four digits, empty where there is none."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Row.__dataclass_fields__)
        for row in rows:
            writer.writerow(_told(getattr(row, name)) for name in Row.__dataclass_fields__)


def difference(one: Results, other: Results, head: str, metric: str = "dice") -> Difference | None:
    """The mean of `one` less that of `other` on the scans both were tested on; None where they share none.

    A scan that either was tested on more than once is paired fold by fold.
    """
    if list(one.structures.values()) != list(other.structures.values()):
        return None
    rows = _paired_rows(one.scans(head), other.scans(head))
    if not rows:
        return None
    mine, others = map(list, zip(*rows, strict=True))
    patients = np.array([one.scans(head)[row].patient for row in mine])
    return paired_difference(one.table(head, metric)[mine], other.table(head, metric)[others], patients)


def _paired_rows(one: list[ScoredScan], other: list[ScoredScan]) -> list[tuple[int, int]]:
    """Rows of the same scan, in the order of the scans' names."""
    here, there = _rows_by_scan(one), _rows_by_scan(other)
    paired: list[tuple[int, int]] = []
    for id in sorted(set(here) & set(there)):
        if len(here[id]) == len(there[id]) == 1:
            paired += zip(here[id].values(), there[id].values(), strict=True)
        else:
            paired += [(row, there[id][fold]) for fold, row in here[id].items() if fold in there[id]]
    return paired


def _rows_by_scan(scans: list[ScoredScan]) -> dict[str, dict[str, int]]:
    """For each scan the row of each fold that it was tested in."""
    rows: dict[str, dict[str, int]] = {}
    for row, (fold, _, id) in enumerate(scans):
        rows.setdefault(id, {})[fold] = row
    return rows


def _told(value: Any) -> Any:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4f}"
    return value
