"""A head's file: rebuilt alone, bound to its backbone, refused where it is none."""

import time
from dataclasses import replace

import huggingface_hub.constants
import pytest
import torch

from tests.nn.hub_server import Hub, serving
from vox2vec.nn.checkpoint import backbone_from_file, save_backbone
from vox2vec.nn.fingerprint import fingerprint
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.head_file import KINDS, SegmentationHead, check_backbone, load_head, save_head, weights_beside
from vox2vec.nn.pretrained import vox2vec_small

NAMES = {3: "liver", 7: "spleen", 300: "rib"}


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return FPN3d(base_channels=2, num_scales=3).eval()


def _head(backbone, kind):
    torch.manual_seed(1)
    network = KINDS[kind](backbone.base_channels, backbone.num_scales, len(NAMES))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.running_mean, -1, 1)
    return SegmentationHead(network.eval(), NAMES, fingerprint(backbone))


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_comes_back_as_it_was(kind, backbone, tmp_path):
    head, path = _head(backbone, kind), tmp_path / "head.safetensors"
    save_head(head, path, base_channels=2, num_scales=3, metadata={"trained_by": "a test"})
    again = load_head(path)
    assert not again.network.training
    assert again.label_names == NAMES
    check_backbone(again, backbone)
    pyramid = backbone(torch.randn(1, 1, 8, 8, 8))
    torch.testing.assert_close(again.network(pyramid), head.network(pyramid), rtol=0, atol=0)


def test_another_backbone_is_refused(backbone, tmp_path):
    torch.manual_seed(5)
    other = FPN3d(base_channels=2, num_scales=3)
    with pytest.raises(ValueError, match=f"trained on, {fingerprint(backbone)}; this one is {fingerprint(other)}"):
        check_backbone(_head(backbone, "linear"), other)


def test_a_half_precision_copy_of_its_backbone_serves_a_head(backbone, tmp_path):
    save_backbone(backbone, tmp_path / "half.safetensors", dtype=torch.float16)
    check_backbone(_head(backbone, "linear"), backbone_from_file(tmp_path / "half.safetensors"))


def test_a_head_takes_the_weights_beside_it_then_the_small_ones_it_knows_then_the_released(backbone, tmp_path):
    path = tmp_path / "linear.safetensors"
    of_small = replace(_head(backbone, "linear"), fingerprint=fingerprint(vox2vec_small()))
    assert weights_beside(of_small, path) == "small"
    assert weights_beside(_head(backbone, "linear"), path) == "contrastive"
    save_backbone(backbone, tmp_path / "backbone.safetensors")
    for head in (of_small, _head(backbone, "linear")):
        assert weights_beside(head, path) == str(tmp_path / "backbone.safetensors")


def test_what_is_no_head_is_refused(backbone, tmp_path):
    save_backbone(backbone, tmp_path / "backbone.safetensors")
    with pytest.raises(ValueError, match=r"must be a head saved by vox2vec.*a backbone goes to --weights"):
        load_head(tmp_path / "backbone.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="must be a head's safetensors"):
        load_head(tmp_path / "broken.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no head at"):
        load_head(tmp_path / "absent.safetensors")


def test_a_head_comes_from_the_hub(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    path = tmp_path / "head.safetensors"
    save_head(_head(backbone, "linear"), path, base_channels=2, num_scales=3)
    with serving(Hub("someone/organs", {"head.safetensors": path})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert load_head("someone/organs").label_names == NAMES
