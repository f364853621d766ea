"""How far apart two surfaces of one structure are.

A structure that is absent from the truth has no score (NaN), whatever was found: a mean leaves it out and counts it.
One that is there and was missed has surface Dice 0 and an infinite Hausdorff distance.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

from vox2vec.geometry import Box
from vox2vec.metrics.overlap import Mask, check_grid


def surface_dice(
    found: Mask, true: Mask, *, spacing_mm: tuple[float, float, float], tolerance_mm: float = 2.0
) -> float:
    """The share of both surfaces' area that lies within `tolerance_mm` of the other surface, in [0, 1].

    A surface runs between the voxels of the mask and those outside; each of its places has the area of marching cubes
    there, as in the numbers that FLARE, the Medical Segmentation Decathlon and nnU-Net publish.

    Source: Nikolov et al., arXiv 1809.04430; computed by MONAI, with its sub-voxels.
    """
    check_grid(found, true)
    if not true.any():
        return float("nan")
    if not found.any():
        return 0.0
    y_pred, y = _cropped(found, true)
    with _without_monais_own_warning():
        score = compute_surface_dice(
            y_pred, y, [tolerance_mm], include_background=True, spacing=list(spacing_mm), use_subvoxels=True
        )
    return float(score)


def hausdorff_mm(found: Mask, true: Mask, *, spacing_mm: tuple[float, float, float], percentile: float = 95.0) -> float:
    """The larger of both directions' `percentile` of the distances from one surface's voxels to the other surface.

    Source: Huttenlocher et al., 1993; computed by MONAI.
    """
    check_grid(found, true)
    if not true.any():
        return float("nan")
    if not found.any():
        return float("inf")
    y_pred, y = _cropped(found, true)
    with _without_monais_own_warning():
        distance = compute_hausdorff_distance(
            y_pred, y, include_background=True, percentile=percentile, spacing=list(spacing_mm)
        )
    return float(distance)


def _cropped(found: Mask, true: Mask) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as (1, 1, x, y, z) around what either holds: a surface does not depend on the air around it."""
    box = Box.of(found | true)
    one, other = (torch.from_numpy(np.pad(mask[box.slices], 1))[None, None] for mask in (found, true))
    return one, other


@contextmanager
def _without_monais_own_warning() -> Iterator[None]:
    """MONAI 1.5 passes itself an argument that it deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        yield
