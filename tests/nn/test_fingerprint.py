"""A fingerprint: the same for the same numbers, another for any other."""

import copy

import pytest
import torch

from vox2vec.nn.checkpoint import backbone_from_file, save_backbone
from vox2vec.nn.fingerprint import fingerprint
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.pretrained import vox2vec_small
from vox2vec.recipe import Recipe


@pytest.fixture
def backbone() -> FPN3d:
    torch.manual_seed(0)
    return FPN3d(1, 2, 3).eval()


def test_a_fingerprint_tells_weights_and_recipes_apart():
    torch.manual_seed(0)
    one, other = FPN3d(1, 2, 3), FPN3d(1, 2, 3)
    assert fingerprint(one) != fingerprint(other)
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(other)
    other.recipe = Recipe(spacing_mm=(2, 2, 2))
    assert fingerprint(one) != fingerprint(other)


def test_the_fingerprints_of_files_in_the_world_stay_what_they_are():
    assert fingerprint(vox2vec_small()) == "f0ef8f9c22b8dba8"  # stands in heads and embeddings


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_count_not_their_storage(dtype, backbone):
    rounded = copy.deepcopy(backbone).to(dtype)
    assert fingerprint(rounded) == fingerprint(copy.deepcopy(rounded).float()) != fingerprint(backbone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_rounded_copy_is_taken_for_what_it_is_a_copy_of_until_it_changes(dtype, backbone, tmp_path):
    save_backbone(backbone, tmp_path / "half.safetensors", dtype=dtype)
    half = backbone_from_file(tmp_path / "half.safetensors")
    assert not torch.equal(half.first_conv.weight, backbone.first_conv.weight)
    assert fingerprint(half) == fingerprint(copy.deepcopy(half)) == fingerprint(backbone)
    save_backbone(half, tmp_path / "again.safetensors")
    assert fingerprint(backbone_from_file(tmp_path / "again.safetensors")) == fingerprint(backbone)
    other = copy.deepcopy(half)
    other.recipe = Recipe(spacing_mm=(2, 2, 2))
    assert fingerprint(other) != fingerprint(backbone)
    with torch.no_grad():
        half.first_conv.bias += 1
    assert fingerprint(half) != fingerprint(backbone)


def test_a_file_of_all_its_numbers_says_nothing_of_rounding(backbone, tmp_path):
    for dtype in (torch.float32, torch.float16):
        backbone = copy.deepcopy(backbone).to(dtype)  # the second time every number is one that half precision holds
        save_backbone(backbone, tmp_path / "backbone.safetensors", dtype=dtype)
        assert backbone_from_file(tmp_path / "backbone.safetensors").rounded is None
