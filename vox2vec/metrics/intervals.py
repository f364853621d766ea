"""Means over scans with what they are worth: spread over folds, and bootstrap intervals over patients.

A scan is not a patient: a patient's scans are drawn together, since they tell little more than one of them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

_DRAWS = 2_000
_LEVEL = 0.95


class Interval(NamedTuple):
    """A mean and its 95 % interval; NaN where there is nothing to average."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """A mean difference and its 95 % interval; `left_out` pairs have a value on one side alone."""

    mean: float
    low: float
    high: float
    left_out: int


def mean_of_structures(table: Float[np.ndarray, "s c"]) -> float:
    """The mean over structures of each one's mean over the scans that have it; absent ones (NaN) are left out."""
    return float(_means(table, np.ones((1, len(table))))[0])


def bootstrap(
    table: Float[np.ndarray, "s c"], patients: Shaped[np.ndarray, " s"] | None = None, *, seed: int = 0
) -> Interval:
    """`mean_of_structures` of the scans, and its percentile interval over 2,000 draws of patients with replacement.

    Args:
        patients: whose each scan is; by default each another's.

    Source: Efron, "Bootstrap methods", 1979; of clusters: Davison and Hinkley, "Bootstrap Methods and their
    Application", 1997, section 3.8.
    """
    return _interval(mean_of_structures(table), _means(table, _drawn(_clusters(len(table), patients), seed)))


def paired_difference(
    one: Float[np.ndarray, "s c"],
    other: Float[np.ndarray, "s c"],
    patients: Shaped[np.ndarray, " s"] | None = None,
    *,
    seed: int = 0,
) -> Difference:
    """`one` less `other` of the same scans, drawn together; a pair without a value on either side is no pair."""
    if one.shape != other.shape:
        raise ValueError(f"a paired difference needs the same patients and structures, got {one.shape}, {other.shape}")
    unknown = np.isnan(one) | np.isnan(other)
    left_out = int((unknown & ~(np.isnan(one) & np.isnan(other))).sum())
    one, other = (np.where(unknown, np.nan, table) for table in (one, other))
    times = _drawn(_clusters(len(one), patients), seed)
    mean = mean_of_structures(one) - mean_of_structures(other)
    return Difference(*_interval(mean, _means(one, times) - _means(other, times)), left_out)


def spread_over_folds(table: Float[np.ndarray, "s c"], folds: Shaped[np.ndarray, " s"]) -> tuple[float, float]:
    """Mean and standard deviation (of a sample) of the folds' means; the deviation is NaN for one fold."""
    means = np.array([mean_of_structures(table[folds == fold]) for fold in np.unique(folds)])
    means = means[np.isfinite(means)]
    if not len(means):
        return float("nan"), float("nan")
    return float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else float("nan")


def _means(table: Float[np.ndarray, "s c"], times: Float[np.ndarray, "b s"]) -> Float[np.ndarray, " b"]:
    """`mean_of_structures` with each scan taken so many times; NaN where no structure is left."""
    present = ~np.isnan(table)
    counts = times @ present
    means = (times @ np.where(present, table, 0)) / np.maximum(counts, 1)
    left = (counts > 0).sum(axis=1)
    return np.where(left > 0, means.sum(axis=1) / np.maximum(left, 1), np.nan)


def _clusters(scans: int, patients: Shaped[np.ndarray, " s"] | None) -> Int[np.ndarray, " s"]:
    """The number of each scan's patient, in the order in which they first come."""
    if patients is None:
        return np.arange(scans)
    _, first, of_scan = np.unique(patients, return_index=True, return_inverse=True)
    return first.argsort().argsort()[of_scan.reshape(-1)]


def _drawn(of_scan: Int[np.ndarray, " s"], seed: int) -> Float[np.ndarray, "b s"]:
    """How often each scan is drawn with its patient, for each draw."""
    if not len(of_scan):
        return np.zeros((_DRAWS, 0))
    share = np.full(of_scan.max() + 1, 1 / (of_scan.max() + 1))
    return np.random.default_rng(seed).multinomial(len(share), share, size=_DRAWS).astype(np.float64)[:, of_scan]


def _interval(mean: float, drawn: Float[np.ndarray, " b"]) -> Interval:
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return Interval(mean, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(mean, float(low), float(high))
