"""Results of folds: read back as written, summed up as a loop does, compared patient by patient."""

import csv
import json
import math

import numpy as np
import pytest

from vox2vec.evaluation.results import Results, difference, summary, write_summary

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
    assert found == pytest.approx((0.025, 0.025, 0.05, 0), abs=1e-9)  # the spleen's is 0, or left out with its patients
    other = Results(_results().settings, STRUCTURES, {"0": {"scores": {"linear": {"z": _scores(0.1, 0.1)}}}})
    assert difference(other, _results(), "linear") is None


def _tested(*rows, patients=True):
    """Folds of (fold, id, Dice of the liver); the patient is what stands before the "/"."""
    folds = {}
    for fold, id, dice in rows:
        result = folds.setdefault(fold, {"split": {}, "scores": {"linear": {}}, "patients": {}})
        result["scores"]["linear"][id] = _scores(dice, None)
        result["patients"][id] = id.split("/")[0]
    if not patients:
        for result in folds.values():
            del result["patients"]
    return Results({"setup": "probing"}, STRUCTURES, folds)


def test_a_scan_of_two_splits_counts_in_both():
    results = _tested(("one", "a", 0.2), ("one", "b", 0.4), ("other", "a", 0.6))
    assert results.scans("linear") == [("one", "a", "a"), ("one", "b", "b"), ("other", "a", "a")]
    np.testing.assert_array_equal(results.table("linear", "dice")[:, 0], [0.2, 0.4, 0.6])
    (liver,) = [row for row in summary(results) if (row.structure, row.metric) == ("liver", "dice")]
    assert liver.mean == pytest.approx((0.3 + 0.6) / 2)
    assert (liver.patients, liver.scans, liver.absent) == (2, 3, 0)
    better = _tested(("one", "a", 0.3), ("one", "b", 0.5), ("other", "a", 0.9))
    assert difference(better, results, "linear").mean == pytest.approx((0.1 + 0.1 + 0.3) / 3)


def test_the_interval_of_a_summary_is_over_patients():
    rows = [(str(p % 2), f"p{p}/{s}", 0.3 + 0.1 * p + 0.001 * s) for p in range(6) for s in range(10)]
    wide, narrow = (_tested(*given) for given in (rows, [(f, id.replace("/", "_"), d) for f, id, d in rows]))
    liver, of_scans = (
        next(row for row in summary(run) if (row.structure, row.metric) == ("liver", "dice")) for run in (wide, narrow)
    )
    assert (liver.patients, liver.scans) == (6, 60)
    assert (of_scans.patients, of_scans.scans) == (60, 60)
    assert liver.high - liver.low > 2.5 * (of_scans.high - of_scans.low)


def test_a_run_that_misses_a_structure_is_not_rewarded_for_it():
    """Its distance has no value there; the other run's must not count either."""
    whole, misses = _tested(("0", "a", 0.8), ("0", "b", 0.1)), _tested(("0", "a", 0.8), ("0", "b", 0.0))
    found = difference(misses, whole, "linear", "hausdorff95_mm")
    assert (found.mean, found.left_out) == (0, 1)


def test_what_the_version_before_wrote_is_read(tmp_path):
    old = _tested(("0", "p/before", 0.2), ("0", "p/after", 0.4), patients=False)
    fields = {"format_version": 1, **vars(old)}
    (tmp_path / "results.json").write_text(json.dumps(fields))
    read = Results.read(tmp_path)
    assert read.scans("linear") == [("0", "p", "p/before"), ("0", "p", "p/after")]
    assert difference(read, _tested(("0", "p/before", 0.1), ("0", "p/after", 0.3)), "linear").mean == pytest.approx(0.1)
    read.write(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["format_version"] == 2


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
