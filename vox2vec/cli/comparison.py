"""Runs side by side: the paper's table, setups by rows and organs by columns, and the table of its 22 tasks."""

from collections.abc import Mapping, Sequence

from vox2vec.cli.labelled import MSD_TASKS
from vox2vec.data.phantom import BTCV_ORGANS
from vox2vec.training.results import Results, Row, difference, summary

PUBLISHED = {  # average Dice of 13 organs and 5 folds of BTCV, docs/method.md section 4
    ("from_scratch", "linear"): (0.77, 0.03),
    ("probing", "linear"): (0.65, 0.01),
    ("probing", "nonlinear"): (0.73, 0.01),
    ("fine-tuning", "linear"): (0.78, 0.02),
}
_MSD_STRUCTURES = {  # of the paper's tasks, by label number
    "Task03_Liver": {1: "liver", 2: "liver tumour"},
    "Task06_Lung": {1: "lung tumour"},
    "Task07_Pancreas": {1: "pancreas", 2: "pancreas tumour"},
    "Task08_HepaticVessel": {1: "hepatic vessel", 2: "hepatic tumour"},
    "Task09_Spleen": {1: "spleen"},
    "Task10_Colon": {1: "colon cancer"},
}


def comparison_table(runs: Mapping[str, Results], *, metric: str = "dice") -> tuple[list[str], list[list[str]]]:
    """Header and rows: each run's heads, mean and SD over folds for each structure; the published ones of BTCV last."""
    structures = list(dict.fromkeys(name for run in runs.values() for name in run.structures.values()))
    header = ["run", "folds", *structures, "mean", "95 % interval"]
    rows = []
    for name, run in runs.items():
        summed = summary(run)
        for head in run.heads:
            of_head = {row.structure: row for row in summed if row.head == head and row.metric == metric}
            mean = of_head["mean"]
            cells = [plus_minus(of_head[s]) if s in of_head else "" for s in (*structures, "mean")]
            rows.append([f"{name}, {head}", str(len(run.folds)), *cells, f"{mean.low:.3f} to {mean.high:.3f}"])
    if metric == "dice" and any(list(run.structures.values()) == list(BTCV_ORGANS.values()) for run in runs.values()):
        for (setup, head), (value, sd) in PUBLISHED.items():
            empty = [""] * len(structures)
            rows.append([f"published (BTCV), {setup}, {head}", "5", *empty, f"{value:.2f} ± {sd:.2f}", ""])
    return header, rows


def differences_table(runs: Mapping[str, Results], *, metric: str = "dice") -> tuple[list[str], list[list[str]]]:
    """Header and rows: every later run less the first, head by head, over the patients that both were tested on."""
    (first, reference), *others = runs.items()
    rows = []
    for name, run in others:
        for head in [head for head in run.heads if head in reference.heads]:
            found = difference(run, reference, head, metric)
            if found is not None:
                rows.append(
                    [f"{name} - {first}, {head}", f"{found.mean:+.3f}", f"{found.low:+.3f} to {found.high:+.3f}"]
                )
    return ["paired difference", "mean", "95 % interval"], rows


def paper_table(finished: Mapping[str, Results]) -> tuple[list[str], list[list[str]]]:
    """Header and the 22 rows of the paper's tasks, those without data as missing.

    Args:
        finished: by "btcv" or the task's folder, such as "Task03_Liver".
    """
    tasks = [("BTCV", "btcv", number, name) for number, name in BTCV_ORGANS.items()]
    for task in MSD_TASKS.values():
        tasks += [(f"MSD {task}", task, number, name) for number, name in _MSD_STRUCTURES[task].items()]
    heads = list(dict.fromkeys(head for run in finished.values() for head in run.heads))
    rows = []
    for data, key, number, name in tasks:
        cells = ["missing"] * len(heads)
        if key in finished:
            run = finished[key]
            own = run.structures.get(str(number), "")
            table = {(r.head, r.structure): r for r in summary(run) if r.metric == "dice"}
            cells = [plus_minus(table[head, own]) if (head, own) in table else "missing" for head in heads]
        rows.append([data, name, *cells])
    return ["data", "structure", *heads], rows


def plus_minus(row: Row) -> str:
    """Mean and SD over folds, the mean alone for one fold, a dash where there is nothing."""
    if row.mean != row.mean:
        return "-"
    return f"{row.mean:.3f}" if row.sd != row.sd else f"{row.mean:.3f} ± {row.sd:.3f}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """As Markdown."""
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
