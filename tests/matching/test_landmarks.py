"""Points found by a field: any number of them, with all that is known of each."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.matching.places import told_places, turned, turned_back
from tests.matching.test_local import _texture
from vox2vec.inference.embedding import packed
from vox2vec.matching.alone import match_alone
from vox2vec.matching.field import Field
from vox2vec.matching.landmarks import match


@pytest.fixture(scope="module")
def scans():
    return told_places((28, 26, 24), (0, 0, 0)), told_places((34, 36, 32), (-28, -14, 3), turned_back)


def _points(embedding, count=60):
    return embedding.grid.to_mm(np.random.default_rng(0).permutation(np.argwhere(embedding.body))[:count])


def test_points_are_found_where_the_field_puts_them_with_its_spread(scans):
    points = _points(scans[0])
    field = Field.between(*scans)
    found = match(scans[0], points, scans[1])
    np.testing.assert_array_equal(found.found, field.supported(points))
    assert found.found.mean() > 0.8
    np.testing.assert_allclose(found.points_mm[found.found], field.at(points).points_mm[found.found])
    np.testing.assert_allclose(found.spread_mm[found.found], field.at(points).spread_mm[found.found])
    assert np.linalg.norm(found.points_mm - turned(points), axis=1)[found.found].max() < 3
    assert found.score[found.found].min() > 0.99
    assert found.mutual[found.found].all()
    assert not found.outlier.any()


def test_one_point_alone_is_told_what_it_is_told_among_many(scans):
    points = _points(scans[0])
    many, one = match(scans[0], points, scans[1]), match(scans[0], points[:1], scans[1])
    for name in ("points_mm", "score", "back_mm", "spread_mm"):
        np.testing.assert_allclose(getattr(one, name), getattr(many, name)[:1], atol=1e-5)
    assert (one.mutual[0], one.outlier[0], one.status[0]) == (many.mutual[0], many.outlier[0], many.status[0])


def test_a_point_whose_own_vector_says_otherwise_is_an_outlier(scans):
    """Two regions of the target hold each other's vectors; the field around them does not follow."""
    source, target = scans
    swapped = target.pyramid[0].clone()
    one, other = (slice(None), *[slice(16, 21)] * 3), (slice(None), *[slice(23, 28)] * 3)
    swapped[one], swapped[other] = target.pyramid[0][other].clone(), target.pyramid[0][one].clone()
    point = turned_back(target.grid.to_mm([[18, 18, 18]]))
    assert not match(source, point, target).outlier.any()
    found = match(source, point, replace(target, pyramid=(swapped,)))
    assert found.outlier.all()
    assert not found.mutual.any()
    assert np.linalg.norm(found.points_mm - turned(point), axis=1).max() < 3
    assert found.back_mm[0] > 20


def test_what_the_other_scan_does_not_show_has_no_counterpart(scans):
    source = scans[0]
    half = told_places((34, 36, 16), (-28, -14, 3), turned_back)
    points = _points(source, 200)
    found = match(source, points, half)
    shown = half.in_body(turned(points))
    told = np.array(found.status) == "no counterpart"
    assert told[~shown].mean() > 0.9
    assert found.found[shown].mean() > 0.9
    assert np.isnan(found.points_mm[told]).all()
    assert np.isnan(found.spread_mm[told]).all()
    assert not (found.mutual | found.outlier)[told].any()


def test_places_in_the_air_beside_the_other_patient_are_none(scans):
    source, target = scans
    body = np.ones(target.shape, bool)
    body[:14] = False  # an arm that is not there
    points = _points(source, 200)
    found = match(source, points, replace(target, packed_body=packed(body)), field=Field.between(*scans))
    x = target.grid.to_voxels(turned(points))[:, 0]
    assert not found.found[x < 14 - 6].any()  # farther than 10 mm off
    assert found.found[(x > 14) & match(*(source, points, target)).found].all()


def test_points_outside_of_the_source_say_where(scans):
    source, target = scans
    body = np.ones(source.shape, bool)
    body[:4] = False
    partly = replace(source, packed_body=packed(body))
    asked = source.grid.to_mm([[20, 10, 8], [0, 10, 8], [-9, 10, 8]])
    found = match(partly, [*asked[[1, 0, 2]], [np.nan] * 3], target)
    assert found.status == ["outside the body", "matched", "outside the scan", "outside the scan"]
    assert np.isnan(found.points_mm[[0, 2, 3]]).all()
    assert np.isnan(found.score[[0, 2, 3]]).all()


def test_with_the_scans_places_move_to_where_the_intensities_agree():
    """The vectors of the target lie 3 mm off; its intensities do not."""
    scan = _texture(shape=(60, 56, 54))
    source = told_places((28, 26, 25), (0, 0, 0))
    target = told_places((28, 26, 25), (3.0, 0, 0), lambda points: points - [3.0, 0, 0])
    points = np.random.default_rng(0).uniform(24, 56, (20, 3))
    by_vectors = match(source, points, target)
    settled = match(source, points, target, scans=(scan, scan))
    off = [np.linalg.norm(found.points_mm - points, axis=1) for found in (by_vectors, settled)]
    assert off[0].min() > 2
    assert np.median(off[1]) < 0.3


def test_scans_without_a_field_are_matched_point_by_point_and_it_is_said(scans, caplog):
    source, target = scans
    noise = torch.randn(target.pyramid[0].shape, generator=torch.Generator().manual_seed(0))
    other = replace(target, pyramid=(noise,))
    with caplog.at_level(logging.WARNING):
        found = match(source, _points(source, 5), other)
    assert "points are matched one by one: at least 8 matches" in caplog.text
    np.testing.assert_array_equal(found.points_mm, match_alone(source, _points(source, 5), other).points_mm)
    assert np.isnan(found.spread_mm).all()


def test_no_points_have_no_matches(scans):
    found = match(scans[0], np.zeros((0, 3)), scans[1])
    assert found.points_mm.shape == (0, 3)
    assert found.status == []
