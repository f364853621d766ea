"""Two patches that share voxels: what contrastive pre-training learns from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16, Int64

from vox2vec.data.cached_scan import CachedScan
from vox2vec.geometry import Box
from vox2vec.recipe import PAPER

MAX_PAIRS = 1024
"""Voxel pairs of two patches, at most."""


@dataclass(frozen=True, eq=False)
class PatchPair:
    """Two patches of one CT, and the body voxels that both hold.

    Attributes:
        patches_hu: (2, x, y, z), unwindowed.
        voxels: (2, v, 3): row `i` of both is the same place, as an index into each patch.
        boxes: where the patches lie in the scan's grid.
    """

    patches_hu: Int16[np.ndarray, "2 x y z"]
    voxels: Int64[np.ndarray, "2 v 3"]
    boxes: tuple[Box, Box]


def draw_pair(
    scan: CachedScan,
    rng: np.random.Generator,
    *,
    patch_size: tuple[int, int, int] = PAPER.patch_size,
    max_pairs: int = MAX_PAIRS,
) -> PatchPair:
    """A pair around a body voxel, drawn uniformly from them all.

    Both boxes are uniform among those inside the scan that hold the voxel (along an axis shorter than the patch, among
    those that hold the whole axis; beyond the scan is air). The voxels are uniform without replacement among the body
    voxels of the overlap, all of them where there are no more than `max_pairs`.

    Source: docs/method.md section 3; arXiv 2307.14725, section 3.
    """
    anchor = scan.body_voxels(rng.integers(scan.entry.body_voxels, size=1))[0]
    first, second = (box_around(anchor, scan.shape, patch_size, rng) for _ in range(2))
    shared = _overlap(first, second)
    (body,) = np.nonzero(scan.body(shared).ravel())
    if len(body) > max_pairs:
        body = rng.choice(body, max_pairs, replace=False, shuffle=False)
    voxels = np.stack(np.unravel_index(body, shared.shape), axis=1) + shared.start
    return PatchPair(
        patches_hu=np.stack([scan.image_hu(first), scan.image_hu(second)]),
        voxels=np.stack([voxels - first.start, voxels - second.start]),
        boxes=(first, second),
    )


def box_around(
    voxel: Int64[np.ndarray, "3"],
    shape: tuple[int, int, int],
    patch_size: tuple[int, int, int],
    rng: np.random.Generator,
) -> Box:
    """A box of `patch_size` that holds the voxel, uniform among those inside the grid."""
    start = []
    for v, n, size in zip(voxel.tolist(), shape, patch_size, strict=True):
        low, high = (max(0, v - size + 1), min(v, n - size)) if n >= size else (n - size, 0)
        start.append(int(rng.integers(low, high, endpoint=True)))
    x, y, z = start
    return Box((x, y, z), (x + patch_size[0], y + patch_size[1], z + patch_size[2]))


def _overlap(one: Box, other: Box) -> Box:
    x, y, z = (max(a, b) for a, b in zip(one.start, other.start, strict=True))
    u, v, w = (min(a, b) for a, b in zip(one.stop, other.stop, strict=True))
    return Box((x, y, z), (u, v, w))
