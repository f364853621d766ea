"""Ranks of a run over several processes; in one process everything here is trivial."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def rank() -> int:
    """Of this process, 0 where there is one."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if is_distributed() else 1


def is_distributed() -> bool:
    """Whether torch.distributed was started."""
    return dist.is_available() and dist.is_initialized()


def gathered(rows: Float[Tensor, "v d"]) -> list[Float[Tensor, "_ d"]]:
    """The rows of every rank, by rank; ranks may hold different numbers. Gradients flow back to their ranks, summed.

    So that the optimiser's average over ranks is the gradient of one process, a loss over gathered rows is to be the
    mean over all of them, or a rank's share of the sum times the world size.
    """
    if world_size() == 1:
        return [rows]
    sizes = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([len(rows)], device=rows.device))
    counts = [int(size) for size in sizes]
    padding = rows.new_zeros(max(counts) - len(rows), rows.shape[1])
    parts = _Gathered.apply(torch.cat([rows, padding]))
    return [part[:count] for part, count in zip(parts, counts, strict=True)]


class _Gathered(torch.autograd.Function):
    """Rows of equal shape from every rank; backward sums the ranks' gradients and keeps this rank's part."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient[rank()]
