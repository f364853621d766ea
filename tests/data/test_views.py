"""Pairs of patches: what both hold is the same place, and every draw is uniform."""

import numpy as np
import pytest
from scipy.stats import chisquare

from tests.data.scans import RECIPE, body, stored
from vox2vec.data.views import box_around, draw_pair
from vox2vec.geometry import Box
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    cache = stored(tmp_path_factory.mktemp("cache"), body(0))
    return cache.open(cache.entries()[0])


@pytest.fixture(scope="module")
def whole(scan):
    box = Box((0, 0, 0), scan.shape)
    return scan.image_hu(box), scan.body(box)


def _pairs(scan, n, seed=0, **options):
    rng = np.random.default_rng(seed)
    return [draw_pair(scan, rng, patch_size=RECIPE.patch_size, **options) for _ in range(n)]


def test_both_patches_show_the_scan_and_each_pair_one_body_voxel_of_it(scan, whole):
    image, body_mask = whole
    for pair in _pairs(scan, 50):
        for patch, voxels, box in zip(pair.patches_hu, pair.voxels, pair.boxes, strict=True):
            np.testing.assert_array_equal(patch, image[box.slices])
            assert patch.shape == RECIPE.patch_size
            places = voxels + box.start
            assert body_mask[tuple(places.T)].all()
            assert len(np.unique(places, axis=0)) == len(places)
        np.testing.assert_array_equal(pair.voxels[0] + pair.boxes[0].start, pair.voxels[1] + pair.boxes[1].start)


def test_all_body_voxels_of_a_small_overlap_are_taken_and_at_most_the_limit_of_a_large_one(scan, whole):
    counts = set()
    for pair in _pairs(scan, 200, max_pairs=300):
        start = np.max([box.start for box in pair.boxes], axis=0)
        stop = np.min([box.stop for box in pair.boxes], axis=0)
        there = whole[1][tuple(slice(a, b) for a, b in zip(start, stop, strict=True))].sum()
        assert pair.voxels.shape[1] == min(there, 300)
        counts.add(there > 300)
    assert counts == {True, False}


def test_anchors_are_uniform_over_the_body(scan, whole):
    """By rank: each of 20 equal shares of all body voxels is drawn equally often."""
    rng = np.random.default_rng(0)
    ranks = rng.integers(scan.entry.body_voxels, size=4000)
    drawn = scan.body_voxels(ranks)
    everywhere = np.argwhere(whole[1])
    for axis in range(3):
        edges = np.unique(np.quantile(everywhere[:, axis], np.linspace(0, 1, 9)).astype(int))
        wanted = np.histogram(everywhere[:, axis], edges)[0]
        found = np.histogram(drawn[:, axis], edges)[0]
        assert chisquare(found, wanted * found.sum() / wanted.sum()).pvalue > 1e-3


@pytest.mark.parametrize("voxel", [(0, 0, 0), (39, 29, 19), (20, 15, 10), (3, 27, 10)])
def test_boxes_are_uniform_among_those_inside_that_hold_the_voxel(voxel):
    shape, size = (40, 30, 20), (5, 4, 3)
    rng = np.random.default_rng(0)
    starts = np.array([box_around(np.array(voxel), shape, size, rng).start for _ in range(6000)])
    allowed = [
        (x, y, z)
        for x in range(max(0, voxel[0] - 4), min(voxel[0], 35) + 1)
        for y in range(max(0, voxel[1] - 3), min(voxel[1], 26) + 1)
        for z in range(max(0, voxel[2] - 2), min(voxel[2], 17) + 1)
    ]
    found, counts = np.unique(starts, axis=0, return_counts=True)
    assert {tuple(start) for start in found.tolist()} == set(allowed)
    if len(allowed) > 1:
        assert chisquare(counts).pvalue > 1e-3


def test_the_voxels_of_a_pair_are_uniform_over_the_body_of_the_overlap(tmp_path):
    """In a scan of one patch's size the overlap is the whole: each body voxel is drawn equally often."""
    cache = stored(tmp_path, body(0, RECIPE.patch_size))
    scan = cache.open(cache.entries()[0])
    hits = np.zeros(scan.shape, int)
    for pair in _pairs(scan, 1500, max_pairs=20):
        hits[tuple((pair.voxels[0] + pair.boxes[0].start).T)] += 1
    everywhere = scan.body(Box((0, 0, 0), scan.shape))
    assert hits[~everywhere].sum() == 0
    assert chisquare(hits[everywhere]).pvalue > 1e-3


def test_the_same_generator_gives_the_same_pair_and_another_another(scan):
    one, same, other = _pairs(scan, 1, 3)[0], _pairs(scan, 1, 3)[0], _pairs(scan, 1, 4)[0]
    np.testing.assert_array_equal(one.patches_hu, same.patches_hu)
    np.testing.assert_array_equal(one.voxels, same.voxels)
    assert one.boxes != other.boxes


def test_scans_smaller_than_a_patch_are_surrounded_by_air(tmp_path):
    cache = stored(tmp_path, body(0, (10, 9, 6)), recipe=Recipe(spacing_mm=RECIPE.spacing_mm, patch_size=(16, 12, 8)))
    scan = cache.open(cache.entries()[0])
    for pair in _pairs(scan, 20):
        assert pair.patches_hu.shape == (2, 16, 12, 8)
        assert pair.voxels.shape[1] == scan.entry.body_voxels
        assert (pair.patches_hu == -1024).sum() >= 2 * (16 * 12 * 8 - 10 * 9 * 6)


def test_a_single_voxel_of_body_is_found(tmp_path):
    image = np.full((20, 20, 12), -1000, np.int16)
    image[0, 0, 0] = image[19, 19, 11] = 50  # the box spans the whole; two voxels are body
    cache = stored(tmp_path, Volume(image, np.diag([2.0, 2, 3, 1])))
    scan = cache.open(cache.entries()[0])
    assert scan.entry.body_voxels == 2
    assert {tuple(v) for v in scan.body_voxels(np.arange(2)).tolist()} == {(0, 0, 0), (19, 19, 11)}
