"""The naive baseline: equal to the slow formula of normalised cross-correlation, voxel by voxel."""

import numpy as np
import pytest

from vox2vec.data.phantom import phantom
from vox2vec.matching.correlation import correlate
from vox2vec.preprocessing.prepare import prepare
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

AFFINE = np.array([[3.0, 0, 0, -30], [0, 3, 0, 12], [0, 0, 4, 100], [0, 0, 0, 1]])
MOVED = AFFINE + np.array([[0, 0, 0, 7.0], [0, 0, 0, -5], [0, 0, 0, 11], [0, 0, 0, 0]])


def _images():
    rng = np.random.default_rng(0)
    source, target = (rng.random(shape).astype(np.float32) for shape in ((9, 11, 8), (12, 8, 10)))
    source[0, 0, 0] = target[0, 0, 0] = 0  # the darkest
    target[3:9, 1:7, 2:8] = 0.7 * source[2:8, 3:9, 1:7] + 0.1  # the same place, with other values
    return Volume(source, AFFINE), Volume(target, MOVED)


def _slow(source, voxel, target):
    """Of cubes of 3x3x3."""
    pad = [(1, 1)] * 3
    one = np.pad(source.image, pad)[tuple(slice(v, v + 3) for v in voxel)].ravel().astype(float)
    image = np.pad(target.image, pad).astype(float)
    scores = np.empty(target.shape)
    for place in np.ndindex(target.shape):
        other = image[tuple(slice(v, v + 3) for v in place)].ravel()
        scores[place] = np.corrcoef(one, other)[0, 1]
    return scores


def test_it_is_the_formula():
    source, target = _images()
    voxels = np.argwhere(np.ones(source.shape, bool))[::37]
    found, score = correlate(source, source.to_mm(voxels), target, radius_mm=3)
    for voxel, place_mm, value in zip(voxels, found, score, strict=True):
        wanted = _slow(source, voxel, target)
        assert value == pytest.approx(wanted.max(), abs=1e-4)
        np.testing.assert_allclose(
            target.to_voxels(place_mm), np.unravel_index(wanted.argmax(), target.shape), atol=1e-6
        )


def test_a_place_with_other_values_is_found_and_a_mask_forbids_it():
    source, target = _images()
    point = source.to_mm(np.array([[4, 5, 3]]))
    found, score = correlate(source, point, target, radius_mm=4)
    np.testing.assert_allclose(found, target.to_mm(np.array([[5, 3, 4]])))
    assert score[0] == pytest.approx(1, abs=1e-4)
    among = np.ones(target.shape, bool)
    among[5, 3, 4] = False
    elsewhere, lower = correlate(source, point, target, radius_mm=4, among=among)
    assert lower[0] < score[0]
    assert not np.allclose(found, elsewhere)


def test_phantoms_own_landmarks_are_found():
    scan = prepare(phantom(3, spacing_mm=(5, 5, 5)).volume, Recipe(spacing_mm=(5, 5, 5)))
    points = scan.to_mm(np.argwhere(scan.image > 0.5)[::2000])
    found, _ = correlate(scan, points, scan)
    np.testing.assert_allclose(found, points, atol=1e-6)


def test_what_cannot_be_found_is_nan_or_refused(unchecked_shapes):
    source, target = _images()
    flat = Volume(np.zeros(source.shape, np.float32), AFFINE)
    inside = source.to_mm(np.array([[4, 5, 3]]))
    found, score = correlate(flat, inside, target)
    assert np.isnan(found).all()
    assert np.isnan(score).all()
    found, _ = correlate(source, np.array([[1e4, 0, 0]]), target)
    assert np.isnan(found).all()
    with pytest.raises(ValueError, match="same spacing"):
        correlate(source, inside, Volume(target.image, np.diag([1.0, 3, 4, 1])))
    with pytest.raises(ValueError, match="the mask is empty"):
        correlate(source, inside, target, among=np.zeros(target.shape, bool))
    with pytest.raises(ValueError, match=r"must be \(v, 3\)"):
        correlate(source, inside[0], target)
