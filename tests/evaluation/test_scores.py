"""Scores of one CT against slow definitions, on both grids."""

import numpy as np
import pytest
import torch

from tests.data.scans import RECIPE, Made, body, labels_for
from tests.inference.whole import class_probabilities
from vox2vec.data.cache import Cache
from vox2vec.evaluation.scores import scores_of
from vox2vec.geometry import Box
from vox2vec.metrics.overlap import dice
from vox2vec.nn.fpn import FPN3d
from vox2vec.training.heads import fresh_heads

NUMBERS = [1, 2, 9]  # nothing is labelled 9


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"), RECIPE)
    volume = body(0)
    source = Made({"s": volume}, {"s": labels_for(volume, 1, 2)})
    entry = cache.store(source, "s", labels=True)
    torch.manual_seed(0)
    backbone = FPN3d(base_channels=2, num_scales=3).eval()
    backbone.recipe = RECIPE
    heads = {name: head.eval() for name, head in fresh_heads(backbone, 3, ("linear", "nonlinear"), seed=1).items()}
    with torch.no_grad():  # a linear head that finds class 1 everywhere, 2 nowhere
        for parameter in heads["linear"].parameters():
            parameter.zero_()
        heads["linear"].layers[0].bias.copy_(torch.tensor([3.0, -5.0, -5.0]))
    truth = source.labels("s")
    return cache.open(entry), backbone, heads, truth, *scores_of(cache, entry, truth, backbone, heads, NUMBERS)


def test_the_official_dice_is_of_each_class_by_itself(scored):
    scan, backbone, heads, _, scores, _ = scored
    whole = Box((0, 0, 0), scan.shape)
    labels, inside = scan.labels(whole), scan.body(whole)
    found = class_probabilities(scan.image_hu(whole), inside, backbone, list(heads.values()))
    for name, classes in zip(heads, found, strict=True):
        for mask, number in zip(classes >= 0.5, NUMBERS[:2], strict=False):
            assert scores[name][number]["dice"] == pytest.approx(dice(mask, labels == number))


def test_the_rest_is_of_the_labels_on_the_scans_own_grid(scored):
    *_, truth, scores, labels = scored
    for name in ("linear", "nonlinear"):
        assert labels[name].shape == truth.shape
        np.testing.assert_array_equal(labels[name].affine, truth.affine)
        for number in NUMBERS[:2]:
            found, true = labels[name].image == number, truth.image == number
            assert scores[name][number]["dice_original"] == pytest.approx(dice(found, true))
            assert scores[name][number]["voxels_true"] == true.sum() > 0
            assert scores[name][number]["voxels_found"] == found.sum()


def test_an_absent_structure_has_no_score_and_a_missed_one_no_distance(scored):
    scores = scored[-2]["linear"]
    metrics = ("dice", "dice_original", "surface_dice_2mm", "hausdorff95_mm")
    assert [scores[9][metric] for metric in metrics] == [None] * 4
    assert scores[9]["voxels_true"] == 0
    assert [scores[2][metric] for metric in metrics] == [0, 0, 0, None]
    assert scores[2]["voxels_true"] > 0 == scores[2]["voxels_found"]
    assert scores[1]["hausdorff95_mm"] > 0
