"""Numbers that tell a good embedding from a collapsed one, without labels."""

import torch
from jaxtyping import Float
from torch import Tensor

_SAMPLE = 1024  # voxels that the quadratic ones look at


def effective_rank(vectors: Float[Tensor, "v d"]) -> float:
    """How many dimensions the vectors use: `exp(-sum p log p)` of the singular values' shares `p`, after centring.

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007.
    """
    sample = vectors[:_SAMPLE].double()
    sample = sample - sample.mean(dim=0)
    values = torch.linalg.eigvalsh(sample.T @ sample).clamp_min(0).sqrt()
    if not bool(values.sum() > 0):
        return 0.0
    shares = values / values.sum()
    return float((-torch.xlogy(shares, shares).sum()).exp())


def alignment(a: Float[Tensor, "v d"], b: Float[Tensor, "v d"]) -> float:
    """Mean squared distance of the two views of a voxel; unit vectors. Source: Wang and Isola, arXiv 2005.10242."""
    return float((a - b).square().sum(dim=1).mean())


def uniformity(vectors: Float[Tensor, "v d"]) -> float:
    """`log mean exp(-2 |x - y|^2)` over pairs of unit vectors; lower is more uniform. Same source."""
    sample = vectors[:_SAMPLE]
    return float(torch.pdist(sample).square().mul(-2).exp().mean().log())


def negative_similarity(a: Float[Tensor, "v d"], b: Float[Tensor, "v d"]) -> float:
    """Mean cosine of different voxels' unit vectors across views."""
    a, b = a[:_SAMPLE], b[:_SAMPLE]
    n = len(a)
    return float(((a.sum(dim=0) * b.sum(dim=0)).sum() - (a * b).sum()) / max(1, n * (n - 1)))
