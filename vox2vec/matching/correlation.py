"""The naive way to find a place in another scan, to compare with: normalised cross-correlation of intensity patches."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.ndimage import uniform_filter

from vox2vec.volume import Volume

_FLAT = 1e-4  # variance of a patch without structure, in squared units of the window


def correlate(
    source: Volume,
    points_mm: Any,
    target: Volume,
    *,
    radius_mm: float = 16.0,
    among: Bool[np.ndarray, "x y z"] | None = None,
) -> tuple[Float64[np.ndarray, "v 3"], Float64[np.ndarray, " v"]]:
    """For each point (v, 3) of the source the voxel of the target around which the intensities correlate best.

    Exhaustive over all voxels, by Fourier transforms. Cubes of `2 radius_mm` around both are compared; what lies
    beyond a scan counts as its darkest value, which `prepare` makes air.

    Args:
        source, target: as `prepare` gives them: RAS+, of the same spacing.
        among: voxels of the target that may be found, all by default.

    Returns:
        RAS+ millimetres of the voxels, and the correlations; NaN where the source's patch is flat or the point outside.

    Raises:
        ValueError: another spacing, points that are no (v, 3), or no voxel that may be found.

    Source: Lewis, Fast Normalized Cross-Correlation, 1995, equation 2.
    """
    points = np.asarray(points_mm, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points must be (v, 3) millimetres, got shape {points.shape}; one point is [[x, y, z]]")
    if not np.allclose(source.affine[:3, :3], target.affine[:3, :3], atol=1e-6):
        raise ValueError(
            f"both scans must be on grids of the same spacing, got {source.spacing_mm} and {target.spacing_mm} mm; "
            "prepare both by one recipe"
        )
    allowed = np.ones(target.shape, bool) if among is None else among
    if not allowed.any():
        raise ValueError("no voxel of the target may be found, the mask is empty")
    reach = [max(1, round(radius_mm / s)) for s in source.spacing_mm]
    size = [2 * r + 1 for r in reach]
    image = np.asarray(target.image, np.float32) - np.float32(target.image.min())
    mean = uniform_filter(image, size, mode="constant")
    variance = uniform_filter(image * image, size, mode="constant") - mean * mean
    usable = allowed & (variance > _FLAT)
    scale = np.where(usable, 1 / np.sqrt(variance.clip(min=_FLAT) * np.prod(size)), 0)
    padded_shape = [next_fast_len(n + k, real=True) for n, k in zip(image.shape, size, strict=True)]
    spectrum = rfftn(image, padded_shape)
    around = np.pad(np.asarray(source.image, np.float32) - np.float32(source.image.min()), [(r, r) for r in reach])
    found, score = np.full((len(points), 3), np.nan), np.full(len(points), np.nan)
    voxels = np.floor(source.to_voxels(points) + 0.5).astype(int)
    for i, voxel in enumerate(voxels):
        if (voxel < 0).any() or (voxel >= source.shape).any():
            continue
        patch = around[tuple(slice(v, v + k) for v, k in zip(voxel, size, strict=True))]
        patch = patch - patch.mean()
        norm = float(np.linalg.norm(patch))
        if norm**2 <= _FLAT * patch.size:
            continue
        correlation = _correlated(spectrum, patch, padded_shape, image.shape, reach) * scale / norm
        correlation[~usable] = -np.inf
        best = np.unravel_index(int(correlation.argmax()), image.shape)
        found[i], score[i] = target.to_mm(np.array(best)), correlation[best]
    return found, score


def _correlated(
    spectrum: np.ndarray, patch: np.ndarray, padded_shape: list[int], shape: tuple[int, ...], reach: list[int]
) -> Float32[np.ndarray, "x y z"]:
    """The sum over the patch, centred on each voxel, of its values times the image's."""
    product = irfftn(spectrum * np.conj(rfftn(patch, padded_shape)), padded_shape)
    centred = np.roll(product, reach, axis=(0, 1, 2))
    return centred[tuple(slice(n) for n in shape)].astype(np.float32)
