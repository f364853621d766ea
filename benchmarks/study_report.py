"""What the study found, as STUDY.md and figures; from the pieces in its work folder, whichever are there."""

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from vox2vec.evaluation.results import Results
from vox2vec.evaluation.table import markdown
from vox2vec.figures.charts import curves_figure
from vox2vec.matching.recovery import recall

HERE = Path(__file__).parent
NOT_FOUND_MM = 1e4
FOUND_MM = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100)  # of the figures
Cells = Mapping[tuple[str, str], list[float]]  # (row, column) to a value for each seed

ROWS = {  # setup, weights, head to what the reader sees
    ("knn", "random", "nearest"): "nearest neighbours, random weights",
    ("knn", "small", "nearest"): "nearest neighbours, small",
    ("atlas", "small", "atlas"): "atlas by the field, small",
    ("probing", "random", "linear"): "linear probe, random weights",
    ("probing", "small", "linear"): "linear probe, small",
    ("probing", "random", "nonlinear"): "non-linear probe, random weights",
    ("probing", "small", "nonlinear"): "non-linear probe, small",
    ("from_scratch", "none", "linear"): "from scratch",
    ("fine-tuning", "small", "linear"): "small, fine-tuned",
}
SIZES = ("1", "2", "4", "16", "all")
NETWORKS = ("random", "small", "small, fine-tuned", "from scratch")

HEADER = """# The study

What `vox2vec_small` is worth on real CTs that it was not trained on, beside random weights of the same network and
training from scratch. Made by

    python -m benchmarks.study ../shared/data --work DIR

{date}, torch {torch}, CPU. Seeds: {seeds}; a cell is the mean over seeds ± their standard deviation, without ± of a
single seed. A seed draws the scans to learn from, the random weights, the heads and the order of patches.
"""
OPENKBP = """
## (a) Structures of the head and neck

OpenKBP's 51 labelled patients on the network's 3 mm grid; seed s is tested on fold s (11, 10, 10 patients; the folds of
`vox2vec eval`). Mean Dice of 7 structures, by the official protocol, against the number of labelled scans to learn
from; "all" is the 40 or 41 of the other folds. Every training is 300 batches of 7 patches whatever the number of
scans (fine-tuning: 100 with the backbone frozen, 200 without) by Adam, whose rate falls to zero by a cosine: for probes
from 3e-2, the best of 1e-2, 3e-2 and 1e-1 with 4 scans and small on fold 4, which is not tested here; for the others
from 3e-3, tried there once. That is little: longer training would come further, above all from scratch. Nearest
neighbours train nothing; they hold at most 8,500 voxels of a scan and 40,000 in all, drawn by chance, so that 16 scans
are voxels of more patients, not more voxels. The atlas trains nothing either: the structures of each labelled scan are
carried to the tested one by the field between the two, and all vote.
"""
TORSO = """
## (a) Structures of the torso, from one scan to the other

A chest with upper abdomen (LIDC-IDRI-0001) and an abdomen with pelvis (TotalSegmentator's test file); mean Dice of the
{count} structures that both hold, learned from one scan, tested on the other. The labels are automatic ones, and many
structures are cut by the end of one of the scans.
"""
PAIR = """
## (b) Landmarks of the lung pair

51 landmarks of a lung at baseline, looked for at follow-up (mean displacement 35 mm), in mm; `vox2vec match`, and
normalised cross-correlation of patches of three sizes for comparison, in which there is no chance.
"""
COPIES = """
## (c) Points found again in bent copies

Each scan is turned, scaled, bent and given other HU and noise; 200 points of the copy's body are looked for among all
body voxels of the scan. Median error in mm, scan by scan; those of OpenKBP are the first four test patients of the
seed's fold.
"""


def report(work: Path, folder: Path = HERE) -> None:
    """Write STUDY.md and its figures into a folder, by default beside this file."""
    found = (*work.glob("*_seed*.json"), *work.glob("*/*_seed*"))
    seeds = ", ".join(map(str, sorted({_seed(path) for path in found}))) or "none yet"
    text = HEADER.format(date=datetime.date.today().isoformat(), torch=torch.__version__, seeds=seeds)
    text += _openkbp(_results(work, "openkbp"), folder) + _torso(_results(work, "torso"))
    text += _pair(_errors(work, "pair"), folder) + _copies(_errors(work, "copies"), folder)
    (folder / "STUDY.md").write_text(text, encoding="utf-8")


def _seed(path: Path) -> int:
    return int(path.stem.rpartition("seed")[2])


def _results(work: Path, part: str) -> dict[str, Results]:
    """By the name of the run."""
    return {path.parent.name: Results.read(path) for path in sorted(work.glob(f"{part}/*/results.json"))}


def _errors(work: Path, part: str) -> list[dict[str, list[float]]]:
    """Of each seed: errors in mm, by method."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(work.glob(f"{part}_seed*.json"))]


def _openkbp(runs: Mapping[str, Results], folder: Path) -> str:
    if not runs:
        return ""
    cells = _dice_cells(runs)
    text = OPENKBP + _table(cells, list(ROWS.values()), SIZES, "{:.3f}")
    missing = [row for row in ROWS.values() if not any((row, size) in cells for size in SIZES)]
    text += f"\nNot run yet: {'; '.join(missing)}.\n" if missing else ""
    everyone = {len(next(iter(r.folds.values()))["split"]["train"]) for n, r in runs.items() if "_all_" in n}
    values = {
        row: {x: cells[row, size] for x, size in _places(everyone) if (row, size) in cells}
        for row in ROWS.values()
        if row not in missing
    }
    means = {row: {x: float(np.mean(found)) for x, found in curve.items()} for row, curve in values.items()}
    spread = {
        row: {x: _deviation(found) for x, found in curve.items() if len(found) > 1} for row, curve in values.items()
    }
    fig = curves_figure(means, "labelled scans to learn from", "mean Dice", spread=spread, log=True)
    fig.savefig(folder / "study_dice.png")
    caption = "Mean Dice against the number of labelled scans, ± a standard deviation over seeds"
    return f"{text}\n![{caption}](study_dice.png)\n"


def _torso(runs: Mapping[str, Results]) -> str:
    if not runs:
        return ""
    columns = ("chest to abdomen", "abdomen to chest")
    count = len(next(iter(runs.values())).structures)
    return TORSO.format(count=count) + _table(_torso_cells(runs), list(ROWS.values()), columns, "{:.3f}")


def _pair(seeds: list[dict[str, list[float]]], folder: Path) -> str:
    if not seeds:
        return ""
    text = PAIR + _pair_table(seeds)
    pooled: dict[str, list[float]] = {}
    for errors in seeds:
        for name, values in errors.items():
            pooled.setdefault(name, []).extend(values)
    _recall_figure({name: pooled[name] for name in _in_order(pooled)}, folder / "study_pair.png")
    return text + "\n![Share of the landmarks found, against the distance that counts as found](study_pair.png)\n"


def _copies(seeds: list[dict[str, list[float]]], folder: Path) -> str:
    if not seeds:
        return ""
    medians: dict[tuple[str, str], list[float]] = {}
    pooled: dict[str, list[float]] = {}
    for errors in seeds:
        for name, values in errors.items():
            network, _, scan = name.partition(": ")
            medians.setdefault((scan, network), []).append(float(np.median(values)))
            pooled.setdefault(network, []).extend(values)
    text = COPIES + _table(medians, sorted({scan for scan, _ in medians}), NETWORKS, "{:.1f}")
    _recall_figure({name: pooled[name] for name in _in_order(pooled)}, folder / "study_copies.png")
    return text + "\n![Share of the points found, against the distance that counts as found](study_copies.png)\n"


def _recall_figure(errors: Mapping[str, list[float]], path: Path) -> None:
    """Over all seeds and scans together."""
    curves = {name: {mm: 100 * recall(np.array(e), within_mm=mm) for mm in FOUND_MM} for name, e in errors.items()}
    curves_figure(curves, "distance that counts as found, mm", "found, %", log=True).savefig(path)


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (*NETWORKS, name).index(name))


def _dice_cells(runs: Mapping[str, Results]) -> dict[tuple[str, str], list[float]]:
    cells: dict[tuple[str, str], list[float]] = {}
    for name, results in runs.items():
        setup, weights, size, _ = name.rsplit("_", 3)
        for head in results.heads:
            value = float(np.nanmean(results.table(head, "dice")))
            cells.setdefault((ROWS[setup, weights, head], size), []).append(value)
    return cells


def _torso_cells(runs: Mapping[str, Results]) -> dict[tuple[str, str], list[float]]:
    cells: dict[tuple[str, str], list[float]] = {}
    for name, results in runs.items():
        setup, weights, _ = name.rsplit("_", 2)
        for head in results.heads:
            means = np.nanmean(results.table(head, "dice"), axis=1)
            for mean, scan in zip(means, results.scans(head), strict=True):
                cells.setdefault((ROWS[setup, weights, head], scan.fold.replace("_", " ")), []).append(float(mean))
    return cells


def _places(everyone: set[int]) -> list[tuple[float, str]]:
    """Where a number of scans stands along the axis."""
    return [(float(size) if size != "all" else float(max(everyone, default=40)), size) for size in SIZES]


def _table(cells: Cells, rows: list[str], columns: tuple[str, ...], shape: str) -> str:
    shown = [column for column in columns if any((row, column) in cells for row in rows)]
    there = [row for row in rows if any((row, column) in cells for column in shown)]
    told = [[row, *(_cell(cells.get((row, column)), shape) for column in shown)] for row in there]
    return f"\n{markdown(['', *shown], told)}\n"


def _cell(values: list[float] | None, shape: str) -> str:
    if not values:
        return ""
    spread = f" ± {shape.format(_deviation(values))}" if len(values) > 1 else ""
    return shape.format(float(np.mean(values))) + spread


def _deviation(values: list[float]) -> float:
    return float(np.std(values, ddof=1))


def _pair_table(seeds: list[dict[str, list[float]]]) -> str:
    cells: dict[tuple[str, str], list[float]] = {}
    columns = ("median", "95 %", "within 5 mm, %", "within 10 mm, %")
    for errors in seeds:
        for name, values in errors.items():
            told = np.array(values)
            numbers = (
                np.median(told),
                np.percentile(told, 95),
                100 * recall(told, within_mm=5),
                100 * recall(told, within_mm=10),
            )
            for column, number in zip(columns, numbers, strict=True):
                cells.setdefault((name, column), []).append(float(number))
    return _table(cells, _in_order(dict.fromkeys(name for name, _ in cells)), columns, "{:.1f}")
