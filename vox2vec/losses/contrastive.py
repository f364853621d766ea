"""InfoNCE over voxels, in memory linear in their number."""

from itertools import combinations_with_replacement
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vox2vec.distributed import gathered, rank, world_size

CHUNK = 1024
"""Rows and columns of the blocks in which similarities are computed, and forgotten."""


def info_nce(
    a: Float[Tensor, "v d"], b: Float[Tensor, "v d"], *, temperature: float = 0.1, chunk: int = CHUNK
) -> Float[Tensor, ""]:
    """Pull the two views of each voxel together, push all other voxels apart.

    `mean_i(log(sum_{j != i} exp(z_i z_j / t)) - z_i z_i' / t)`, where `z` are the `2v` rows of both views, of all
    ranks, and `z_i'` is the other view of `z_i`. The `2v x 2v` similarities are computed in blocks, half of them by
    symmetry, and again for the gradient: memory is linear in `v`.

    Over several ranks each has its own voxels, and they are each other's negatives; ranks return their share, whose
    average over ranks is the loss.

    Args:
        a, b: unit embeddings; row `i` of both is the same voxel in two patches.

    Raises:
        ValueError: the views do not pair up, or the temperature is not positive.

    Source: docs/method.md section 3; arXiv 2307.14725, equation 1; van den Oord et al., arXiv 1807.03748.
    """
    if a.shape != b.shape:
        raise ValueError(f"the two views must pair up, got {tuple(a.shape)} and {tuple(b.shape)}")
    if not temperature > 0:
        raise ValueError(f"the temperature must be positive, got {temperature}")
    with torch.autocast(a.device.type, enabled=False):
        z = torch.cat([a, b]).float() if a.dtype in (torch.float16, torch.bfloat16) else torch.cat([a, b])
        everyone = gathered(z)
        others = torch.cat([z[:0], *(rows for r, rows in enumerate(everyone) if r != rank())])
        attraction = (z * z.roll(len(a), dims=0)).sum(dim=1) / temperature
        own = (_LogPartition.apply(z, others, temperature, chunk) - attraction).sum()
        return own * world_size() / (len(z) + len(others))


class _LogPartition(torch.autograd.Function):
    """`log(sum_{j != i} exp(z_i z_j / t) + sum_k exp(z_i y_k / t))` for each unit row of `z`; `y` are other ranks'.

    Exponents are taken less `1 / t`, the greatest they can be, so none overflows.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Float[Tensor, "v d"], y: Float[Tensor, "w d"], temperature: float, chunk: int
    ) -> Float[Tensor, " v"]:
        sums = z.new_zeros(len(z))
        for i, j in _pairs(len(z), chunk):
            block = _exponentials(z[i], z[j], temperature, is_diagonal=i == j)
            sums[i] += block.sum(dim=1)
            if i != j:
                sums[j] += block.sum(dim=0)
        for i in _slices(len(z), chunk):
            for k in _slices(len(y), chunk):
                sums[i] += _exponentials(z[i], y[k], temperature).sum(dim=1)
        sums = sums.clamp_min(torch.finfo(sums.dtype).tiny)
        ctx.save_for_backward(z, y, sums)
        ctx.temperature, ctx.chunk = temperature, chunk
        return sums.log() + 1 / temperature

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, " v"]) -> tuple[Tensor, Tensor, None, None]:
        z, y, sums = ctx.saved_tensors
        weights = gradient / sums / ctx.temperature
        to_z, to_y = torch.zeros_like(z), torch.zeros_like(y)
        with torch.autocast(z.device.type, enabled=False):  # as forward, where backward is called within one
            for i, j in _pairs(len(z), ctx.chunk):
                block = _exponentials(z[i], z[j], ctx.temperature, is_diagonal=i == j)
                block *= weights[i, None] + weights[None, j]
                to_z[i].addmm_(block, z[j])
                if i != j:
                    to_z[j].addmm_(block.T, z[i])
            for i in _slices(len(z), ctx.chunk):
                for k in _slices(len(y), ctx.chunk):
                    block = _exponentials(z[i], y[k], ctx.temperature).mul_(weights[i, None])
                    to_z[i].addmm_(block, y[k])
                    to_y[k].addmm_(block.T, z[i])
        return to_z, to_y, None, None


def _exponentials(
    rows: Float[Tensor, "v d"], columns: Float[Tensor, "w d"], temperature: float, *, is_diagonal: bool = False
) -> Float[Tensor, "v w"]:
    block = torch.mm(rows, columns.T).sub_(1).div_(temperature).exp_()
    return block.fill_diagonal_(0) if is_diagonal else block


def _slices(n: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]


def _pairs(n: int, chunk: int) -> list[tuple[slice, slice]]:
    """Each block on and above the diagonal."""
    return list(combinations_with_replacement(_slices(n, chunk), 2))
