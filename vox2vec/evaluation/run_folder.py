"""The log folder of an evaluation: its settings, its results as they come, its pictures."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vox2vec.data.sources.source import Source
from vox2vec.evaluation.fold import FOLD, found_labels
from vox2vec.evaluation.results import Results, summary, write_summary
from vox2vec.figures.charts import dice_figure
from vox2vec.figures.segmentation import segmentation_figure
from vox2vec.reading.labels import read_labels

_SETTINGS = "settings.json"


def keep_settings(log_dir: Path, settings: Mapping[str, Any]) -> None:
    """Write them where the run is new; refuse to go on with others."""
    log_dir.mkdir(parents=True, exist_ok=True)
    path = log_dir / _SETTINGS
    told = json.loads(json.dumps(settings))
    if not path.exists():
        path.write_text(json.dumps(told, indent=1), encoding="utf-8")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [name for name in told if name not in ("versions", "weights") and told[name] != before.get(name)]
    if changed:
        raise ValueError(
            f"{log_dir} holds a run with other settings ({', '.join(changed)}); go on with the same, or take another "
            "--log_dir"
        )


def write_results(log_dir: Path, settings: Mapping[str, Any], names: Mapping[int, str]) -> Results:
    """results.json and summary.csv of all folds that are finished."""
    folds = {
        path.parent.name.removeprefix("fold_"): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(log_dir.glob(f"fold_*/{FOLD}"))
    }
    told = json.loads(json.dumps({**settings, "command": sys.argv}))
    results = Results(told, {str(number): name for number, name in names.items()}, folds)
    results.write(log_dir / "results.json")
    write_summary(summary(results), log_dir / "summary.csv")
    return results


def draw(results: Results, source: Source, log_dir: Path) -> None:
    """The Dice of each structure, and for each head the best, the median and the worst patient."""
    rows = [row for row in summary(results) if row.metric == "dice" and row.structure != "mean"]
    scores = {head: {r.structure: r.mean for r in rows if r.head == head} for head in results.heads}
    title = f"{results.name}: Dice on test patients of {source.name}"
    dice_figure(scores, title=title).savefig(log_dir / "dice.png")
    names = {int(number): name for number, name in results.structures.items()}
    (log_dir / "overlays").mkdir(exist_ok=True)
    for head in results.heads:
        table = results.table(head, "dice_original")
        known = [(s, row) for s, row in zip(results.scans(head), table, strict=True) if np.isfinite(row).any()]
        means = {scan: np.nanmean(row) for scan, row in known}
        ordered = sorted(means, key=lambda scan: float(means[scan]))
        if not ordered:
            continue
        for rank, scan in (("worst", ordered[0]), ("median", ordered[len(ordered) // 2]), ("best", ordered[-1])):
            id = scan.scan
            truth = source.labels(id)
            if truth is None:
                continue
            figure = segmentation_figure(
                source.load(id),
                truth,
                read_labels(found_labels(fold_folder(log_dir, scan.fold), head, id)),
                names,
                title=f"{results.name}, {head} head, {rank} patient: {id}, Dice {means[scan]:.2f}",
            )
            figure.savefig(log_dir / "overlays" / f"{head}_{rank}.png")


def fold_folder(log_dir: Path, fold: str) -> Path:
    """Where one fold leaves its files."""
    return log_dir / f"fold_{fold}"
