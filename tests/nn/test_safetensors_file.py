"""Files of tensors, whole and readable by whom the umask says."""

import os
from stat import S_IMODE

import pytest
import torch
from safetensors import safe_open

from vox2vec.nn.safetensors_file import write_safetensors


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_file_has_the_permissions_of_any_other_new_file(tmp_path, umask):
    path, other = tmp_path / "a.safetensors", tmp_path / "other"
    before = os.umask(umask)
    try:
        write_safetensors({"a": torch.arange(3)}, path, {"format": "x"})
        other.touch()
    finally:
        os.umask(before)
    assert S_IMODE(path.stat().st_mode) == S_IMODE(other.stat().st_mode)


def test_a_killed_run_leaves_the_old_file_and_the_next_one_replaces_it(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_safetensors({"a": torch.arange(3)}, path, {"format": "x"})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("vox2vec.nn.safetensors_file.save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        write_safetensors({"a": torch.arange(4)}, path, {"format": "y"})
    assert _read(path) == ([0, 1, 2], {"format": "x"})
    monkeypatch.undo()
    write_safetensors({"a": torch.arange(4)}, path, {"format": "y"})
    assert _read(path) == ([0, 1, 2, 3], {"format": "y"})
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def _read(path):
    with safe_open(path, framework="pt") as file:
        return file.get_tensor("a").tolist(), file.metadata()
