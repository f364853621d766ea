"""Runs side by side: how far apart they are, and over what."""

from vox2vec.data.sources.structures import BTCV_ORGANS
from vox2vec.evaluation.comparison import comparison_table, differences_table
from vox2vec.evaluation.published import paper_table
from vox2vec.evaluation.results import Results


def _run(values, structures=None, metric="dice"):
    """Of one fold and head: by scan, the value of each structure."""
    structures = structures or {"1": "liver"}
    scores = {
        id: {
            name: {metric: value, "voxels_true": 5, "voxels_found": 0 if value is None else 5}
            for name, value in zip(structures.values(), of_scan, strict=True)
        }
        for id, of_scan in values.items()
    }
    return Results({"setup": "probing"}, structures, {"0": {"split": {}, "scores": {"linear": scores}}})


def test_a_missed_structure_is_told_as_left_out_of_the_difference():
    first = _run({"a": [4.0], "b": [50.0]}, metric="hausdorff95_mm")
    misses = _run({"a": [5.0], "b": [None]}, metric="hausdorff95_mm")
    header, rows = differences_table({"first": first, "misses": misses}, metric="hausdorff95_mm")
    assert header == ["paired difference", "mean", "95 % interval", "left out"]
    assert rows == [["misses - first, linear", "+1.000", "+1.000 to +1.000", "1"]]


def test_the_published_rows_stand_beside_btcv_alone():
    organs = {str(number): name for number, name in BTCV_ORGANS.items()}
    btcv, other = _run({"a": [0.5] * 13}, organs), _run({"a": [0.5]})
    rows = comparison_table({"mine": btcv})[1]
    assert rows[0][:2] == ["mine, linear", "1"]
    assert [row[0] for row in rows[1:]] == [
        "published (BTCV), from_scratch, linear",
        "published (BTCV), probing, linear",
        "published (BTCV), probing, nonlinear",
        "published (BTCV), fine-tuning, linear",
    ]
    assert len(comparison_table({"mine": other})[1]) == 1
    assert len(comparison_table({"mine": btcv}, metric="dice_original")[1]) == 1


def test_the_papers_22_tasks_are_there_and_missing_where_they_were_not_run():
    organs = {str(number): name for number, name in BTCV_ORGANS.items()}
    header, rows = paper_table({"btcv": _run({"a": [0.25] * 13}, organs)})
    assert header == ["data", "structure", "linear"]
    assert [row[2] for row in rows] == ["0.250"] * 13 + ["missing"] * 9
