"""Overlap and surface distances, against slow definitions."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from vox2vec.metrics.overlap import dice
from vox2vec.metrics.surface import hausdorff_mm, surface_dice

SPACING = (1.5, 0.7, 3.0)


def _masks(seed):
    """Two blobs that overlap, one of them touching the border of the grid."""
    rng = np.random.default_rng(seed)
    p = np.moveaxis(np.indices((12, 11, 9)), 0, -1)
    centres, sizes = rng.uniform([2, 2, 1], [8, 8, 6], (2, 3)), rng.uniform(2, 4, (2, 3))
    found, true = ((((p - centre) / size) ** 2).sum(axis=-1) < 1 for centre, size in zip(centres, sizes, strict=True))
    true[:3, :2, :2] = True
    return found, true


def _surface_mm(mask):
    """Places of the voxels with one of six neighbours outside."""
    places = []
    for voxel in np.argwhere(mask):
        for axis in range(3):
            for step in (-1, 1):
                near = voxel.copy()
                near[axis] += step
                outside = (near < 0).any() or (near >= mask.shape).any() or not mask[tuple(near)]
                if outside:
                    places.append(tuple(voxel))
    return np.array(sorted(set(places))) * SPACING


@pytest.mark.parametrize("seed", range(6))
def test_they_equal_their_definitions(seed):
    found, true = _masks(seed)
    pairs = [(f, t) for f, t in zip(found.ravel(), true.ravel(), strict=True)]
    both = sum(f and t for f, t in pairs)
    assert dice(found, true) == pytest.approx(2 * both / sum(int(f) + int(t) for f, t in pairs))
    distances = cdist(_surface_mm(found), _surface_mm(true))
    there, back = distances.min(axis=1), distances.min(axis=0)
    for percentile in (95.0, 100.0):
        slow = max(np.percentile(there, percentile), np.percentile(back, percentile))
        assert hausdorff_mm(found, true, spacing_mm=SPACING, percentile=percentile) == pytest.approx(slow, rel=1e-5)


@pytest.mark.parametrize(("tolerance_mm", "apart_mm"), [(4.0, 10.0), (5.0, 14.0), (6.0, 16.0)])
def test_two_spheres_share_the_surface_that_geometry_says_whichever_way_they_lie(tolerance_mm, apart_mm):
    """Of radius r, their centres d apart: the point of one at the angle a from the axis is
    |sqrt(r^2 + d^2 - 2 r d cos a) - r| from the other, so that the share within t is t / d of the area (t < d < r).
    Counted by voxels, thick slices give a third less along their normal.
    """
    radius_mm, spacing = 20.0, np.array([0.5, 0.5, 1.5])
    shape = np.ceil((2 * radius_mm + apart_mm + 8) / spacing).astype(int)
    places = np.moveaxis(np.indices(shape), 0, -1) * spacing
    shares = []
    for axis in (0, 2):
        shift = np.zeros(3)
        shift[axis] = apart_mm / 2
        centres = (shape * spacing / 2 + sign * shift for sign in (1, -1))
        one, other = (((places - centre) ** 2).sum(axis=-1) <= radius_mm**2 for centre in centres)
        shares.append(surface_dice(one, other, spacing_mm=tuple(spacing), tolerance_mm=tolerance_mm))
    assert shares == pytest.approx([tolerance_mm / apart_mm] * 2, abs=0.06)
    assert shares[0] == pytest.approx(shares[1], abs=0.04)


def test_equal_masks_are_perfect_and_distant_ones_worthless():
    found, true = np.zeros((2, 20, 5, 5), bool)
    true[2, 2, 2] = found[12, 2, 2] = True
    assert dice(true, true) == surface_dice(true, true, spacing_mm=SPACING) == 1
    assert hausdorff_mm(true, true, spacing_mm=SPACING) == 0
    assert dice(found, true) == surface_dice(found, true, spacing_mm=SPACING) == 0
    assert hausdorff_mm(found, true, spacing_mm=SPACING) == pytest.approx(15)


@pytest.mark.parametrize("anything", [False, True])
def test_an_absent_structure_has_no_score_whatever_was_found(anything):
    found, true = np.full((4, 4, 4), anything), np.zeros((4, 4, 4), bool)
    scores = [
        dice(found, true), surface_dice(found, true, spacing_mm=SPACING), hausdorff_mm(found, true, spacing_mm=SPACING)
    ]  # fmt: skip
    assert all(math.isnan(score) for score in scores)


def test_a_structure_that_is_missed_has_the_worst_score():
    found, true = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    assert dice(found, true) == surface_dice(found, true, spacing_mm=SPACING) == 0
    assert hausdorff_mm(found, true, spacing_mm=SPACING) == math.inf


def test_masks_of_two_grids_are_refused(unchecked_shapes):
    with pytest.raises(ValueError, match=r"masks must lie on one grid, got \(4, 4, 4\) and \(4, 4, 5\)"):
        dice(np.ones((4, 4, 4), bool), np.ones((4, 4, 5), bool))
