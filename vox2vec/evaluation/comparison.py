"""Runs side by side: setups by rows and structures by columns, their paired differences, and both as a figure."""

from collections.abc import Mapping
from pathlib import Path

from vox2vec.data.sources.structures import BTCV_ORGANS
from vox2vec.evaluation.published import PUBLISHED
from vox2vec.evaluation.results import Results, difference, summary
from vox2vec.evaluation.table import plus_minus
from vox2vec.figures.charts import dice_figure


def comparison_table(runs: Mapping[str, Results], *, metric: str = "dice") -> tuple[list[str], list[list[str]]]:
    """Header and rows: each run's heads, mean and SD over folds for each structure; the published ones of BTCV last."""
    structures = list(dict.fromkeys(name for run in runs.values() for name in run.structures.values()))
    header = ["run", "folds", *structures, "mean", "95 % interval"]
    rows = []
    for name, run in runs.items():
        summed = summary(run)
        for head in run.heads:
            of_head = {row.structure: row for row in summed if row.head == head and row.metric == metric}
            told = {structure: plus_minus(row.mean, row.sd) for structure, row in of_head.items()}
            cells = [told.get(structure, "") for structure in (*structures, "mean")]
            mean = of_head["mean"]
            rows.append([f"{name}, {head}", str(len(run.folds)), *cells, f"{mean.low:.3f} to {mean.high:.3f}"])
    if metric == "dice" and any(list(run.structures.values()) == list(BTCV_ORGANS.values()) for run in runs.values()):
        for (setup, head), (value, sd) in PUBLISHED.items():
            empty = [""] * len(structures)
            rows.append([f"published (BTCV), {setup}, {head}", "5", *empty, f"{value:.2f} ± {sd:.2f}", ""])
    return header, rows


def differences_table(runs: Mapping[str, Results], *, metric: str = "dice") -> tuple[list[str], list[list[str]]]:
    """Header and rows: every later run less the first, head by head, over the scans that both were tested on.

    "left out" are the structures of scans that one of the two has a score of and the other has none.
    """
    (first, reference), *others = runs.items()
    rows = []
    for name, run in others:
        for head in [head for head in run.heads if head in reference.heads]:
            found = difference(run, reference, head, metric)
            if found is not None:
                interval = f"{found.low:+.3f} to {found.high:+.3f}"
                rows.append([f"{name} - {first}, {head}", f"{found.mean:+.3f}", interval, str(found.left_out)])
    return ["paired difference", "mean", "95 % interval", "left out"], rows


def draw_comparison(runs: Mapping[str, Results], path: Path, *, metric: str = "dice") -> None:
    """A picture with a row for each structure, a dot for each run's head."""
    scores = {
        f"{name}, {head}": {
            row.structure: row.mean for row in summary(results) if row.head == head and row.metric == metric
        }
        for name, results in runs.items()
        for head in results.heads
    }
    dice_figure(scores, title=metric.replace("_", " ")).savefig(path)
