"""VICReg over voxels: no negatives, and no matrix of voxels by voxels."""

import torch
from jaxtyping import Float
from torch import Tensor

from vox2vec.distributed import gathered

_EPSILON = 1e-4  # added to variances, as in the paper


def vicreg(
    a: Float[Tensor, "v d"],
    b: Float[Tensor, "v d"],
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Float[Tensor, ""]:
    """Pull the two views of each voxel together, keep every dimension's spread and no two dimensions alike.

    `invariance * mean((a - b)^2) + variance * (v(a) + v(b)) + covariance * (c(a) + c(b))`, with the hinge
    `v = mean_k(max(0, 1 - sqrt(Var_k + 1e-4)))` and `c` the sum of squares of the covariance matrix off its diagonal,
    over `d`. Over several ranks it is that of all their voxels.

    Args:
        a, b: embeddings, not normalised; row `i` of both is the same voxel in two patches.

    Raises:
        ValueError: the views do not pair up, or hold fewer than two voxels.

    Source: Bardes et al., VICReg, arXiv 2105.04906, equations 1 to 6; weights as in docs/method.md section 3.
    """
    if a.shape != b.shape:
        raise ValueError(f"the two views must pair up, got {tuple(a.shape)} and {tuple(b.shape)}")
    with torch.autocast(a.device.type, enabled=False):
        a, b = (
            torch.cat(gathered(view.float() if view.dtype in (torch.float16, torch.bfloat16) else view))
            for view in (a, b)
        )
        if len(a) < 2:
            raise ValueError(f"a variance needs at least two voxels, got {len(a)}")
        loss = invariance * (a - b).square().mean()
        for view in (a, b):
            loss = loss + variance * _hinge(view) + covariance * _redundancy(view)
        return loss


def _hinge(view: Float[Tensor, "v d"]) -> Float[Tensor, ""]:
    return (1 - (view.var(dim=0) + _EPSILON).sqrt()).relu().mean()


def _redundancy(view: Float[Tensor, "v d"]) -> Float[Tensor, ""]:
    centred = view - view.mean(dim=0)
    matrix = centred.T @ centred / (len(view) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / view.shape[1]
