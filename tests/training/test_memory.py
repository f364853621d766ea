"""The peak of memory, in bytes on every system."""

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from vox2vec.training import memory


@pytest.fixture
def without_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")


def test_holding_more_raises_the_peak_by_as_much():
    before = memory.peak_bytes()
    held = np.ones(before // 8 + 2**25)  # as much as was ever held, and 256 MB
    assert memory.peak_bytes() - before > 0.9 * 2**28
    assert held.nbytes > before


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("linux", 1024)])
def test_macos_tells_bytes_and_others_kibibytes(platform, unit, without_proc, monkeypatch):
    told = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=5000))
    monkeypatch.setattr(memory, "resource", told)
    monkeypatch.setattr(sys, "platform", platform)
    assert memory.peak_bytes() == 5000 * unit


def test_a_system_without_the_module_resource_is_no_error(without_proc, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # an import of it raises ImportError
    try:
        assert importlib.reload(memory).resource is None
        monkeypatch.setattr(memory, "_STATUS", memory.Path("/nowhere"))
        assert memory.peak_bytes() is None
    finally:
        monkeypatch.undo()
        importlib.reload(memory)
