"""Gradients in mixed precision on a CPU, in memory that holds whatever was there before."""

import ctypes
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from vox2vec.nn.blocks import Conv3d, ResBlock3d

_M_PERTURB = -6  # of mallopt(3): fresh memory is filled with a byte's complement


@pytest.fixture
def dirty_memory() -> Iterator[Callable[[int], int]]:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        pytest.skip("needs glibc, to fill fresh memory")
    yield lambda byte: mallopt(_M_PERTURB, byte)
    mallopt(_M_PERTURB, 0)


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 4, 4), (2, 8, 1), (1, 4, 4), (3, 2, 2), (4, 2, 2)])
@pytest.mark.parametrize("byte", [1, 128])
def test_weight_gradients_in_bfloat16_do_not_depend_on_what_the_memory_held(shape, byte, dirty_memory):
    torch.manual_seed(0)
    block = ResBlock3d(16)
    patches = torch.randn(4, 16, *shape)
    expected = _gradients(block, patches, bfloat16=False)
    dirty_memory(byte)
    found = _gradients(block, patches, bfloat16=True)
    largest = max(gradient.norm() for gradient in expected)  # a bias before a batch norm has none but rounding
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 0.1 * other.norm() + 1e-3 * largest


def test_a_convolution_equals_torchs_and_stays_in_bfloat16_where_it_can():
    torch.manual_seed(0)
    ours, theirs = Conv3d(4, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
    theirs.load_state_dict(ours.state_dict())
    for x in (torch.randn(2, 4, 2, 5, 6), torch.randn(2, 4, 6, 5, 2)):
        assert torch.equal(ours(x), theirs(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(torch.randn(2, 4, 4, 2, 2)).dtype == torch.bfloat16
        assert ours(torch.randn(2, 4, 2, 2, 2)).dtype == torch.float32
        with torch.inference_mode():
            assert ours(torch.randn(2, 4, 2, 2, 2)).dtype == torch.bfloat16


def _gradients(block: nn.Module, patches: torch.Tensor, *, bfloat16: bool) -> list[torch.Tensor]:
    block.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        (block(patches).float() ** 2).sum().backward()
    return [p.grad.clone() for p in block.parameters() if p.grad is not None]
