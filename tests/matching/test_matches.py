"""What is written of matches, and read back."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from vox2vec.matching.matches import Matches
from vox2vec.reading.points import read_points


def _two_matches():
    found = np.array([[1.25, -2, 3], [np.nan] * 3])
    return Matches(
        found, np.array([0.8765, np.nan]), np.array([1.26, np.nan]), np.array([True, False]), np.array([False, False]),
        np.array([2.34, np.nan]), ["matched", "outside the body"],
    )  # fmt: skip


def test_matches_are_written_with_all_that_is_known_of_them(tmp_path):
    _two_matches().save(tmp_path / "found.csv", names=["a", "b"], system="LPS")
    with (tmp_path / "found.csv").open(newline="", encoding="utf-8") as file:
        matched, missed = csv.DictReader(file)
    assert matched == {
        "name": "a", "x": "-1.250", "y": "2.000", "z": "3.000", "system": "LPS", "score": "0.876", "mutual": "yes",
        "back_mm": "1.3", "outlier": "no", "spread_mm": "2.3", "status": "matched",
    }  # fmt: skip
    assert [missed[name] for name in ("x", "score", "back_mm", "mutual", "spread_mm", "status")] == [
        "", "", "", "no", "", "outside the body",
    ]  # fmt: skip
    assert _two_matches().found.tolist() == [True, False]


@pytest.mark.parametrize("name", ["found.csv", "found.fcsv", "found.mrk.json"])
def test_points_without_names_are_numbered_from_one(name, tmp_path):
    matches = replace(_two_matches(), points_mm=np.array([[1.25, -2, 3], [4, 5, 6]]))
    matches.save(tmp_path / name)
    back = read_points(tmp_path / name)
    assert list(back.names) == ["1", "2"]
    np.testing.assert_allclose(back.points_mm, matches.points_mm, atol=1e-3)


def test_matches_are_not_written_as_anything_else(tmp_path):
    with pytest.raises(ValueError, match="got 1 names of 2 points"):
        _two_matches().save(tmp_path / "found.csv", names=["a"])
    with pytest.raises(ValueError, match=r"written as \.csv, \.fcsv or \.mrk\.json"):
        _two_matches().save(tmp_path / "found.txt")
    assert not list(tmp_path.iterdir())
