"""The backbone in inference: precision, its measured error, compilation."""

import logging
import math

import pytest
import torch

import vox2vec.inference.runner as runner_module
from tests.inference.scans import tiny_backbone
from vox2vec.inference.runner import backbone_runner, relative_error

CPU = torch.device("cpu")


@pytest.fixture
def patches() -> torch.Tensor:
    return torch.rand(1, 1, 16, 20, 9, generator=torch.Generator().manual_seed(0))


def test_float32_equals_the_backbone_in_eval_mode(patches):
    backbone = tiny_backbone((16, 16, 8))
    run = backbone_runner(backbone, patches, device=CPU, precision="32")
    for a, b in zip(run(patches), backbone(patches), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_bfloat16_differs_by_at_most_two_percent_and_returns_bfloat16(patches):
    backbone = tiny_backbone((16, 16, 8))
    run = backbone_runner(backbone, patches, device=CPU, precision="bf16")
    with torch.inference_mode():
        assert all(level.dtype == torch.bfloat16 for level in run(patches))
    assert 0 < relative_error(run, backbone, patches) < 0.02
    assert next(backbone.parameters()).dtype == torch.float32


def test_auto_takes_bfloat16_where_the_hardware_has_it_and_the_error_is_small(patches, monkeypatch):
    backbone = tiny_backbone((16, 16, 8))
    monkeypatch.setattr(runner_module, "relative_error", lambda *_: 0.005)
    for has_it, dtype in [(True, torch.bfloat16), (False, torch.float32)]:
        monkeypatch.setattr(runner_module, "computes_in_bfloat16", lambda _, has_it=has_it: has_it)
        with torch.inference_mode():
            assert backbone_runner(backbone, patches, device=CPU)(patches)[0].dtype == dtype


@pytest.mark.parametrize("error", [0.0101, float("nan")])
def test_auto_stays_with_float32_above_one_percent_of_error(error, patches, monkeypatch, caplog):
    backbone = tiny_backbone((16, 16, 8))
    monkeypatch.setattr(runner_module, "computes_in_bfloat16", lambda _: True)
    monkeypatch.setattr(runner_module, "relative_error", lambda *_: error)
    with caplog.at_level(logging.INFO):
        run = backbone_runner(backbone, patches, device=CPU)
    assert run(patches)[0].dtype == torch.float32
    assert "above 0.01" in caplog.text


def test_the_relative_error_is_that_of_the_worst_level():
    exact = [torch.ones(4), torch.full((9,), 2.0)]
    one = [torch.ones(4) * 1.001, torch.full((9,), 2.2)]
    assert relative_error(lambda _: one, lambda _: exact, torch.zeros(1, 1, 1, 1, 1)) == pytest.approx(0.1)


@pytest.mark.parametrize("level", [0, 1])
def test_a_level_that_is_no_number_makes_the_relative_error_none(level):
    exact = [torch.ones(4), torch.full((9,), 2.0)]
    one = [torch.ones(4), torch.full((9,), 2.0)]
    one[level][2] = torch.nan
    assert math.isnan(relative_error(lambda _: one, lambda _: exact, torch.zeros(1, 1, 1, 1, 1)))


def test_a_machine_that_cannot_compile_goes_on_without(patches, monkeypatch, caplog):
    def refuse(*_, **__):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", refuse)
    backbone = tiny_backbone((16, 16, 8))
    run = backbone_runner(backbone, patches, device=CPU, precision="32", compiled=True)
    torch.testing.assert_close(run(patches)[0], backbone(patches)[0])
    assert "no C++ compiler" in caplog.text


@pytest.mark.slow
def test_the_compiled_backbone_gives_the_same_features(patches):
    backbone = tiny_backbone((16, 16, 8))
    run = backbone_runner(backbone, patches, device=CPU, precision="32", compiled=True)
    with torch.inference_mode():
        torch.testing.assert_close(run(patches)[0], backbone(patches)[0], rtol=0, atol=1e-4)
