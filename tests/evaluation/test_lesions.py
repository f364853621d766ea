"""Scores of lesions found again: the published formula, by name, and nothing is found that was not looked for."""

import numpy as np
import pytest

from vox2vec.evaluation.lesions import Tracked
from vox2vec.reading.points import Points

NAMES = ["a", "b", "c", "d"]
TRUTH = np.array([[0.0, 0, 0], [50, 0, 0], [0, 80, 0], [0, 0, 90]])


def _found(*off_mm):
    return TRUTH + np.array([[0.0, mm, 0] for mm in off_mm])


def test_a_small_lesion_must_be_met_and_a_large_one_within_10_mm():
    radius = np.array([3.0, 30.0, 30.0, 12.0])
    tracked = Tracked.of(NAMES, _found(4, 9, 11, 10), Points(NAMES, TRUTH, radius_mm=radius))
    published = [off <= min(r, 10) for off, r in zip((4, 9, 11, 10), radius, strict=True)]
    assert tracked.within_radius == np.mean(published) == 0.5
    assert tracked.within_10_mm == 0.75
    assert str(tracked) == (
        "4 with truth: 75.0% within 10 mm, 50.0% within min(radius, 10 mm), 8.5 mm off on average, median 9.5"
    )


def test_a_lesion_that_is_not_found_is_an_error():
    tracked = Tracked.of(NAMES, _found(1, np.nan, 1, 1), Points(NAMES, TRUTH, radius_mm=np.full(4, 5.0)))
    assert (tracked.within_10_mm, tracked.within_radius) == (0.75, 0.75)
    assert str(tracked).endswith("1.0 mm off on average, median 1.0, 1 not found")
    nowhere = Tracked.of(NAMES, np.full((4, 3), np.nan), Points(NAMES, TRUTH))
    assert str(nowhere) == "4 with truth: 0.0% within 10 mm, 4 not found"


def test_truth_goes_by_name_and_points_without_it_are_left_out():
    order = [3, 0, 2]
    truth = Points([NAMES[i] for i in order], TRUTH[order], radius_mm=np.array([1.0, np.nan, 7.0]))
    tracked = Tracked.of(NAMES, _found(1, 2, 3, 4), truth)
    assert list(tracked.names) == ["a", "c", "d"]
    np.testing.assert_allclose(tracked.off_mm, [1, 3, 4])
    np.testing.assert_array_equal(tracked.radius_mm, [np.nan, 7, 1])
    assert tracked.within_radius == 0.5
    assert "50.0% within min(radius, 10 mm) of the 2 whose radius is known" in str(tracked)
    assert np.isnan(Tracked.of(NAMES, _found(1, 2, 3, 4), Points(NAMES, TRUTH)).within_radius)


def test_names_that_say_nothing_are_refused():
    twice = ["a", "a", "b", "c"]
    assert len(Tracked.of(twice, _found(1, 2, 3, 4), Points(twice, TRUTH)).off_mm) == 4  # in the same order
    with pytest.raises(ValueError, match="names of their own"):
        Tracked.of(NAMES, _found(1, 2, 3, 4), Points(twice, TRUTH))
    with pytest.raises(ValueError, match="must share names, got a, b, c and x"):
        Tracked.of(NAMES, _found(1, 2, 3, 4), Points(["x"], TRUTH[:1]))
