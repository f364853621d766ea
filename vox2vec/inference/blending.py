"""Maps of overlapping windows, blended slab by slab into the maps of the whole volume."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vox2vec.inference.windows import Start, Windows, upsampled


class Blender:
    """The weighted mean of windows, in float32, on the slab of slices that windows still touch.

    Each window brings several maps (c, x, y, z), such as a pyramid's levels or heads' probabilities, and gives each
    voxel the share `g_w(v) / sum_w g_w(v)` of them, `g` the weight of `Windows`. Windows must come sorted along z.

    Args:
        windows: of the volume.
        starts: of all windows that will come.
        native: voxels a cell of each of the maps that come.
        strides: voxels a cell of each blended map, along x, y and z; where that is finer than native, cells are
            repeated.
        channels_last: lay a voxel's channels beside each other in memory.
    """

    def __init__(
        self,
        windows: Windows,
        starts: Sequence[Start],
        *,
        native: Sequence[int],
        strides: Sequence[Start],
        channels_last: bool = True,
    ) -> None:
        self.windows, self.native, self.strides = windows, native, strides
        self.weight = windows.weight()
        self.total_weight = _total_weight(windows, starts, self.weight)
        self._channels_last = channels_last
        self._z = starts[0][2] if starts else 0  # first slice of the slab
        self._slabs: list[Tensor] = []

    def add(self, start: Start, maps: Sequence[Tensor]) -> None:
        """Add one window's maps; the slab begins at its first slice, see `before`."""
        self._slabs = self._slabs or [self._empty(len(m), s) for m, s in zip(maps, self.strides, strict=True)]
        share = self._share(start)
        weights: dict[Start, Tensor] = {}
        for one, slab, native, stride in zip(maps, self._slabs, self.native, self.strides, strict=True):
            if stride not in weights:
                weights[stride] = _on_lattice(share, self.windows.block, stride)
            weight = weights[stride]
            x, y = start[0] // stride[0], start[1] // stride[1]
            for axis in range(3):
                one = one.repeat_interleave(native // stride[axis], axis + 1) if native > stride[axis] else one
            target = slab[:, x : x + weight.shape[0], y : y + weight.shape[1], : weight.shape[2]]
            _, sx, sy, sz = target.shape
            target.addcmul_(one[:, :sx, :sy, :sz].to(target), weight[:sx, :sy, :sz])

    def before(self, z: int) -> Iterator[tuple[int, slice, Float[Tensor, "c x y z"]]]:
        """The cells before slice `z`, which no later window touches: number of the map, place along z, values.

        Afterwards the slab begins at `z`. The values are good until the next map is asked for.
        """
        if z == self._z or not self._slabs:
            return
        for i, (slab, stride) in enumerate(zip(self._slabs, self.strides, strict=True)):
            first, moved = self._z // stride[2], -(-(z - self._z) // stride[2])
            depth = slab.shape[3]
            done = min(moved, depth, -(-self.windows.shape[2] // stride[2]) - first)
            yield i, slice(first, first + done), slab[..., :done]
            kept = slab[..., moved:].clone()
            slab.zero_()
            slab[..., : depth - moved if moved < depth else 0] = kept
        self._z = z

    def _empty(self, channels: int, stride: Start) -> Tensor:
        x, y = (-(-n // s) for n, s in zip(self.windows.shape[:2], stride[:2], strict=True))
        depth = -(-self.windows.size[2] // stride[2])
        if self._channels_last:
            return torch.zeros(x, y, depth, channels).movedim(-1, 0)
        return torch.zeros(channels, x, y, depth)

    def _share(self, start: Start) -> np.ndarray:
        """The window's weight over that of all windows, on its blocks (fewer where it reaches beyond the volume)."""
        first = [s // b for s, b in zip(start, self.windows.block, strict=True)]
        here = tuple(slice(f, f + n) for f, n in zip(first, self.weight.shape, strict=True))
        total = self.total_weight[here]
        sx, sy, sz = total.shape
        return self.weight[:sx, :sy, :sz] / total


def _total_weight(windows: Windows, starts: Sequence[Start], weight: np.ndarray) -> np.ndarray:
    """Per block of the volume, the weights of all windows together."""
    total = np.zeros([math.ceil(n / b) for n, b in zip(windows.shape, windows.block, strict=True)])
    for start in starts:
        here = tuple(slice(s // b, s // b + n) for s, b, n in zip(start, windows.block, weight.shape, strict=True))
        part = total[here]
        sx, sy, sz = part.shape
        part += weight[:sx, :sy, :sz]
    return total


def _on_lattice(blocks: np.ndarray, block: Start, stride: Start) -> Float[Tensor, "x y z"]:
    """Values of blocks on a map's lattice: repeated where it is finer, every n-th where it is coarser."""
    finer = [max(b // s, 1) for b, s in zip(block, stride, strict=True)]
    x, y, z = (max(s // b, 1) for b, s in zip(block, stride, strict=True))
    return torch.from_numpy(upsampled(blocks[::x, ::y, ::z], finer).astype(np.float32))
