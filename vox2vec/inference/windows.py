"""Where the overlapping windows of a volume lie, and how much each counts at every voxel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, gcd

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

Start = tuple[int, int, int]
"""The first voxel of a window."""

_BLOCKS = 16  # steps of the weight along one axis of a window
_SMALLEST_BLOCK = 4  # voxels; smaller ones would refine the coarse levels of small windows too far


@dataclass(frozen=True)
class Windows:
    """Equal windows over a volume, their weight constant on small blocks.

    Starts and blocks share one lattice, so a pyramid's levels finer than a block stay at their native stride, and the
    coarser ones are refined to the block and no further. Along an axis with a single window nothing is blended and
    nothing refined.

    Attributes:
        shape: the volume's.
        size: of every window.
        starts: first voxels of the windows along each axis, ascending. The last window may reach beyond the volume
            by less than a block.
        block: voxels along each axis on which the weight is constant.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int, int]
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    block: tuple[int, int, int]

    @classmethod
    def over(cls, shape: tuple[int, int, int], patch_size: tuple[int, int, int], *, overlap: float = 0.5) -> "Windows":
        """Evenly spread windows of `patch_size` (or the whole axis where the volume is smaller).

        Args:
            overlap: least share of a window, along each axis, that its neighbour covers too; in [0, 1).
        """
        if not 0 <= overlap < 1:
            raise ValueError(f"the overlap of neighbouring windows must be in [0, 1), got {overlap}")
        size, starts, block = zip(*(_axis(n, p, overlap) for n, p in zip(shape, patch_size, strict=True)), strict=True)
        return cls(shape, size, starts, block)

    def stride(self, level: int) -> tuple[int, int, int]:
        """Voxels per cell of the lattice on which the blended level `level` is constant."""
        x, y, z = (
            2**level if len(starts) == 1 else min(2**level, block)
            for starts, block in zip(self.starts, self.block, strict=True)
        )
        return (x, y, z)

    def weight(self) -> Float[np.ndarray, "bx by bz"]:
        """The weight of every block of a window: a Gaussian around its centre, sigma an eighth of its size.

        Source: Isensee et al., "nnU-Net", 2021: patches count most where they see most context.
        """
        profiles = []
        for size, block, starts in zip(self.size, self.block, self.starts, strict=True):
            centres = np.arange(ceil(size / block)) * block + (block - 1) / 2
            offset = (centres - (size - 1) / 2) / (size / 8)
            profiles.append(np.exp(-0.5 * offset**2) if len(starts) > 1 else np.ones(len(centres)))
        return np.einsum("i,j,k->ijk", *profiles)

    def padded(self, image: Shaped[np.ndarray, "x y z"]) -> Shaped[np.ndarray, "x2 y2 z2"]:
        """The image with its last voxels repeated as far as the last windows reach beyond it."""
        ends = zip(self.starts, self.size, self.shape, strict=True)
        return np.pad(image, [(0, max(starts[-1] + size - n, 0)) for starts, size, n in ends], mode="edge")

    def holding(self, mask: Bool[np.ndarray, "x y z"]) -> list[Start]:
        """Starts of the windows with at least one true voxel of `mask`, sorted along z first."""
        x_starts, y_starts, z_starts = self.starts
        sx, sy, sz = self.size
        found = []
        for z in z_starts:
            slab = np.asarray(mask[:, :, z : z + sz].any(axis=2))
            found += [(x, y, z) for x in x_starts for y in y_starts if slab[x : x + sx, y : y + sy].any()]
        return found


def _axis(size: int, patch: int, overlap: float) -> tuple[int, tuple[int, ...], int]:
    """Window size, starts and block along one axis; blocks divide windows and are powers of two."""
    block = gcd(patch, max(2 ** ((patch // _BLOCKS).bit_length() - 1), _SMALLEST_BLOCK))
    if size <= patch:
        return size, (0,), block
    last = ceil((size - patch) / block)  # in blocks, as the two below
    step = max(int(patch * (1 - overlap)) // block, 1)
    count = ceil(last / step)
    return patch, tuple(k * last // count * block for k in range(count + 1)), block


def upsampled(values: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Each value repeated `factors[a]` times along axis `a`."""
    for axis, factor in enumerate(factors):
        values = np.repeat(values, factor, axis=axis)
    return values


def batches(starts: Sequence[Start], size: int) -> Iterator[Sequence[Start]]:
    """The windows in groups of at most `size`, in order."""
    for i in range(0, len(starts), size):
        yield starts[i : i + size]


def patches_at(image: Float[Tensor, "x y z"], starts: Sequence[Start], windows: Windows) -> Float[Tensor, "n 1 u v w"]:
    """The windows' contents, of an image that is `Windows.padded`."""
    sx, sy, sz = windows.size
    return torch.stack([image[None, x : x + sx, y : y + sy, z : z + sz] for x, y, z in starts])
