"""Means over patients with what they are worth: spread over folds, and bootstrap intervals over patients."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

_DRAWS = 2_000
_LEVEL = 0.95


class Interval(NamedTuple):
    """A mean and its 95 % interval; NaN where there is nothing to average."""

    mean: float
    low: float
    high: float


def mean_of_structures(table: Float[np.ndarray, "s c"]) -> float:
    """The mean over structures of each one's mean over the patients that have it; absent ones (NaN) are left out."""
    return float(_means(table, np.ones((1, len(table))))[0])


def bootstrap(table: Float[np.ndarray, "s c"], *, seed: int = 0) -> Interval:
    """`mean_of_structures` of the patients, and its percentile interval over 2,000 draws of them with replacement.

    Source: Efron, "Bootstrap methods", 1979.
    """
    return _interval(mean_of_structures(table), _means(table, _drawn(len(table), seed)))


def paired_difference(one: Float[np.ndarray, "s c"], other: Float[np.ndarray, "s c"], *, seed: int = 0) -> Interval:
    """`one` less `other` of the same patients, drawn together."""
    if one.shape != other.shape:
        raise ValueError(f"a paired difference needs the same patients and structures, got {one.shape}, {other.shape}")
    times = _drawn(len(one), seed)
    return _interval(mean_of_structures(one) - mean_of_structures(other), _means(one, times) - _means(other, times))


def spread_over_folds(table: Float[np.ndarray, "s c"], folds: Shaped[np.ndarray, " s"]) -> tuple[float, float]:
    """Mean and standard deviation (of a sample) of the folds' means; the deviation is NaN for one fold."""
    means = np.array([mean_of_structures(table[folds == fold]) for fold in np.unique(folds)])
    means = means[np.isfinite(means)]
    if not len(means):
        return float("nan"), float("nan")
    return float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else float("nan")


def _means(table: Float[np.ndarray, "s c"], times: Float[np.ndarray, "b s"]) -> Float[np.ndarray, " b"]:
    """`mean_of_structures` with each patient taken so many times; NaN where no structure is left."""
    present = ~np.isnan(table)
    counts = times @ present
    means = (times @ np.where(present, table, 0)) / np.maximum(counts, 1)
    left = (counts > 0).sum(axis=1)
    return np.where(left > 0, means.sum(axis=1) / np.maximum(left, 1), np.nan)


def _drawn(patients: int, seed: int) -> Float[np.ndarray, "b s"]:
    """How often each patient is drawn, for each draw."""
    if patients == 0:
        return np.zeros((_DRAWS, 0))
    share = np.full(patients, 1 / patients)
    return np.random.default_rng(seed).multinomial(patients, share, size=_DRAWS).astype(np.float64)


def _interval(mean: float, drawn: Float[np.ndarray, " b"]) -> Interval:
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return Interval(mean, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(mean, float(low), float(high))
