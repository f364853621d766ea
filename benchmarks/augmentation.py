"""Augmenting a batch of 20 patches on the CPU: ours against scipy and numpy, patch by patch."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from benchmarks.timing import seconds_of
from vox2vec.augmentation.intensity import Intensity, draw_intensity, with_intensity
from vox2vec.recipe import PAPER

BATCHES = 5  # of 20 patches, so that one lucky draw does not decide


def by_scipy(patch_hu: np.ndarray, drawn: Intensity, i: int, rng: np.random.Generator) -> np.ndarray:
    """One patch (x, y, z) int16, as the original's workers did it."""
    image = patch_hu.astype(np.float32)
    sigma, alpha = float(drawn.blur_sigma[i]), float(drawn.sharpen_alpha[i])
    if sigma > 0:
        image = gaussian_filter(image, (sigma, sigma, 0))
    if alpha > 0:
        image = image + alpha * (image - gaussian_filter(image, (0.5, 0.5, 0)))
    if drawn.noise_hu[i] > 0:
        image = image + rng.normal(0, float(drawn.noise_hu[i]), image.shape).astype(np.float32)
    low, high = drawn.window_hu[i].tolist()
    return (np.clip(image, low, high) - low) / (high - low)


def rows() -> Iterator[tuple[str, ...]]:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randint(-1000, 1000, (20, 1, *PAPER.patch_size), generator=generator).to(torch.int16)
    draws = [draw_intensity(20, generator=generator) for _ in range(BATCHES)]
    rng = np.random.default_rng(0)

    def ours() -> None:
        for drawn in draws:
            with_intensity(patches, drawn)

    def theirs() -> None:
        for drawn in draws:
            np.stack([by_scipy(patches[i, 0].numpy(), drawn, i, rng) for i in range(20)])

    fast_s, slow_s = (seconds / BATCHES for seconds in seconds_of(ours, theirs, rounds=8))
    size = "x".join(map(str, PAPER.patch_size))
    yield (
        f"blur, sharpen, noise, window: 20 patches of {size}",
        f"{fast_s * 1e3:.0f} ms",
        f"scipy, patch by patch {slow_s * 1e3:.0f} ms",
        f"{slow_s / fast_s:.1f}x faster",
    )
    yield from _each(patches)


def _each(patches: torch.Tensor) -> Iterator[tuple[str, ...]]:
    """What each of the steps gains alone, on all 20 patches."""
    off, on = {"filter_probability": 0.0, "noise_probability": 0.0, "window_probability": 0.0}, np.random.default_rng(0)
    for name, step in (
        ("blur or sharpening", {"filter_probability": 1.0}),
        ("noise", {"noise_probability": 1.0}),
        ("window alone", {}),
    ):
        drawn = draw_intensity(20, generator=torch.Generator().manual_seed(0), **{**off, **step})

        def ours(drawn=drawn) -> None:
            with_intensity(patches, drawn)

        def theirs(drawn=drawn) -> None:
            np.stack([by_scipy(patches[i, 0].numpy(), drawn, i, on) for i in range(20)])

        fast_s, slow_s = seconds_of(ours, theirs)
        yield f"{name}, on all 20", f"{fast_s * 1e3:.0f} ms", f"{slow_s * 1e3:.0f} ms", f"{slow_s / fast_s:.1f}x faster"
