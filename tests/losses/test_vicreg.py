"""VICReg against its equations, its gradient, and ranks against one process."""

import numpy as np
import pytest
import torch

from tests.losses.ranks import on_ranks
from vox2vec.losses.vicreg import vicreg


def _views(v=9, d=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(v, d, generator=generator, dtype=torch.float64) for _ in range(2)]


def slow_vicreg(a, b, invariance, variance, covariance):
    """The paper's equations 1 to 6, sum by sum."""
    n, d = a.shape
    total = invariance * sum(((a[i] - b[i]) ** 2).sum() for i in range(n)) / (n * d)
    for z in (a, b):
        mean = sum(z[i] for i in range(n)) / n
        matrix = sum(torch.outer(z[i] - mean, z[i] - mean) for i in range(n)) / (n - 1)
        total = total + variance * sum((1 - (matrix[k, k] + 1e-4).sqrt()).clamp(min=0) for k in range(d)) / d
        total = total + covariance * sum(matrix[k, m] ** 2 for k in range(d) for m in range(d) if k != m) / d
    return total


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_it_equals_the_equations_in_value_and_gradient(weights, scale):
    views = [(scale * view).requires_grad_() for view in _views()]
    options = dict(zip(("invariance", "variance", "covariance"), weights, strict=True))
    fast, slow = vicreg(*views, **options), slow_vicreg(*views, **options)
    torch.testing.assert_close(fast, slow)
    for one, other in zip(
        torch.autograd.grad(fast, views), torch.autograd.grad(slow, views, materialize_grads=True), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_its_gradient_passes_gradcheck():
    assert torch.autograd.gradcheck(vicreg, [view.requires_grad_() for view in _views()])


def test_collapse_costs_the_whole_hinge():
    same = torch.ones(5, 3)
    assert vicreg(same, same).item() == pytest.approx(2 * 25 * (1 - 1e-2), rel=1e-5)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_equal_one_process_in_loss_and_in_every_gradient(world_size):
    results = on_ranks(world_size, "tests.losses.test_vicreg", "one_rank")
    layer, views = _problem(world_size)
    loss = vicreg(*(layer(torch.cat(parts)) for parts in views))
    loss.backward()
    assert [value for value, _ in results] == pytest.approx([loss.item()] * world_size, abs=1e-9)
    averaged = np.mean([gradient for _, gradient in results], axis=0)
    np.testing.assert_allclose(averaged, layer.weight.grad.ravel(), rtol=1e-9, atol=1e-11)


def _problem(world_size):
    layer = torch.nn.Linear(4, 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(12).reshape(3, 4) / 10)
    return layer, [[_views(4 + 3 * rank, seed=rank)[view] for rank in range(world_size)] for view in (0, 1)]


def one_rank(rank, world_size):
    """On one rank: the loss, and its gradient before averaging."""
    layer, views = _problem(world_size)
    loss = vicreg(*(layer(parts[rank]) for parts in views))
    loss.backward()
    return loss.item(), layer.weight.grad.ravel().tolist()


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.ones(3, 2), torch.ones(4, 2), "must pair up"),
        (torch.ones(1, 2), torch.ones(1, 2), "at least two voxels, got 1"),
    ],
)
def test_bad_input_is_refused(a, b, message, unchecked_shapes):
    with pytest.raises(ValueError, match=message):
        vicreg(a, b)
