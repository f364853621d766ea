"""Which device "auto" takes, and where bfloat16 is computed in."""

import logging

import pytest
import torch

from vox2vec.nn import device as device_module
from vox2vec.nn.device import computes_in_bfloat16, missing_on, pick_device


def test_auto_is_a_device_of_this_machine():
    assert pick_device("auto").type in ("cuda", "mps", "cpu")
    assert pick_device("cpu") == torch.device("cpu")


def test_a_cpu_lacks_nothing_and_a_device_that_cannot_pool_says_so(monkeypatch):
    assert missing_on(torch.device("cpu")) is None

    def refuse(*_):
        raise NotImplementedError("The operator 'aten::max_pool3d' is not implemented for MPS. Set a variable")

    monkeypatch.setattr(device_module.F, "max_pool3d", refuse)
    assert missing_on(torch.device("cpu")) == "The operator 'aten::max_pool3d' is not implemented for MPS"


@pytest.mark.parametrize(("missing", "taken"), [("no float64", "cpu"), (None, "mps")])
def test_auto_takes_mps_only_where_it_has_all_that_runs_there_and_says_what_it_lacks(
    missing, taken, monkeypatch, caplog
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(device_module, "missing_on", lambda device: missing)
    with caplog.at_level(logging.WARNING):
        assert pick_device("auto").type == taken
    assert ("mps lacks what vox2vec computes with (no float64): computing on the CPU" in caplog.text) == bool(missing)


def test_a_gpu_that_emulates_bfloat16_does_not_compute_in_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not computes_in_bfloat16(torch.device("cuda"))
