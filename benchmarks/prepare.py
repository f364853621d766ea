"""Preparing a 512x512x150 CT: ours against scipy.ndimage.zoom and a flood fill, as the original did."""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import map_coordinates, zoom
from skimage.segmentation import flood

from benchmarks.timing import seconds_of
from vox2vec.preprocessing.body import body_mask
from vox2vec.preprocessing.intensity import scale_hu
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.recipe import PAPER
from vox2vec.volume import Volume


def scan_512() -> Volume:
    """An ellipse of noisy tissue with two lungs, 512x512x150 voxels of 0.75x0.75x2.5 mm."""
    x, y, z = np.ogrid[-1:1:512j, -1:1:512j, -1:1:150j]
    image = np.where((x / 0.9) ** 2 + (y / 0.65) ** 2 < 1, 40, -1000) + 0 * z
    image = np.where(((np.abs(x) - 0.4) / 0.25) ** 2 + (y / 0.4) ** 2 + (z / 0.8) ** 2 < 1, -850, image)
    noise = np.random.default_rng(0).normal(0, 20, image.shape)
    return Volume((image + noise).astype(np.int16), np.diag([-0.75, -0.75, 2.5, 1]))


def ours(scan: Volume) -> tuple[np.ndarray, np.ndarray]:
    resampled = prepare_hu(scan)
    return scale_hu(resampled.image, PAPER.window_hu), body_mask(resampled.image)


def slow(scan: Volume) -> tuple[np.ndarray, np.ndarray]:
    image = scan.image[::-1, ::-1]
    body = np.argwhere(image >= PAPER.body_hu)
    inside = tuple(slice(a, b + 1) for a, b in zip(body.min(axis=0), body.max(axis=0), strict=True))
    factors = np.array(scan.spacing_mm) / PAPER.spacing_mm
    resampled = zoom(image[inside].astype(np.float32), factors, order=1)
    air = np.pad(resampled < PAPER.body_hu, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    low, high = PAPER.window_hu
    return (np.clip(resampled, low, high) - low) / (high - low), ~flood(air, (0, 0, 0))[1:-1, 1:-1]


def rows() -> Iterator[tuple[str, ...]]:
    scan = scan_512()
    fast_s, slow_s = seconds_of(lambda: ours(scan), lambda: slow(scan))
    yield (
        "prepare 512x512x150 and its body mask",
        f"{fast_s:.2f} s",
        f"scipy zoom + skimage flood {slow_s:.2f} s",
        (f"{slow_s / fast_s:.1f}x faster"),
    )
    resampled = prepare_hu(scan)
    some = np.random.default_rng(1).integers(0, resampled.shape, (200_000, 3))
    places = scan.to_voxels(resampled.to_mm(some))
    exact = map_coordinates(scan.image.astype(np.float64), places.T, order=1, mode="nearest")
    error = np.abs(resampled.image[tuple(some.T)] - exact).max()
    yield (
        "its values at 200,000 voxels",
        "",
        "interpolated one by one, in float64",
        f"largest difference {error:.4f} HU",
    )
    air = np.pad(resampled.image < PAPER.body_hu, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    equal = (body_mask(resampled.image) == ~flood(air, (0, 0, 0))[1:-1, 1:-1]).all()
    yield "its body mask", "", "skimage flood", "equal" if equal else "DIFFERENT"
