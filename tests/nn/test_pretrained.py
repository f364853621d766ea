"""The doors of the Hub, against a local server that speaks its protocol."""

import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from tests.nn.hub_server import COMMIT, Hub, serving
from vox2vec.nn import pretrained as pretrained_module
from vox2vec.nn.checkpoint import save_backbone
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.pretrained import load_backbone, vox2vec_contrastive, vox2vec_vicreg

DOORS = {"contrastive": vox2vec_contrastive, "vicreg": vox2vec_vicreg}


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Files as published: full-size state dicts, here of other seeds."""
    folder = tmp_path_factory.mktemp("released")
    files = {}
    for seed, name in enumerate(DOORS):
        torch.manual_seed(seed)
        files[f"vox2vec_{name}.pt"] = folder / f"vox2vec_{name}.pt"
        torch.save(FPN3d().state_dict(), files[f"vox2vec_{name}.pt"])
    return files


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty Hub cache of our own."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # huggingface_hub's pause before it tries again
    return tmp_path / "cache"


@pytest.fixture
def online(monkeypatch):
    """Make a hub the one that downloads go to."""

    def at(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)

    return at


@pytest.mark.parametrize("name", DOORS)
def test_a_door_downloads_its_pinned_file_once_and_then_works_offline(name, released, cache, online):
    expected = torch.load(released[f"vox2vec_{name}.pt"], weights_only=True)
    with serving(Hub("mishgon/vox2vec", released)) as hub:
        online(hub)
        backbone = DOORS[name]()
        assert not backbone.training
        for key, value in backbone.state_dict().items():
            torch.testing.assert_close(value, expected[key], rtol=0, atol=0)
        assert hub.downloads() == [f"/cdn/vox2vec_{name}.pt"]
        resolved = [path for _, path in hub.requests if "/resolve/" in path]
        assert resolved
        assert all(path == f"/mishgon/vox2vec/resolve/{COMMIT}/vox2vec_{name}.pt" for path in resolved)
        DOORS[name]()
        assert len(hub.downloads()) == 1
    again = DOORS[name]()  # the server is gone
    torch.testing.assert_close(again.first_conv.weight, backbone.first_conv.weight, rtol=0, atol=0)


def test_offline_without_cache_says_how_to_fetch_by_hand(cache, online):
    with serving(Hub("mishgon/vox2vec", {})) as hub:
        online(hub)
    with pytest.raises(ConnectionError) as refused:  # the server is gone
        vox2vec_contrastive()
    message = str(refused.value)
    assert "out of reach" in message
    assert f"mishgon/vox2vec/resolve/{COMMIT}/vox2vec_contrastive.pt" in message
    assert "load_backbone('vox2vec_contrastive.pt'), or --weights vox2vec_contrastive.pt" in message


def test_offline_mode_is_told_the_same_way(cache, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="on another machine, copy it here, and pass the file"):
        load_backbone("vicreg")


def test_released_weights_of_another_network_are_refused(tmp_path, cache, online):
    torch.save(FPN3d(1, 2, 3).state_dict(), tmp_path / "vox2vec_contrastive.pt")
    files = {"vox2vec_contrastive.pt": tmp_path / "vox2vec_contrastive.pt"}
    with serving(Hub("mishgon/vox2vec", files)) as hub:
        online(hub)
        with pytest.raises(ValueError, match="the download is not what was published"):
            vox2vec_contrastive()


def test_the_bare_network_needs_no_hub(monkeypatch):
    monkeypatch.setattr(pretrained_module, "hf_hub_download", None)
    for door in DOORS.values():
        backbone = door(pretrained=False)
        assert (backbone.base_channels, backbone.num_scales, backbone.training) == (16, 6, False)


@pytest.mark.parametrize("filename", ["backbone.safetensors", "other.safetensors"])
def test_a_repository_gives_its_weights(filename, tmp_path, cache, online):
    backbone = FPN3d(1, 2, 3)
    save_backbone(backbone, tmp_path / filename)
    with serving(Hub("someone/lungs", {filename: tmp_path / filename})) as hub:
        online(hub)
        loaded = load_backbone("someone/lungs@main")
    torch.testing.assert_close(loaded.first_conv.weight, backbone.first_conv.weight, rtol=0, atol=0)


def test_a_repository_without_or_with_several_weights_is_refused(tmp_path, cache, online):
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_bytes(b"x")
    with serving(Hub("someone/lungs", {n: tmp_path / n for n in ("a.pt", "b.pt")})) as hub:
        online(hub)
        with pytest.raises(ValueError, match=r"or a single file of weights; got \['a.pt', 'b.pt'\]"):
            load_backbone("someone/lungs")
        with pytest.raises(FileNotFoundError, match="no repository someone/else"):
            load_backbone("someone/else")


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
@pytest.mark.parametrize("name", ["small", "contrastive"])
def test_what_lies_in_the_working_directory_does_not_hide_named_weights(
    name, make, tmp_path, monkeypatch, released, cache, online
):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    with serving(Hub("mishgon/vox2vec", released)) as hub:
        online(hub)
        assert load_backbone(name).base_channels == (8 if name == "small" else 16)
        for path in (f"./{name}", Path(name)):
            with pytest.raises((FileNotFoundError, ValueError), match=rf"there are no weights at {name}|is empty"):
                load_backbone(path)
