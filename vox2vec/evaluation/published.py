"""What the paper printed, and its 22 tasks as one table."""

from collections.abc import Mapping

from vox2vec.data.sources.structures import BTCV_ORGANS, MSD_STRUCTURES, MSD_TASKS
from vox2vec.evaluation.results import Results, summary
from vox2vec.evaluation.table import plus_minus

PUBLISHED = {  # average Dice of 13 organs and 5 folds of BTCV, docs/method.md section 4
    ("from_scratch", "linear"): (0.77, 0.03),
    ("probing", "linear"): (0.65, 0.01),
    ("probing", "nonlinear"): (0.73, 0.01),
    ("fine-tuning", "linear"): (0.78, 0.02),
}


def paper_table(finished: Mapping[str, Results]) -> tuple[list[str], list[list[str]]]:
    """Header and the 22 rows of the paper's tasks, those without data as missing.

    Args:
        finished: by "btcv" or the task's folder, such as "Task03_Liver".
    """
    tasks = [("BTCV", "btcv", number, name) for number, name in BTCV_ORGANS.items()]
    for task in MSD_TASKS.values():
        tasks += [(f"MSD {task}", task, number, name) for number, name in MSD_STRUCTURES[task].items()]
    heads = list(dict.fromkeys(head for run in finished.values() for head in run.heads))
    rows = []
    for data, key, number, name in tasks:
        cells = ["missing"] * len(heads)
        if key in finished:
            run = finished[key]
            own = run.structures.get(str(number), "")
            table = {(r.head, r.structure): plus_minus(r.mean, r.sd) for r in summary(run) if r.metric == "dice"}
            cells = [table.get((head, own), "missing") for head in heads]
        rows.append([data, name, *cells])
    return ["data", "structure", *heads], rows
