"""The last millimetres of a match: cubes of intensity around both places, moved until they correlate best."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.ndimage import map_coordinates
from torch import Tensor
from torch.nn import functional as F

from vox2vec.matching.peak import below_the_voxel
from vox2vec.volume import Volume

RADIUS_MM = 8.0
"""Half the edge of the cubes that are compared."""

REACH_MM = 6.0
"""How far a place moves at most, along each axis."""

_STEP_MM = 1.5  # from one compared sample to the next
_FLAT = 25.0  # HU squared: a cube of less variance holds nothing to compare
_INDEPENDENT = 10.0  # samples in a cube, as far as they tell the place; neighbours tell the same
_MOST = 0.999  # correlation
_TOGETHER = 2**22  # samples held at a time


class Settled(NamedTuple):
    """Where cubes of intensity correlate best, RAS+ millimetres, and the correlation there; the place that was given,
    and NaN, where a cube is flat or leaves its scan."""

    points_mm: Float64[np.ndarray, "v 3"]
    correlation: Float64[np.ndarray, " v"]


def settled(
    source: Volume,
    points_mm: Float64[np.ndarray, "v 3"],
    target: Volume,
    places_mm: Float64[np.ndarray, "v 3"],
    *,
    linear: Float64[np.ndarray, "v 3 3"],
    spread_mm: Float64[np.ndarray, " v"],
    window_hu: tuple[float, float],
    radius_mm: float = RADIUS_MM,
    reach_mm: float = REACH_MM,
) -> Settled:
    """Move each place in the target to where the scan around it looks most like the source around its point.

    The most likely place, given the normalised cross-correlation r of cubes as evidence, whose logarithm for jointly
    normal samples is `-n / 2 log(1 - r**2)`, and a normal prior of the given spread. The target's cube is seen through
    the map's linear part, so that turned and scaled anatomy compares. A parabola goes below the step.

    Args:
        source, target: HU.
        places_mm: where the points (v, 3) are expected.
        linear: derivative of the map there.
        spread_mm: standard deviation of what is expected.
        window_hu: HU are clipped to it.
    """
    reach, radius = round(reach_mm / _STEP_MM), round(radius_mm / _STEP_MM)
    own, wide = _cube(radius), _cube(radius + reach)
    own_ways = _STEP_MM**2 * (_cube(reach) ** 2).sum(axis=-1)
    found, score = places_mm.copy(), np.full(len(places_mm), np.nan)
    for some in np.array_split(np.arange(len(places_mm)), max(1, len(places_mm) * wide[..., 0].size // _TOGETHER)):
        here = _sampled(source, points_mm[some, None] + _STEP_MM * own.reshape(1, -1, 3), own.shape[:3], window_hu)
        turned = _STEP_MM * wide.reshape(-1, 3) @ linear[some].swapaxes(1, 2)
        there = _sampled(target, places_mm[some, None] + turned, wide.shape[:3], window_hu)
        alike = correlations(here, there).numpy()
        away = own_ways / spread_mm[some, None, None, None].clip(min=_STEP_MM) ** 2
        likely = -0.5 * (_INDEPENDENT * np.log1p(-(alike.clip(0, _MOST) ** 2)) + away)
        for i, surface, correlation in zip(some, likely, alike, strict=True):
            if np.isnan(surface).all():
                continue
            best = np.unravel_index(int(np.nanargmax(surface)), surface.shape)
            way = np.array(best) - reach + below_the_voxel(np.nan_to_num(surface, nan=-np.inf), best)
            found[i] = places_mm[i] + linear[i] @ (_STEP_MM * way)
            score[i] = correlation[best]
    return Settled(found, score)


def correlations(patches: Float[Tensor, "n a a a"], regions: Float[Tensor, "n b b b"]) -> Float[Tensor, "n c c c"]:
    """Of each patch with each cube of its size in its region, c = b - a + 1; NaN where either is flat or has NaN.

    Source: Lewis, "Fast Normalized Cross-Correlation", 1995, equation 2; products by Fourier transforms.
    """
    size = patches[0].numel()
    patches = patches - patches.mean(dim=(1, 2, 3), keepdim=True)
    missing = regions.isnan()
    regions = regions - regions.nanmean(dim=(1, 2, 3), keepdim=True).nan_to_num()
    regions = regions.masked_fill(missing, 0)
    shape = regions.shape[1:]
    of_patches = torch.fft.rfftn(patches.nan_to_num(), s=shape, dim=(1, 2, 3)).conj()
    spectra = torch.fft.rfftn(regions, dim=(1, 2, 3)) * of_patches
    count = regions.shape[1] - patches.shape[1] + 1
    products = torch.fft.irfftn(spectra, s=shape, dim=(1, 2, 3))[:, :count, :count, :count]
    mean, square, unseen = (
        F.avg_pool3d(part[:, None], patches.shape[1], stride=1)[:, 0] for part in (regions, regions**2, missing.float())
    )
    variance = (square - mean**2).clamp(min=0)
    norm = patches.square().mean(dim=(1, 2, 3))[:, None, None, None]
    alike = products / size / (variance * norm).clamp(min=1e-12).sqrt()
    return alike.masked_fill((unseen > 0) | (variance < _FLAT) | ~(norm >= _FLAT), torch.nan)


def _cube(radius: int) -> Float64[np.ndarray, "n n n 3"]:
    steps = np.arange(-radius, radius + 1, dtype=np.float64)
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)


def _sampled(
    scan: Volume, points: Float64[np.ndarray, "n m 3"], shape: tuple[int, ...], window_hu: tuple[float, float]
) -> Float[Tensor, "n x y z"]:
    """HU at world points, linearly interpolated, clipped to the window; NaN beyond the scan."""
    places = np.moveaxis(scan.to_voxels(points.reshape(-1, 3)), -1, 0)
    values = map_coordinates(scan.image, places, np.float32, order=1, cval=np.nan)
    return torch.from_numpy(values.clip(*window_hu).reshape(len(points), *shape))
