"""Random numbers for `n` patches from one generator."""

import torch
from jaxtyping import Bool, Float32
from torch import Tensor


def chosen(n: int, probability: float, generator: torch.Generator) -> Bool[Tensor, " n"]:
    """True with `probability`, independently for each patch."""
    return torch.rand(n, generator=generator) < probability


def uniform(n: int, bounds: tuple[float, float], generator: torch.Generator) -> Float32[Tensor, " n"]:
    """Uniform between the two bounds."""
    low, high = bounds
    return low + (high - low) * torch.rand(n, generator=generator)
