"""Files of weights: what is read, what is refused and in which words."""

import json
from collections import OrderedDict

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vox2vec.nn.checkpoint import backbone_from_file, save_backbone
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.heads import LinearHead, ProjectionHead
from vox2vec.nn.pretrained import load_backbone
from vox2vec.recipe import PAPER, Recipe


@pytest.fixture
def backbone() -> FPN3d:
    torch.manual_seed(0)
    return FPN3d(1, 3, 4)


def assert_same(one: FPN3d, other: FPN3d) -> None:
    for (name, a), (other_name, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert name == other_name
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_saved_backbone_is_rebuilt_from_the_file_alone(tmp_path):
    backbone = FPN3d(1, 2, 4, num_blocks=[1, 2, 3, 1])
    backbone.recipe = Recipe(spacing_mm=(4, 4, 3), patch_size=(32, 32, 32))
    save_backbone(backbone, tmp_path / "b.safetensors", metadata={"command": "pretrain"})
    loaded = load_backbone(tmp_path / "b.safetensors")
    assert_same(backbone, loaded)
    assert loaded.recipe == backbone.recipe
    assert loaded.num_blocks == (1, 2, 3, 1)
    assert not loaded.training
    with safe_open(tmp_path / "b.safetensors", "pt") as file:
        assert file.metadata()["command"] == "pretrain"
    assert [p.name for p in tmp_path.iterdir()] == ["b.safetensors"]


def test_half_precision_halves_the_file_and_loads_as_float32(backbone, tmp_path):
    save_backbone(backbone, tmp_path / "half.safetensors", dtype=torch.float16)
    save_backbone(backbone, tmp_path / "whole.safetensors")
    half, whole = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole"))
    numbers = sum(value.numel() for value in backbone.state_dict().values() if value.is_floating_point())
    assert whole - half == pytest.approx(2 * numbers, abs=200)  # the header says F16 for F32, offsets are shorter
    loaded = load_backbone(tmp_path / "half.safetensors").state_dict()
    for name, value in backbone.state_dict().items():
        assert loaded[name].dtype == value.dtype
        torch.testing.assert_close(loaded[name], value, rtol=1e-3, atol=1e-7)


def test_a_number_too_large_for_half_precision_is_refused(backbone, tmp_path):
    with torch.no_grad():
        backbone.first_conv.bias[0] = 1e6
    with pytest.raises(ValueError, match=r"first_conv.bias must hold numbers that torch.float16 can hold"):
        save_backbone(backbone, tmp_path / "half.safetensors", dtype=torch.float16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "prefix", ["", "backbone.", "module.", "model.", "model.backbone.", "_orig_mod.", "module.model."]
)
def test_known_prefixes_are_stripped_and_heads_dropped(prefix, backbone, tmp_path):
    state = {prefix + name: value for name, value in backbone.state_dict().items()}
    heads = {"proj_head": ProjectionHead(45, 8), "heads.0": LinearHead(3, 4, 2), "head": LinearHead(3, 4, 2)}
    for name, head in heads.items():
        state |= {f"{name}.{n}": v for n, v in head.state_dict().items()}
    torch.save(state, tmp_path / "weights.pt")
    loaded = load_backbone(tmp_path / "weights.pt")
    assert_same(backbone, loaded)
    assert loaded.recipe == PAPER


def test_a_lightning_checkpoint_is_read_for_its_backbone(backbone, tmp_path):
    state = OrderedDict((f"backbone.{n}", v) for n, v in backbone.state_dict().items())
    checkpoint = {
        "epoch": 3,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": state,
        "hyper_parameters": {"lr": 3e-4, "base_channels": 3},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 3e-4}]}],
    }
    torch.save(checkpoint, tmp_path / "last.ckpt")
    assert_same(backbone, load_backbone(tmp_path / "last.ckpt"))


def test_the_content_decides_not_the_suffix(backbone, tmp_path):
    save_backbone(backbone, tmp_path / "weights.pt")
    assert_same(backbone, load_backbone(str(tmp_path / "weights.pt")))
    torch.save(backbone.state_dict(), tmp_path / "weights")
    assert_same(backbone, load_backbone(tmp_path / "weights"))


def test_code_in_a_pickle_is_refused_and_does_not_run(backbone, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    torch.save({"state_dict": backbone.state_dict(), "hyper_parameters": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(ValueError, match=r"holds pickled code, which is never run here.*torch.save"):
        load_backbone(tmp_path / "bomb.ckpt")
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_truncated_file_is_refused_by_name(suffix, share, backbone, tmp_path):
    path = tmp_path / f"weights{suffix}"
    torch.save(backbone.state_dict(), path) if suffix == ".pt" else save_backbone(backbone, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=rf"weights{suffix} is truncated or damaged.*download or copy it again"):
        load_backbone(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; download the weights again"),
        (b"\n<!DOCTYPE html><html>", "is an HTML page, not weights.*/resolve/"),
        (b"<html><body>", "is an HTML page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
            "git-lfs pointer, not weights; run `git",
        ),
        (b"hello world, this is a text file", "not a file of weights"),
    ],
)
def test_what_is_no_weights_is_named(content, message, tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_backbone(path)


def test_wrong_names_are_told_with_the_likely_reason(backbone, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({f"encoder.{n}": v for n, v in backbone.state_dict().items()}, path)
    with pytest.raises(
        ValueError, match=r"missing first_conv.weight; unexpected encoder.bottom.*a prefix .*'encoder\.'"
    ):
        load_backbone(path)
    torch.save({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"unexpected conv1.weight, fc.bias. Likely another architecture: an FPN3d"):
        load_backbone(path)
    state = dict(backbone.state_dict())
    for name in [n for n in state if n.startswith("skip_blocks.0")]:
        del state[name]
    torch.save(state | {"extra": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"missing skip_blocks.0.bias, skip_blocks.0.weight; unexpected extra. Likely"):
        load_backbone(path)


def test_wrong_shapes_are_told_with_the_likely_reason(backbone, tmp_path):
    path = tmp_path / "weights.pt"
    state = dict(backbone.state_dict())
    torch.save(state | {"skip_blocks.0.bias": torch.zeros(5)}, path)
    with pytest.raises(ValueError, match=r"wrong skip_blocks.0.bias is \(5,\). Likely other channels"):
        load_backbone(path)
    torch.save(state | {"first_conv.weight": torch.zeros(3, 1, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"first_conv.weight is \(3, 1, 3, 3\), must have 5 axes. Likely a 2D network"):
        load_backbone(path)


def test_a_file_that_contradicts_itself_or_is_newer_is_refused(backbone, tmp_path):
    path = tmp_path / "b.safetensors"
    save_backbone(backbone, path)
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    architecture = json.loads(metadata["architecture"]) | {"base_channels": 16}
    save_file(tensors, path, metadata | {"architecture": json.dumps(architecture)})
    with pytest.raises(ValueError, match="the file was changed after it was saved"):
        backbone_from_file(path)
    save_file(tensors, path, metadata | {"format_version": "2"})
    with pytest.raises(ValueError, match="has format version 2, this vox2vec reads version 1"):
        backbone_from_file(path)


def test_weights_that_are_no_state_dict_or_nowhere_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="must hold a state dict, names to tensors, got list"):
        load_backbone(tmp_path / "list.pt")
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nowhere.pt; give a file, a Hub repository"):
        load_backbone(tmp_path / "nowhere.pt")
    with pytest.raises(FileNotFoundError, match="one of contrastive, vicreg"):
        load_backbone("contrastiv")
