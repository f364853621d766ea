"""Results of folds: read back as written, summed up as a loop does, compared patient by patient."""

import csv
import json
import math

import numpy as np
import pytest

from vox2vec.training.results import Results, difference, summary, write_summary

STRUCTURES = {"1": "liver", "2": "spleen"}


def _scores(liver, spleen):
    def one(value):
        absent = value is None
        return {
            "dice": value,
            "dice_original": value,
            "surface_dice_2mm": value,
            "hausdorff95_mm": None if absent or value == 0 else 10 - value,
            "voxels_true": 0 if absent else 50,
            "voxels_found": 0 if absent or value == 0 else 40,
        }

    return {"liver": one(liver), "spleen": one(spleen)}


def _results(shift=0.0, setup="probing"):
    folds = {
        "0": {"a": _scores(0.5 + shift, 0.2), "b": _scores(0.7 + shift, None)},
        "2": {"c": _scores(0.9 + shift, 0.0)},
    }
    return Results(
        {"setup": setup, "train_size": None},
        STRUCTURES,
        {fold: {"split": {}, "scores": {"linear": scores}} for fold, scores in folds.items()},
    )


def test_they_come_back_as_they_were_written(tmp_path):
    _results().write(tmp_path / "results.json")
    assert Results.read(tmp_path) == Results.read(tmp_path / "results.json") == _results()


def test_the_summary_counts_what_is_absent_and_missed(tmp_path):
    rows = {(row.structure, row.metric): row for row in summary(_results())}
    liver, spleen, mean = rows["liver", "dice"], rows["spleen", "dice"], rows["mean", "dice"]
    assert liver.mean == pytest.approx((0.6 + 0.9) / 2)
    assert liver.sd == pytest.approx(np.std([0.6, 0.9], ddof=1))
    assert (liver.patients, liver.absent, liver.missed) == (3, 0, 0)
    assert (spleen.patients, spleen.absent, spleen.missed) == (2, 1, 1)
    assert spleen.mean == pytest.approx((0.2 + 0.0) / 2)
    assert mean.mean == pytest.approx(((0.6 + 0.2) / 2 + (0.9 + 0.0) / 2) / 2)
    assert mean.low <= (0.7 + 0.1) / 2 <= mean.high
    assert rows["spleen", "hausdorff95_mm"].mean == pytest.approx(9.8)  # the missed one has none
    write_summary(list(rows.values()), tmp_path / "summary.csv")
    with (tmp_path / "summary.csv").open(newline="") as file:
        (told,) = [row for row in csv.DictReader(file) if (row["structure"], row["metric"]) == ("liver", "dice")]
    assert (told["mean"], told["patients"]) == ("0.7500", "3")


def test_a_difference_is_of_the_patients_of_both():
    found = difference(_results(0.05, "fine-tuning"), _results(), "linear")
    assert found == pytest.approx((0.025, 0.025, 0.05), abs=1e-9)  # the spleen's is 0, or left out with its patients
    other = Results(_results().settings, STRUCTURES, {"0": {"scores": {"linear": {"z": _scores(0.1, 0.1)}}}})
    assert difference(other, _results(), "linear") is None


def test_one_fold_has_no_spread():
    results = _results()
    one = Results(results.settings, results.structures, {"0": results.folds["0"]})
    assert all(math.isnan(row.sd) for row in summary(one))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must hold results.json"),
        ("{", "must be the results of an evaluation"),
        ("[]", "must be the results of an evaluation"),
        (json.dumps({"format_version": 0}), "of another version"),
    ],
)
def test_what_is_no_run_is_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        Results.read(tmp_path)
