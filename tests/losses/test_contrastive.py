"""InfoNCE against its formula written out, its gradient, its chunks, and ranks against one process."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.losses.ranks import on_ranks
from vox2vec.losses.contrastive import info_nce


def _views(v, d=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    a, b = (F.normalize(torch.randn(v, d, generator=generator, dtype=dtype), dim=1) for _ in range(2))
    return a, b


def slow_info_nce(a, b, temperature):
    """Voxel by voxel, as the sum is written."""
    z = torch.cat([a, b])
    n, total = len(a), 0.0
    for i in range(2 * n):
        positive = z[i] @ z[(i + n) % (2 * n)] / temperature
        total = total - positive + torch.stack([z[i] @ z[j] / temperature for j in range(2 * n) if j != i]).logsumexp(0)
    return total / (2 * n)


@given(v=st.integers(1, 9), temperature=st.sampled_from([0.05, 0.1, 1.0]), chunk=st.sampled_from([1, 3, 4, 1000]))
@settings(deadline=None, max_examples=30)
def test_it_equals_the_formula_in_value_and_gradient_for_any_chunk(v, temperature, chunk):
    views = [view.requires_grad_() for view in _views(v)]
    fast, slow = info_nce(*views, temperature=temperature, chunk=chunk), slow_info_nce(*views, temperature)
    torch.testing.assert_close(fast, slow)
    for one, other in zip(torch.autograd.grad(fast, views), torch.autograd.grad(slow, views), strict=True):
        torch.testing.assert_close(one, other)


def test_loss_and_gradients_equal_the_originals(original):
    with np.load(original / "reference.npz") as file:
        arrays = {name[8:]: torch.from_numpy(file[name]) for name in file.files if name.startswith("infonce/")}
    views = [arrays[name].requires_grad_() for name in ("e1", "e2")]
    loss = info_nce(*(F.normalize(view, dim=1) for view in views), chunk=7)
    torch.testing.assert_close(loss, arrays["loss"], rtol=0, atol=1e-6)
    for found, name in zip(torch.autograd.grad(loss, views), ("grad_e1", "grad_e2"), strict=True):
        torch.testing.assert_close(found, arrays[name], rtol=0, atol=1e-6)


def test_its_gradient_passes_gradcheck():
    views = [view.requires_grad_() for view in _views(5)]
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, chunk=4), views)


def test_views_that_agree_and_voxels_that_differ_are_better():
    a, b = _views(40, 32)
    assert info_nce(a, a) < info_nce(a, b)
    assert info_nce(a, a) < info_nce(a[:1].expand(40, -1), a[:1].expand(40, -1))


def test_voxels_all_alike_give_the_logarithm_of_their_number():
    a = F.normalize(torch.ones(7, 5), dim=1)
    assert info_nce(a, a).item() == pytest.approx(np.log(13), abs=1e-5)


def test_half_precision_is_computed_in_float32():
    a, b = _views(30, 16)
    exact = info_nce(a, b).item()
    assert info_nce(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert info_nce(a.float(), b.float()).item() == pytest.approx(exact, abs=1e-4)


def test_the_gradient_within_autocast_is_that_outside():
    gradients = []
    for enabled in (False, True):
        a, b = (view.float().requires_grad_() for view in _views(30, 16))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            info_nce(a, b, chunk=20).backward()
        gradients.append(torch.cat([a.grad, b.grad]))
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_memory_is_linear_not_quadratic_in_voxels():
    """The saved tensors are the embeddings and one number a row."""
    a, b = (view.float().requires_grad_() for view in _views(600, 8))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        info_nce(a, b, chunk=100).backward()
    assert sum(saved) < 20 * 1200 * 8


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_equal_one_process_in_loss_and_in_every_gradient(world_size):
    """A linear layer shared by all, unequal numbers of voxels on the ranks, gradients averaged as DDP does."""
    results = on_ranks(world_size, "tests.losses.test_contrastive", "one_rank")
    layer, views = _problem(world_size)
    a, b = (F.normalize(layer(torch.cat(parts)), dim=1) for parts in views)
    # The voxels of one process in the order of ranks: the loss does not depend on it.
    loss = info_nce(a, b)
    loss.backward()
    assert np.mean([value for value, _ in results]) == pytest.approx(loss.item(), abs=1e-9)
    averaged = torch.tensor([gradient for _, gradient in results], dtype=torch.float64).mean(dim=0)
    torch.testing.assert_close(averaged, layer.weight.grad.ravel(), rtol=1e-9, atol=1e-12)


def _problem(world_size):
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(6, 5, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(5, 6, generator=generator, dtype=torch.float64))
    counts = [4 + 3 * rank for rank in range(world_size)]
    return layer, [
        [torch.randn(count, 6, generator=generator, dtype=torch.float64) for count in counts] for _ in range(2)
    ]


def one_rank(rank, world_size):
    """On one rank: its loss, and its gradient before averaging."""
    layer, views = _problem(world_size)
    loss = info_nce(*(F.normalize(layer(parts[rank]), dim=1) for parts in views), chunk=3)
    loss.backward()
    return loss.item(), layer.weight.grad.ravel().tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: info_nce(torch.ones(3, 2), torch.ones(4, 2)), r"must pair up, got \(3, 2\) and \(4, 2\)"),
        (lambda: info_nce(torch.ones(3, 2), torch.ones(3, 2), temperature=0), "temperature must be positive"),
    ],
)
def test_bad_input_is_refused(make, message, unchecked_shapes):
    with pytest.raises(ValueError, match=message):
        make()
