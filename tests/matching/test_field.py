"""A field between two scans: known maps are found, wrong pairs do not bend it, its doubt is told."""

from dataclasses import replace

import numpy as np
import pytest

from tests.matching.places import told_places, turned, turned_back
from vox2vec.matching.field import NEIGHBOURS, Field, NoField
from vox2vec.matching.index import Index

BOX = np.array([[-150.0] * 3, [150.0] * 3])


def _bent(points):
    """Smooth, up to 8 mm."""
    return points + 8 * np.sin(points[:, [1, 2, 0]] / 60)


def _pairs(count=300, wrong=0.4, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-100, 100, (count, 3))
    found = _bent(turned(points)) + rng.normal(0, 1, points.shape)
    bad = rng.random(count) < wrong
    found[bad] = rng.uniform(-100, 100, (int(bad.sum()), 3))
    return points, found


def _inner(count=200, seed=1):
    return np.random.default_rng(seed).uniform(-80, 80, (count, 3))


def test_four_wrong_pairs_of_ten_do_not_bend_the_field():
    field = Field.of_pairs(*_pairs(), 24.0, BOX, BOX)
    off = np.linalg.norm(field.at(_inner()).points_mm - _bent(turned(_inner())), axis=1)
    assert np.median(off) < 2
    assert np.percentile(off, 95) < 4


def test_the_spread_holds_most_errors_and_grows_outside_of_the_pairs():
    field = Field.of_pairs(*_pairs(), 24.0, BOX, BOX)
    placed = field.at(_inner(1_000))
    off = np.linalg.norm(placed.points_mm - _bent(turned(_inner(1_000))), axis=1)
    assert 0.6 < (off <= placed.spread_mm).mean() < 0.99
    assert field.at([[300.0, 0, 0]]).spread_mm[0] > 3 * np.median(placed.spread_mm)


def test_an_affine_map_is_found_but_for_the_pull_of_the_prior_and_goes_back():
    points = _inner(100, seed=2)
    field = Field.of_pairs(points, turned(points), 24.0, BOX, BOX)
    np.testing.assert_allclose(field.at(_inner()).points_mm, turned(_inner()), atol=0.1)
    np.testing.assert_allclose(field.inverse().at(turned(_inner())).points_mm, _inner(), atol=0.1)
    np.testing.assert_allclose(field.inverse().inverse().linear, field.linear)


def test_there_and_back_ends_near_where_it_began():
    field = Field.of_pairs(*_pairs(wrong=0.2), 24.0, BOX, BOX)
    back = field.inverse().at(field.at(_inner()).points_mm).points_mm
    assert np.median(np.linalg.norm(back - _inner(), axis=1)) < 1


def test_points_are_supported_near_pairs_and_inside_of_what_the_target_shows():
    points = _inner(400) * [1, 1, 0.5]
    field = Field.of_pairs(points, points + np.array([0, 0, 30]), 10.0, BOX, np.array([[-60.0] * 3, [60.0] * 3]))
    asked = [[0, 0, 0], [0, 0, 29], [0, 0, 31], [0, 0, -120], [70, 0, 0], [np.nan, 0, 0]]
    assert field.supported(asked).tolist() == [True, True, False, False, False, False]


def test_points_that_are_not_known_stay_so_and_one_alone_is_as_among_many():
    field = Field.of_pairs(*_pairs(), 24.0, BOX, BOX)
    placed = field.at([[np.nan, 0, 0], [10, 20, 30]])
    assert np.isnan(placed.points_mm[0]).all()
    assert np.isnan(placed.spread_mm[0])
    np.testing.assert_allclose(field.at([[10, 20, 30]]).points_mm[0], placed.points_mm[1])
    assert field.at(np.zeros((0, 3))).points_mm.shape == (0, 3)


def test_pairs_by_chance_make_no_field():
    rng = np.random.default_rng(0)
    with pytest.raises(NoField, match="at least 8 matches between the scans must agree with each other, 0 of 0"):
        Field.of_pairs(np.zeros((0, 3)), np.zeros((0, 3)), 24.0, BOX, BOX)
    with pytest.raises(NoField, match="of 20 do; do they show the same part of the body"):
        Field.of_pairs(rng.uniform(-200, 200, (20, 3)), rng.uniform(-200, 200, (20, 3)), 24.0, BOX, BOX)


def test_fewer_pairs_than_neighbours_make_a_field_all_the_same():
    points = _inner(12)
    assert len(points) < NEIGHBOURS
    field = Field.of_pairs(points, turned(points), 24.0, BOX, BOX)
    np.testing.assert_allclose(field.at(_inner()).points_mm, turned(_inner()), atol=1)


@pytest.mark.parametrize("shape", [(36, 36, 32), (36, 36, 14)], ids=["whole", "in part"])
def test_two_scans_of_which_one_is_turned_are_mapped_within_a_voxel_or_two(shape):
    source = told_places((28, 26, 24), (0, 0, 0))
    target = told_places(shape, (-28, -14, 3), turned_back)
    field = Field.between(source, target, lattice_mm=15)
    points = source.grid.to_mm(np.argwhere(np.ones(source.shape))[::37])
    shown = target.in_body(turned(points))
    off = np.linalg.norm(field.at(points).points_mm - turned(points), axis=1)
    assert off[shown].max() < 4.5  # a voxel and a half, at corners, where pairs lie on one side
    assert np.median(off[shown]) < 1
    assert (field.supported(points) == shown).mean() > 0.95


def test_what_is_no_length_or_no_point_is_refused():
    one = told_places((8, 8, 8), (0, 0, 0))
    with pytest.raises(ValueError, match="must be positive, got 0 and 6"):
        Field.between(one, one, lattice_mm=0)
    with pytest.raises(ValueError, match="embedded by the same weights"):
        Field.between(one, replace(one, fingerprint="other"))
    with pytest.raises(ValueError, match=r"points must be \(v, 3\)"):
        Field.of_pairs(*_pairs(), 24.0, BOX, BOX).at([1.0, 2, 3])


def test_an_index_is_taken_as_it_is():
    one, other = told_places((20, 20, 20), (0, 0, 0)), told_places((20, 20, 20), (6, 0, 3))
    field = Field.between(Index.of(one), Index.of(other), lattice_mm=12)
    np.testing.assert_allclose(field.at([[30.0, 30, 30]]).points_mm, [[30, 30, 30]], atol=1e-6)
