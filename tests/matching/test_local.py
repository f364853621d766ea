"""Cubes of intensity that move to where they correlate best, against correlating one by one."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from vox2vec.matching.local import REACH_MM, correlations, settled
from vox2vec.volume import Volume

WINDOW = (-1350.0, 1000.0)


def _texture(seed=0, shape=(48, 46, 44)):
    noise = gaussian_filter(np.random.default_rng(seed).normal(0, 1, shape), 2)
    return Volume((300 * noise / noise.std()).astype(np.float32), np.diag([1.5, 1.5, 1.5, 1]))


def _settled(source, points, target, places, spread=6.0, linear=None):
    linear = np.broadcast_to(np.eye(3) if linear is None else linear, (len(points), 3, 3))
    return settled(
        source, points, target, places, linear=linear, spread_mm=np.full(len(points), spread), window_hu=WINDOW
    )


def _middle(count=12):
    return np.random.default_rng(1).uniform(24, 40, (count, 3))


def test_correlations_are_those_of_each_cube_by_itself():
    generator = torch.Generator().manual_seed(0)
    patches = 40 * torch.randn(3, 5, 5, 5, generator=generator, dtype=torch.float64)
    regions = 40 * torch.randn(3, 8, 8, 8, generator=generator, dtype=torch.float64)
    regions[1, 0, 0, 0] = torch.nan
    regions[2, :, :, :5] = 7
    expected = np.empty((3, 4, 4, 4))
    for n, i, j, k in np.ndindex(expected.shape):
        cube = regions[n, i : i + 5, j : j + 5, k : k + 5].numpy().ravel()
        flat = cube.std() < 5
        expected[n, i, j, k] = np.nan if flat else np.corrcoef(patches[n].numpy().ravel(), cube)[0, 1]
    assert np.isnan(expected).sum() == 1 + 16
    np.testing.assert_allclose(correlations(patches, regions).numpy(), expected, atol=1e-9)


def test_a_place_that_is_off_returns_to_half_a_millimetre():
    scan, away = _texture(), np.array([2.3, -1.9, 3.1])
    found = _settled(scan, _middle(), scan, _middle() + away)
    np.testing.assert_allclose(found.points_mm, _middle(), atol=0.5)
    assert found.correlation.min() > 0.9


def test_turned_and_scaled_anatomy_is_seen_through_the_map():
    scan = _texture()
    turn = np.array([[0, -1.1, 0], [1.1, 0, 0], [0, 0, 1.1]])
    affine = np.eye(4)
    affine[:3, :3] = turn
    copy = Volume(scan.image, affine @ scan.affine)
    found = _settled(scan, _middle(), copy, _middle() @ turn.T + 2, linear=turn)
    np.testing.assert_allclose(found.points_mm, _middle() @ turn.T, atol=0.5)
    unturned = _settled(scan, _middle(), copy, _middle() @ turn.T + 2)
    assert np.abs(unturned.points_mm - _middle() @ turn.T).max() > 1


def test_where_nothing_correlates_a_small_spread_keeps_the_place():
    kept = _settled(_texture(0), _middle(), _texture(1), _middle(), spread=0.5)
    moved = _settled(_texture(0), _middle(), _texture(1), _middle(), spread=20.0)
    assert np.abs(kept.points_mm - _middle()).max() < 1.5
    assert np.abs(moved.points_mm - _middle()).max() > 2
    assert np.abs(moved.points_mm - _middle()).max() <= REACH_MM + 0.75


@pytest.mark.parametrize("case", ["flat", "outside"])
def test_places_that_nothing_can_be_told_of_stay(case):
    scan = _texture()
    flat = Volume(np.full(scan.shape, 40, np.float32), scan.affine)
    points = np.array([[30.0, 30, 30]]) if case == "flat" else np.array([[2.0, 30, 30]])
    found = _settled(flat if case == "flat" else scan, points, scan, points + 1)
    np.testing.assert_array_equal(found.points_mm, points + 1)
    assert np.isnan(found.correlation).all()
