"""Labelled patches: half around a voxel of a random class."""

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from tests.data.scans import RECIPE, Made, body, labels_for
from vox2vec.data.cache import Cache
from vox2vec.data.patches import LabelledScan, draw_labelled
from vox2vec.geometry import Box
from vox2vec.volume import Volume


def _labelled(folder, labels):
    cache = Cache(folder, RECIPE)
    return LabelledScan(cache.open(cache.store(Made({"a": body(0)}, {"a": labels}), "a", labels=True)))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    scan = body(0)
    labels = labels_for(scan, 1, 5).image.copy()
    labels[labels == 5] = 0
    labels[13, 19, 9], labels[30, 12, 15] = 5, 7  # two classes of one voxel each
    return _labelled(tmp_path_factory.mktemp("cache"), Volume(labels, scan.affine))


def test_a_patch_shows_the_scan_its_labels_and_its_body(labelled):
    scan, rng = labelled.scan, np.random.default_rng(0)
    whole = Box((0, 0, 0), scan.shape)
    for _ in range(20):
        patch = draw_labelled(labelled, rng, patch_size=RECIPE.patch_size)
        np.testing.assert_array_equal(patch.image_hu, scan.image_hu(whole)[patch.box.slices])
        np.testing.assert_array_equal(patch.labels, scan.labels(whole)[patch.box.slices])
        np.testing.assert_array_equal(patch.body, scan.body(whole)[patch.box.slices])


def test_the_classes_voxels_are_those_of_the_labels(labelled):
    labels = labelled.scan.labels(Box((0, 0, 0), labelled.scan.shape)).ravel()
    assert set(labelled.voxels) == {1, 5, 7}
    for number, voxels in labelled.voxels.items():
        np.testing.assert_array_equal(voxels, np.flatnonzero(labels == number))


def test_half_of_the_patches_lie_around_a_class_and_classes_are_equal(labelled):
    """With patches of one voxel the drawn voxel is the patch: the rare classes come as often as the common one."""
    rng = np.random.default_rng(0)
    drawn = [int(draw_labelled(labelled, rng, patch_size=(1, 1, 1)).labels[0, 0, 0]) for _ in range(2000)]
    rare = [drawn.count(5), drawn.count(7)]
    assert chisquare(rare).pvalue > 1e-3
    assert binomtest(sum(rare), 2000, 0.5 * 2 / 3).pvalue > 1e-3
    always = [draw_labelled(labelled, rng, patch_size=(1, 1, 1), class_probability=1.0) for _ in range(600)]
    counts = [sum(int(patch.labels[0, 0, 0]) == number for patch in always) for number in (1, 5, 7)]
    assert sum(counts) == 600
    assert chisquare(counts).pvalue > 1e-3


def test_a_scan_whose_labels_are_all_background_gives_patches_of_the_body(tmp_path):
    scan = body(0)
    labelled = _labelled(tmp_path, Volume(np.zeros(scan.shape, np.uint8), scan.affine))
    rng = np.random.default_rng(0)
    for _ in range(20):
        patch = draw_labelled(labelled, rng, patch_size=(1, 1, 1), class_probability=1.0)
        assert patch.body.all()
