"""The residual blocks of the feature pyramid and of the non-linear head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """torch's, but in full precision where it trains in bfloat16 on a CPU and the first axis has two voxels.

    There oneDNN's gradient of a 3x3x3 weight reads memory that nothing was written to (`jit_bf16:avx512_core_bf16`,
    oneDNN 3.12 in torch 2.13): a loss that is NaN now and then, and never twice the same.
    """

    def forward(self, input: Float[Tensor, "n c x y z"]) -> Float[Tensor, "n d u v w"]:
        if input.is_cpu and input.shape[2] == 2 and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled():
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)


class ResBlock3d(nn.Module):
    """Pre-activation residual block: twice batch norm, ReLU, convolution, added to the input.

    Source: He et al., "Identity Mappings in Deep Residual Networks", 2016, figure 4e.
    """

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.layers = nn.Sequential(
            nn.BatchNorm3d(channels),
            nn.ReLU(),
            Conv3d(channels, channels, kernel_size, padding=padding),
            nn.BatchNorm3d(channels),
            nn.ReLU(),
            Conv3d(channels, channels, kernel_size, padding=padding),
        )

    def forward(self, x: Float[Tensor, "n c x y z"]) -> Float[Tensor, "n c x y z"]:
        return x + self.layers(x)


class ResBlocks3d(nn.Module):
    """A stack of residual blocks of equal width."""

    def __init__(self, channels: int, num_blocks: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(ResBlock3d(channels) for _ in range(num_blocks)))

    def forward(self, x: Float[Tensor, "n c x y z"]) -> Float[Tensor, "n c x y z"]:
        return self.layers(x)
