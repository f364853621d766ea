"""Which weights a command takes where none are named."""

import huggingface_hub.constants
import pytest
import torch

from tests.inference.scans import blob
from tests.nn.hub_server import Hub, serving
from vox2vec import Embedding, FPN3d
from vox2vec.cli.arguments import backbone_of
from vox2vec.cli.main import main
from vox2vec.nn.fingerprint import fingerprint
from vox2vec.nn.head_file import SegmentationHead, save_head
from vox2vec.nn.heads import LinearHead
from vox2vec.nn.pretrained import is_at_hand, vox2vec_small


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache, and a hub that is gone until it is served."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True, raising=False)
    torch.manual_seed(0)
    torch.save(FPN3d().state_dict(), tmp_path / "vox2vec_contrastive.pt")
    hub = Hub("mishgon/vox2vec", {"vox2vec_contrastive.pt": tmp_path / "vox2vec_contrastive.pt"})
    with serving(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
    return hub


def test_without_the_hub_the_small_ones_are_taken_at_once_and_it_is_said(hub, tmp_path, capsys):
    blob((40, 36, 20), 0).save(tmp_path / "scan.nii.gz")
    assert main(["embed", str(tmp_path / "scan.nii.gz"), "-o", str(tmp_path / "out.safetensors")]) == 0
    assert "weights: small, which ship with vox2vec" in capsys.readouterr().out
    embedding = Embedding.load(tmp_path / "out.safetensors")
    assert embedding.fingerprint == fingerprint(vox2vec_small())
    assert embedding.grid.spacing_mm == pytest.approx((3, 3, 3))


def test_the_released_ones_are_taken_from_the_hub_and_then_from_the_cache(hub, monkeypatch, capsys):
    assert not is_at_hand("contrastive")
    with serving(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert is_at_hand("contrastive")
        assert not is_at_hand("vicreg")  # this hub does not have them
        assert backbone_of(None).base_channels == 16
    assert is_at_hand("contrastive")
    assert backbone_of(None).base_channels == 16
    assert capsys.readouterr().out == ""


def test_named_weights_are_taken_without_asking_the_hub(hub):
    assert backbone_of("small").base_channels == 8
    assert hub.requests == []


def test_a_head_of_the_small_ones_finds_them(hub, tmp_path, capsys):
    small = vox2vec_small()
    channels, scales = small.base_channels, small.num_scales
    head = SegmentationHead(LinearHead(channels, scales, 1), {3: "liver"}, fingerprint(small))
    save_head(head, tmp_path / "linear.safetensors", base_channels=channels, num_scales=scales)
    blob((40, 36, 20), 0).save(tmp_path / "scan.nii.gz")
    scan, labels = str(tmp_path / "scan.nii.gz"), str(tmp_path / "labels.nii.gz")
    assert main(["segment", scan, "--head", str(tmp_path / "linear.safetensors"), "-o", labels]) == 0
    assert "3 liver:" in capsys.readouterr().out
    assert hub.requests == []
