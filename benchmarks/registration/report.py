"""The tables of registration: what the lines of a results file say."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vox2vec.evaluation.table import markdown
from vox2vec.matching.recovery import recall

FAILED = "failed"
_LOST_MM = 1e4
Line = Mapping[str, Any]


def report(lines: Sequence[Line], groups: Mapping[str, Sequence[str]], ways: Mapping[str, str]) -> str:
    """A table a group.

    Args:
        groups: the pairs of each.
        ways: what the reader sees of each.
    """
    parts = []
    for group, pairs in groups.items():
        rows = {}
        for way, name in ways.items():
            of_way = [line for line in lines if line["way"] == way and line["pair"] in pairs]
            if of_way:
                rows[name] = _cells(of_way, len(pairs))
        if rows:
            columns = list(dict.fromkeys(column for row in rows.values() for column in row))
            table = [[name, *(row.get(column, "") for column in columns)] for name, row in rows.items()]
            parts.append(f"### {group}\n\n{markdown(['', *columns], table)}\n")
    return "\n".join(parts)


def _cells(lines: Sequence[Line], pairs: int) -> dict[str, str]:
    """Of one way: errors of all pairs together, Dice and folding their mean, seconds their median, memory the most."""
    done = [line for line in lines if FAILED not in line]
    cells: dict[str, str] = {}
    errors = np.array([error for line in done for error in line.get("errors_mm", ())])
    if len(errors):
        quantiles = np.quantile(errors.clip(max=2 * _LOST_MM), (0.5, 0.95))  # finite, so that they can be interpolated
        median, far = (f"{mm:.1f}" if mm < _LOST_MM else "not found" for mm in quantiles)
        cells |= {"median, mm": median, "95 %, mm": far}
        cells["within 5 mm"] = f"{recall(errors, within_mm=5):.0%}"
    scores = [np.nanmean(list(line["dice"].values())) for line in done if "dice" in line]
    if scores:
        cells["mean Dice"] = f"{np.mean(scores):.3f}"
    folds = [line["folding"] for line in done if "folding" in line]
    if folds:
        cells["folding"] = f"{np.mean(folds):.2%}"
    if done:
        cells |= {"seconds": f"{_median(done, 'seconds'):.0f}", "CPU seconds": f"{_median(done, 'cpu_s'):.0f}"}
        cells["GiB"] = f"{max(line['gib'] for line in done):.1f}"
    if len(done) < pairs:
        cells["note"] = "; ".join([f"{len(done)} of {pairs} pairs", *_reasons(lines)])
    return cells


def _median(lines: Iterable[Line], key: str) -> float:
    return float(np.median([line[key] for line in lines]))


def _reasons(lines: Iterable[Line]) -> list[str]:
    return list(dict.fromkeys(line[FAILED] for line in lines if FAILED in line))
