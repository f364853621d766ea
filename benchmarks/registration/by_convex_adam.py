"""convexAdam: coupled convex optimisation of MIND features, then Adam; on the CPU, as its package sets it.

MIND of radius 1 and dilation 2, control cells of 6 voxels, displacements of up to 4 cells, inverse consistency, then
80 steps of Adam on a grid of 2 voxels with a weight of 1.25 on smoothness; float32. Its published pairs are aligned by
an affine map first, so here the moving scan is brought onto the fixed one by `by_simpleitk.affine_transform`.

Source: Siebert et al., "ConvexAdam: Self-Configuring Dual-Optimisation-Based 3D Multitask Medical Image Registration",
IEEE TMI 2024; github.com/multimodallearning/convexAdam.
"""

import numpy as np
import SimpleITK as sitk
import torch
from convexAdam.convex_adam_MIND import convex_adam_pt

from benchmarks.registration.answer import HU, Answer, Displacement, on_cubes, places_of
from benchmarks.registration.by_simpleitk import LPS, affine_transform, image_of
from vox2vec.volume import Volume

_CELL = 6  # the scan's size is made a multiple of it, so that cells and voxels end together


def after_affine(fixed: Volume, moving: Volume, spacing_mm: float) -> Answer:
    grid = on_cubes(fixed, spacing_mm)
    grid = Volume(np.pad(grid.image, [(0, -n % _CELL) for n in grid.shape], constant_values=HU[0]), grid.affine)
    here, there = image_of(grid), image_of(on_cubes(moving, spacing_mm))
    first = affine_transform(here, there)
    aligned = sitk.GetArrayFromImage(sitk.Resample(there, here, first, sitk.sitkLinear, HU[0])).transpose(2, 1, 0)
    by_voxels = convex_adam_pt(
        grid.image, np.ascontiguousarray(aligned), dtype=torch.float32, device=torch.device("cpu")
    )
    places = places_of(grid)
    moved = places + by_voxels @ grid.affine[:3, :3].T
    return Displacement(grid, _through(first, moved) - places).answer


def _through(transform: sitk.AffineTransform, points_mm: np.ndarray) -> np.ndarray:
    """RAS+ points through an affine map of LPS+."""
    matrix = np.array(transform.GetMatrix()).reshape(3, 3)
    centre, translation = np.array(transform.GetCenter()), np.array(transform.GetTranslation())
    return ((points_mm * LPS - centre) @ matrix.T + centre + translation) * LPS
