"""Level weights: what tells points apart counts, what does not fades."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.inference.scans import blob
from vox2vec import FPN3d
from vox2vec.matching.level_weights import fit_level_weights, learn_level_weights
from vox2vec.recipe import Recipe

CHANNELS = (3, 5)


def _pairs(noise):
    """Two scans of 40 points; the finer level is noise of that size, drawn anew, the coarser the same in both."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        same = torch.randn(40, CHANNELS[1], generator=generator)
        yield tuple(torch.cat([noise * torch.randn(40, CHANNELS[0], generator=generator), same], 1) for _ in range(2))


def _loss(pairs, weights):
    """By the formula: mean over scans and points i of -log(e^(c_ii / 0.05) / sum_j e^(c_ij / 0.05))."""
    total = []
    for one, other in pairs:
        scaled = [
            torch.cat([w * v for w, v in zip(weights, side.split(CHANNELS, 1), strict=True)], 1)
            for side in (one, other)
        ]
        cosine = F.cosine_similarity(scaled[0][:, None], scaled[1][None], dim=2) / 0.05
        total += [cosine[i].logsumexp(0) - cosine[i, i] for i in range(len(cosine))]
    return float(torch.stack(total).mean())


def test_a_level_of_noise_fades_and_the_loss_is_lower_than_at_any_weight_beside():
    pairs = list(_pairs(2.0))
    weights = fit_level_weights(pairs, CHANNELS)
    assert weights[1] == 1
    assert 0 <= weights[0] < 0.1
    assert _loss(pairs, weights) < 0.5 * _loss(pairs, [1, 1])


def test_the_best_weights_are_found():
    pairs = [
        (one, torch.cat([one[:, :3] + 0.5 * torch.randn_like(one[:, :3]), other[:, 3:]], 1))
        for one, other in _pairs(1.0)
    ]
    weights = fit_level_weights(pairs, CHANNELS)
    tried = np.exp(np.linspace(-4, 4, 161))
    best = min(tried, key=lambda ratio: _loss(pairs, [ratio, 1]))
    assert weights[0] / weights[1] == pytest.approx(best, rel=0.1)


def test_they_are_learned_from_scans_and_alike_each_time(tmp_path):
    torch.manual_seed(0)
    backbone = FPN3d(base_channels=4, num_scales=3)
    backbone.recipe = Recipe(patch_size=(16, 16, 8))
    scans = [blob((30, 26, 20), seed) for seed in (0, 1)]
    weights = learn_level_weights(backbone, scans, num_points=50, device="cpu")
    assert len(weights) == 3
    assert max(weights) == 1
    assert 0 < min(weights) < 0.95
    scans[0].save(tmp_path / "scan.nii.gz")
    scans[1].save(tmp_path / "other.nii.gz")
    files = [tmp_path / "scan.nii.gz", tmp_path / "other.nii.gz"]
    assert weights == pytest.approx(learn_level_weights(backbone, files, num_points=50, device="cpu"))


def test_no_scan_is_refused():
    with pytest.raises(ValueError, match="at least one scan"):
        learn_level_weights(FPN3d(), [])
