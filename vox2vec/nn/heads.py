"""Heads on top of the pyramid: linear and non-linear for segmentation, and the projector of pre-training."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vox2vec.nn.blocks import ResBlock3d


class LinearHead(nn.Module):
    """A linear classifier of every voxel's vector: logits (n, classes, x, y, z) at full resolution.

    One 1x1x1 convolution per level, summed from coarse to fine with nearest upsampling. This equals one linear layer
    on the concatenated vectors, without ever forming them.

    Args:
        base_channels, num_scales: those of the backbone.
        num_classes: output channels.
    """

    def __init__(self, base_channels: int, num_scales: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv3d(base_channels * 2**i, num_classes, kernel_size=1, bias=i == 0) for i in range(num_scales)
        )

    def forward(self, pyramid: Sequence[Float[Tensor, "n _ _ _ _"]]) -> Float[Tensor, "n classes x y z"]:
        _check_levels(pyramid, len(self.layers))
        maps = [layer(level) for layer, level in zip(self.layers, pyramid, strict=True)]
        total = maps[-1]
        for finer in maps[-2::-1]:
            total = finer + F.interpolate(total, finer.shape[2:], mode="nearest")
        return total


class NonLinearHead(nn.Module):
    """The pyramid's way up once more with 1x1x1 residual blocks, then a classifier: logits (n, classes, x, y, z).

    Args:
        base_channels, num_scales: those of the backbone.
        num_classes: output channels.
    """

    def __init__(self, base_channels: int, num_scales: int, num_classes: int) -> None:
        super().__init__()
        channels = [base_channels * 2**i for i in range(num_scales)]
        coarse_to_fine = range(num_scales - 2, -1, -1)
        self.bottom_block = ResBlock3d(channels[-1], kernel_size=1)
        self.up_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv3d(channels[i + 1], channels[i], 1), nn.Upsample(scale_factor=2))
            for i in coarse_to_fine
        )
        self.skip_blocks = nn.ModuleList(nn.Conv3d(channels[i], channels[i], 1) for i in coarse_to_fine)
        self.right_blocks = nn.ModuleList(ResBlock3d(channels[i], kernel_size=1) for i in coarse_to_fine)
        self.final_block = nn.Conv3d(channels[0], num_classes, kernel_size=1)

    def forward(self, pyramid: Sequence[Float[Tensor, "n _ _ _ _"]]) -> Float[Tensor, "n classes x y z"]:
        _check_levels(pyramid, len(self.up_blocks) + 1)
        x = self.bottom_block(pyramid[-1])
        for up, skip, right, finer in zip(
            self.up_blocks, self.skip_blocks, self.right_blocks, pyramid[-2::-1], strict=True
        ):
            _, _, sx, sy, sz = finer.shape
            x = right(up(x)[:, :, :sx, :sy, :sz] + skip(finer))
        return self.final_block(x)


class ProjectionHead(nn.Sequential):
    """The projector of pre-training: vectors (v, d) to unit embeddings (v, out), compared by the loss and then dropped.

    Linear, batch norm, ReLU twice, then linear and L2 normalisation.

    Source: Chen et al., "SimCLR", 2020; widths of the released code: 1008, 1008, 1008, 128.
    """

    def __init__(self, channels: int = 1008, out_channels: int = 128) -> None:
        super().__init__(
            nn.Linear(channels, channels),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Linear(channels, out_channels),
        )

    def forward(self, vectors: Float[Tensor, "v d"]) -> Float[Tensor, "v out"]:
        projected = super().forward(vectors)
        precise = torch.promote_types(projected.dtype, torch.float32)  # autocast's bfloat16 has norms 0.8 % off
        return F.normalize(projected.to(precise), dim=1)


def _check_levels(pyramid: Sequence[Tensor], num_scales: int) -> None:
    if len(pyramid) != num_scales:
        raise ValueError(
            f"this head reads a pyramid of {num_scales} levels, got {len(pyramid)}; "
            "build it with the backbone's num_scales"
        )
