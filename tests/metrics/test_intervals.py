"""Means and intervals against loops, and the laws they keep."""

import math

import numpy as np
import pytest

from vox2vec.metrics.intervals import bootstrap, mean_of_structures, paired_difference, spread_over_folds


def _table(seed, patients=12, structures=4, absent=0.2):
    rng = np.random.default_rng(seed)
    table = rng.uniform(size=(patients, structures))
    table[rng.random(table.shape) < absent] = np.nan
    return table


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_leaves_absent_structures_out(seed):
    table = _table(seed)
    table[:, 1] = np.nan
    means = []
    for column in table.T:
        present = [value for value in column if not math.isnan(value)]
        if present:
            means.append(sum(present) / len(present))
    assert mean_of_structures(table) == pytest.approx(sum(means) / len(means))


def test_equal_patients_have_no_interval_and_more_patients_a_narrower_one():
    assert bootstrap(np.full((5, 2), 0.7)) == pytest.approx((0.7, 0.7, 0.7))
    few, many = bootstrap(_table(0, 6, absent=0)), bootstrap(_table(0, 200, absent=0))
    assert few.low < few.mean < few.high
    assert many.high - many.low < few.high - few.low


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(60):
        found = bootstrap(rng.normal(0.5, 0.1, (40, 1)), seed=trial)
        covered += found.low <= 0.5 <= found.high
    assert 50 <= covered <= 60


def test_a_paired_difference_is_sharper_than_two_means():
    """Patients differ much, the methods by a tenth each time."""
    one = _table(2, absent=0)
    found = paired_difference(one + 0.1, one)
    assert found == pytest.approx((0.1, 0.1, 0.1, 0))
    assert bootstrap(one).high - bootstrap(one).low > 0.1


def test_a_pair_with_one_value_is_no_pair_and_is_counted():
    """Distances in mm: one run misses the structure of the far patient, which must not count for it."""
    near_and_far, missed = np.array([[4.0, 8.0], [40.0, np.nan]]), np.array([[5.0, 9.0], [np.nan, np.nan]])
    found = paired_difference(missed, near_and_far)
    assert found == pytest.approx((1.0, 1.0, 1.0, 1))
    turned = paired_difference(near_and_far, missed)
    assert turned == pytest.approx((-1.0, -1.0, -1.0, 1))


def _ten_scans_each():
    """6 patients who differ much, 10 scans each that hardly do."""
    rng = np.random.default_rng(0)
    patients = np.repeat([f"p{i}" for i in range(6)], 10)
    table = np.repeat(rng.normal(0.57, 0.2, 6), 10)[:, None] + rng.normal(0, 0.01, (60, 1))
    return table, patients


def test_an_interval_over_patients_draws_all_scans_of_each():
    """The percentiles of a loop that draws 6 patients; drawing 60 scans gives a third of that width."""
    table, patients = _ten_scans_each()
    rng = np.random.default_rng(1)
    names = sorted(set(patients))
    drawn = [np.mean([table[patients == rng.choice(names)].mean() for _ in names]) for _ in range(2_000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    found = bootstrap(table, patients)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    scans = bootstrap(table)
    assert scans.high - scans.low < 0.5 * (found.high - found.low)


def test_ten_times_the_same_scan_tell_as_much_as_one():
    few = _table(4, 6)
    many, patients = np.repeat(few, 10, axis=0), np.repeat(np.arange(6), 10)
    assert bootstrap(many, patients) == pytest.approx(bootstrap(few))
    other = _table(5, 6)
    again = paired_difference(many, np.repeat(other, 10, axis=0), patients)
    assert again[:3] == pytest.approx(paired_difference(few, other)[:3])


def test_the_spread_is_over_the_folds_means():
    table, folds = _table(3, 9, absent=0), np.repeat([0.0, 1.0, 4.0], 3)
    means = [table[start : start + 3].mean() for start in (0, 3, 6)]
    mean, sd = spread_over_folds(table, folds)
    assert mean == pytest.approx(np.mean(means))
    assert sd == pytest.approx(np.std(means, ddof=1))
    assert math.isnan(spread_over_folds(table[:3], folds[:3])[1])


def test_nothing_has_no_mean():
    for table in (np.zeros((0, 2)), np.full((3, 2), np.nan)):
        assert all(math.isnan(value) for value in bootstrap(table))
        assert all(math.isnan(value) for value in paired_difference(table, table)[:3])
        assert all(math.isnan(value) for value in spread_over_folds(table, np.zeros(len(table))))


@pytest.mark.usefixtures("unchecked_shapes")
def test_unequal_tables_are_refused():
    with pytest.raises(ValueError, match="needs the same patients and structures"):
        paired_difference(np.zeros((3, 2)), np.zeros((2, 2)))
