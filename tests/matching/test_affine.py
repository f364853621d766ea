"""Affine maps through pairs of which some are wrong."""

import numpy as np

from vox2vec.matching.affine import agreeing, robust_affines

LINEAR = np.array([[1.05, 0.1, 0], [-0.1, 0.97, 0.05], [0, 0, 1.02]])


def _cloud(count, seed=0):
    return np.random.default_rng(seed).uniform(-60, 60, (count, 3))


def test_a_quarter_of_wrong_pairs_does_not_move_the_map():
    points = _cloud(24)
    found = points @ LINEAR.T + [10, -5, 40]
    found[:6] += 50
    fits = robust_affines(points[None], found[None], np.zeros((1, 3)), stiffness=0)
    np.testing.assert_allclose(fits.at[0], [10, -5, 40], atol=1e-3)
    np.testing.assert_allclose(fits.linear[0], LINEAR, atol=1e-4)
    assert fits.scatter_mm[0] < 1e-3


def test_without_wrong_pairs_and_without_prior_the_first_round_is_least_squares():
    points = _cloud(20)
    found = points @ LINEAR.T + np.random.default_rng(1).normal(0, 2, points.shape)
    fits = robust_affines(points[None], found[None], points[:1], stiffness=0, rounds=1)
    solution, *_ = np.linalg.lstsq(np.c_[points - points[0], np.ones(20)], found, rcond=None)
    np.testing.assert_allclose(fits.at[0], solution[3], atol=1e-9)
    np.testing.assert_allclose(fits.linear[0], solution[:3].T, atol=1e-9)


def test_leverage_times_noise_is_the_variance_of_the_place():
    """Of 4,000 fits to the same points, seen with noise, at a place beside them."""
    rng = np.random.default_rng(0)
    points, centre = _cloud(24), np.array([[80.0, 0, 0]])
    found = points + rng.normal(0, 1, (4_000, *points.shape))
    fits = robust_affines(
        np.broadcast_to(points, found.shape), found, np.repeat(centre, 4_000, axis=0), stiffness=0, rounds=1
    )
    np.testing.assert_allclose(fits.at.var(axis=0).mean(), fits.leverage[0], rtol=0.1)
    inside = robust_affines(points[None], points[None], points.mean(axis=0)[None])
    assert inside.leverage[0] < 0.5 * fits.leverage[0]


def test_pairs_in_one_plane_leave_the_rest_to_the_prior():
    points = _cloud(24) * [1, 1, 0]
    fits = robust_affines(points[None], points[None] * [1.1, 1.1, 1], np.zeros((1, 3)), prior=LINEAR)
    np.testing.assert_allclose(fits.linear[0, :, 2], LINEAR[:, 2], atol=1e-6)


def test_the_pairs_of_one_transform_are_told_from_three_times_as_many_by_chance():
    rng = np.random.default_rng(1)
    points = _cloud(200)
    found = rng.uniform(-60, 60, points.shape)
    right = np.arange(200) < 50
    found[right] = points[right] @ LINEAR.T + [10, -5, 40] + rng.normal(0, 2, (50, 3))
    kept = agreeing(points, found, within_mm=12)
    assert kept[right].mean() > 0.95
    assert kept[~right].mean() < 0.1


def test_a_mirrored_copy_agrees_with_no_transform():
    points = _cloud(200)
    assert agreeing(points, points * [-1, 1, 1], within_mm=12).mean() < 0.5
    assert agreeing(points, points * [-1, -1, 1], within_mm=12).all()  # half a turn is one


def test_no_pairs_agree_where_there_are_none():
    assert agreeing(np.zeros((0, 3)), np.zeros((0, 3)), within_mm=12).shape == (0,)
