"""The residual blocks of the feature pyramid and of the non-linear head."""

from jaxtyping import Float
from torch import Tensor, nn


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
            nn.Conv3d(channels, channels, kernel_size, padding=padding),
            nn.BatchNorm3d(channels),
            nn.ReLU(),
            nn.Conv3d(channels, channels, kernel_size, padding=padding),
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
