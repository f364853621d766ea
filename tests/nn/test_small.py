"""The weights that ship with the package: there without network, as small as promised, and the same features still."""

import numpy as np
import pytest
import torch

from vox2vec import Volume, embed, load_backbone, vox2vec_small
from vox2vec.data.phantom import phantom
from vox2vec.geometry import Box
from vox2vec.nn import pretrained
from vox2vec.nn.checkpoint import architecture_of

PLACES = [(0, 0, 0), (8, -10, 4), (-60, 20, 40), (55, -35, -60), (20, 60, 55), (-80, 5, -20)]  # mm from the middle
CHANNELS = [0, 5, 9, 30, 60, 77, 119]
SHAPE = (67, 53, 50)
STORED = [
    [-32.59375, -9.73438, 4.81641, 4.29297, -1.51758, 2.36133, -2.25977],
    [0.46118, -9.64062, 5.14844, 0.15137, -1.55664, 0.93604, -3.46094],
    [-9.07812, -0.95654, 9.95312, -1.66113, -2.75586, 2.26172, -1.99805],
    [-3.78516, 0.04013, -10.25781, -1.50293, -1.58984, 1.20215, -2.72656],
    [-32.25000, 19.25000, 5.47656, -1.87793, -1.13477, 2.68164, -0.60400],
    [-3.83398, 8.49219, 10.23438, -0.32007, -0.30029, 3.01758, -1.76074],
]


def part_of_a_phantom() -> Volume:
    return phantom(3, spacing_mm=(4.0, 4.0, 5.0)).volume.crop(Box((20, 12, 25), (70, 52, 55)))


@pytest.fixture(scope="module")
def small():
    return vox2vec_small()


def test_it_is_small_in_eval_mode_and_needs_no_hub(small, monkeypatch):
    monkeypatch.setattr(pretrained, "hf_hub_download", None)
    again = load_backbone("small")
    assert not small.training
    assert architecture_of(again) == architecture_of(small)
    assert torch.equal(again.first_conv.weight, small.first_conv.weight)
    assert sum(p.numel() for p in small.parameters()) <= 1_000_000
    assert pretrained._SMALL.stat().st_size <= 2_000_000
    assert small.recipe.spacing_mm == (3.0, 3.0, 3.0)


def test_its_features_of_a_phantom_are_the_stored_ones(small):
    """A change of preparation, windows, network or weights that changes features is seen here."""
    scan = part_of_a_phantom()
    embedding = embed(scan, small, device="cpu", precision="32", progress=False)
    assert embedding.shape == SHAPE
    middle = embedding.grid.to_mm((np.array(embedding.shape) - 1) / 2)
    found = embedding.at(middle + np.array(PLACES))[:, CHANNELS]
    np.testing.assert_allclose(found.numpy(), STORED, rtol=1e-3, atol=1e-3)
