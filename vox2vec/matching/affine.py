"""Affine maps through pairs of points of which some are wrong: many small fits at once, and one through them all."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.spatial import cKDTree

_TUNING = 2.385  # Cauchy's: 95 % as efficient as least squares where errors are normal
_TO_SIGMA = 1.4826  # median absolute deviation to standard deviation
_LEAST_MM = 1e-6


class Fits(NamedTuple):
    """Affine maps, one a row: `at + linear @ (point - centre)`.

    Attributes:
        at: where each centre goes.
        linear: the maps' linear parts.
        scatter_mm: of the pairs around the map, 1.4826 times the median distance.
        leverage: the variance of `at` in squares of `scatter_mm`; it grows where pairs are few, or all on one side.
    """

    at: Float64[np.ndarray, "b 3"]
    linear: Float64[np.ndarray, "b 3 3"]
    scatter_mm: Float64[np.ndarray, " b"]
    leverage: Float64[np.ndarray, " b"]


def robust_affines(
    points_mm: Float64[np.ndarray, "b k 3"],
    found_mm: Float64[np.ndarray, "b k 3"],
    centres_mm: Float64[np.ndarray, "b 3"],
    *,
    prior: Float64[np.ndarray, "3 3"] | None = None,
    stiffness: float = 0.1,
    rounds: int = 20,
) -> Fits:
    """One affine map for each row of pairs, by least squares that are weighted anew by Cauchy's weights.

    Args:
        centres_mm: the fits' offsets are from here.
        prior: the linear part that few pairs are drawn towards; the identity by default, which maps between scans of
            patients are near.
        stiffness: weight of the prior, in pairs at the farthest pair's distance.

    Source: Holland and Welsch, "Robust regression using iteratively reweighted least-squares", 1977.
    """
    prior = np.eye(3) if prior is None else prior
    offsets = points_mm - centres_mm[:, None]
    scale = np.abs(offsets).max(axis=(1, 2), keepdims=True).clip(min=_LEAST_MM)
    design = np.concatenate([offsets / scale, np.ones((*offsets.shape[:2], 1))], axis=2)
    drawn = stiffness * np.diag([1.0, 1, 1, 0])
    shift = found_mm - offsets @ prior.T
    weights = np.ones((*offsets.shape[:2], 1))
    for _ in range(rounds):
        weighted = (design * weights).swapaxes(1, 2)
        normal = weighted @ design + drawn
        solution = np.linalg.solve(normal, weighted @ shift)
        residual = np.linalg.norm(shift - design @ solution, axis=2, keepdims=True)
        scatter = (_TO_SIGMA * np.median(residual, axis=1, keepdims=True)).clip(min=_LEAST_MM)
        weights = 1 / (1 + (residual / (_TUNING * scatter)) ** 2)
    linear = prior + solution[:, :3].swapaxes(1, 2) / scale
    return Fits(solution[:, 3], linear, scatter[:, 0, 0], np.linalg.inv(normal)[:, 3, 3])


def by_others(
    points_mm: Float64[np.ndarray, "v 3"],
    found_mm: Float64[np.ndarray, "v 3"],
    neighbours: int,
    *,
    prior: Float64[np.ndarray, "3 3"] | None = None,
) -> Float64[np.ndarray, "v 3"]:
    """Where the robust affine map of each point's nearest others, fitted to where they are found, puts it.

    There must be more points than neighbours. Memory is linear in the points.
    """
    near = _others(points_mm, neighbours)
    return robust_affines(points_mm[near], found_mm[near], points_mm, prior=prior).at


def agreeing(
    points_mm: Float64[np.ndarray, "m 3"],
    found_mm: Float64[np.ndarray, "m 3"],
    *,
    within_mm: float,
    draws: int = 2_000,
    scales: tuple[float, float] = (0.6, 1.7),
    seed: int = 0,
) -> Bool[np.ndarray, " m"]:
    """The pairs that agree with the best of many similarity transforms, each through three pairs drawn by chance.

    Best is the largest sum of `1 - (d / within_mm)**2` over the pairs within `within_mm` of the transform. Triples in
    one place, and those that give a scale outside of `scales`, are passed over.

    Source: Fischler and Bolles, "Random sample consensus", 1981; for the transform through three pairs Umeyama,
    "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    best, kept = 0.0, np.zeros(len(points_mm), bool)
    if not len(points_mm):
        return kept
    apart_mm = min(2 * within_mm, 0.5 * float(np.linalg.norm(np.ptp(points_mm, axis=0))))
    chosen = np.random.default_rng([seed, 4711]).integers(0, len(points_mm), (draws, 3))
    for linear, here, there in _similarities(points_mm[chosen], found_mm[chosen], scales, apart_mm):
        off = (points_mm - here) @ linear.T + there - found_mm
        share = 1 - (off**2).sum(axis=1) / within_mm**2
        value = float(share.clip(min=0).sum())
        if value > best:
            best, kept = value, share > 0
    return kept


def _similarities(
    a: Float64[np.ndarray, "n 3 3"], b: Float64[np.ndarray, "n 3 3"], scales: tuple[float, float], least_mm: float
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Linear part, and a point and where it goes, of the transforms through three pairs each, those that can be."""
    here, there = a.mean(axis=1), b.mean(axis=1)
    a, b = a - here[:, None], b - there[:, None]
    u, s, vt = np.linalg.svd(b.swapaxes(1, 2) @ a)
    sign = np.ones((len(a), 3))
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))  # no reflections
    size = (a**2).sum(axis=(1, 2))
    scale = (s * sign).sum(axis=1) / size.clip(min=_LEAST_MM)
    linear = scale[:, None, None] * ((u * sign[:, None]) @ vt)
    usable = (scale >= scales[0]) & (scale <= scales[1]) & (size >= least_mm**2)
    return list(zip(linear[usable], here[usable], there[usable], strict=True))


def _others(points: Float64[np.ndarray, "m 3"], count: int) -> Int64[np.ndarray, "m k"]:
    """The `count` nearest other points of each."""
    _, near = cKDTree(points).query(points, k=count + 1)
    other = near != np.arange(len(near))[:, None]
    other[other.all(axis=1), -1] = False  # more points in one place than are asked for: it is not among its own
    return near[other].reshape(len(points), count)
