"""The 3D feature pyramid network whose concatenated levels are the vectors of the voxels."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from vox2vec.nn.blocks import Conv3d, ResBlocks3d
from vox2vec.recipe import PAPER, Recipe


@dataclass(frozen=True)
class Rounded:
    """Of weights that were rounded when they were saved: the fingerprint of what they are, and of what they were."""

    here: str
    origin: str


class FPN3d(nn.Module):
    """Feature pyramid: level `i` has `base_channels * 2**i` channels at stride `2**i`, finest first.

    The names of its parameters are those of the released checkpoints. A fresh instance is in train mode, as torch's
    modules are; `vox2vec_contrastive`, `vox2vec_vicreg` and `load_backbone` return one in eval mode.

    Args:
        in_channels: channels of the input, 1 for CT.
        base_channels: channels of the finest level.
        num_scales: levels of the pyramid.
        num_blocks: residual blocks per level, one number or one for each level (finest first).

    Attributes:
        recipe: how a scan must be prepared for this network; the released one unless its weights say otherwise.
        rounded: says of a copy in half precision what it is a copy of; see `fingerprint`.

    Source: Goncharov et al., "vox2vec", 2023, section 3.1; Lin et al., "Feature Pyramid Networks", 2017.
    """

    recipe: Recipe
    rounded: Rounded | None = None

    def __init__(
        self,
        in_channels: int = 1,
        base_channels: int = 16,
        num_scales: int = 6,
        *,
        num_blocks: int | Sequence[int] = 2,
    ) -> None:
        super().__init__()
        blocks = (num_blocks,) * num_scales if isinstance(num_blocks, int) else tuple(num_blocks)
        if min(in_channels, base_channels, num_scales, *blocks) < 1 or len(blocks) != num_scales:
            raise ValueError(
                "channels, scales and blocks must be at least 1, with one number of blocks or one for each scale; got "
                f"{in_channels=}, {base_channels=}, {num_scales=}, {num_blocks=}"
            )
        self.in_channels = in_channels
        self.base_channels = base_channels
        self.num_scales = num_scales
        self.num_blocks = blocks
        self.recipe = PAPER

        channels = [base_channels * 2**i for i in range(num_scales)]
        coarse_to_fine = range(num_scales - 2, -1, -1)
        self.first_conv = Conv3d(in_channels, base_channels, kernel_size=3, padding=1)
        self.left_blocks = nn.ModuleList(ResBlocks3d(channels[i], blocks[i]) for i in range(num_scales - 1))
        self.down_blocks = nn.ModuleList(
            nn.Sequential(nn.MaxPool3d(2, ceil_mode=True), nn.Conv3d(channels[i], channels[i + 1], 1))
            for i in range(num_scales - 1)
        )
        self.bottom_block = ResBlocks3d(channels[-1], blocks[-1])
        self.up_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv3d(channels[i + 1], channels[i], 1), nn.Upsample(scale_factor=2))
            for i in coarse_to_fine
        )
        self.skip_blocks = nn.ModuleList(nn.Conv3d(channels[i], channels[i], 1) for i in coarse_to_fine)
        self.right_blocks = nn.ModuleList(ResBlocks3d(channels[i], blocks[i]) for i in coarse_to_fine)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first; their sum is the width of a voxel's vector."""
        return tuple(self.base_channels * 2**i for i in range(self.num_scales))

    def forward(self, x: Float[Tensor, "n c x y z"]) -> list[Float[Tensor, "n _ _ _ _"]]:
        """Pyramid of maps, finest first; level `i` of an axis of `s` voxels has `ceil(s / 2**i)`.

        Raises:
            ValueError: the input has another number of channels, or is empty; in train mode also where it leaves the
                coarsest batch normalisation a single value per channel.
        """
        self._check(x)
        x = self.first_conv(x)
        skips = []
        for left, down in zip(self.left_blocks, self.down_blocks, strict=True):
            x = left(x)
            skips.append(x)
            x = down(x)
        x = self.bottom_block(x)
        pyramid = [x]
        for up, skip, right in zip(self.up_blocks, self.skip_blocks, self.right_blocks, strict=True):
            finer = skips.pop()
            x = right(_cropped(up(x), finer) + skip(finer))
            pyramid.append(x)
        return pyramid[::-1]

    def _check(self, x: Tensor) -> None:
        if x.ndim != 5 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"the network takes (n, {self.in_channels}, x, y, z) with x, y, z >= 1, got {tuple(x.shape)}"
            )
        if min(x.shape) < 1:
            raise ValueError(f"the network needs at least 1 voxel along each axis, got {tuple(x.shape)}")
        stride = 2 ** (self.num_scales - 1)
        if self.training and x.shape[0] == 1 and max(x.shape[2:]) <= stride:
            raise ValueError(
                f"in train mode one patch must have more than {stride} voxels (at least {stride + 1}) along some axis, "
                f"for the coarsest level to have statistics; got {tuple(x.shape)}. "
                "Take larger patches, several a batch, or eval mode"
            )


def _cropped(x: Float[Tensor, "n c _ _ _"], finer: Float[Tensor, "n c x y z"]) -> Float[Tensor, "n c x y z"]:
    """Twice upsampled `x`, without the last voxel where the finer level has an odd size."""
    _, _, sx, sy, sz = finer.shape
    return x[:, :, :sx, :sy, :sz]
