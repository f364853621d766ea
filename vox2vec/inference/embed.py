"""A scan in, its features out: overlapping windows through the backbone, blended into one pyramid."""

import math
from collections.abc import Iterator
from os import PathLike

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from vox2vec.inference.embedding import Embedding
from vox2vec.inference.runner import COMPILE_FROM_WINDOWS, Precision, Runner, backbone_runner, pick_device
from vox2vec.inference.windows import Windows, upsampled
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.pretrained import fingerprint
from vox2vec.preprocessing.body import body_mask
from vox2vec.preprocessing.intensity import scale_hu
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.reading.load import load_volume
from vox2vec.volume import Volume

Start = tuple[int, int, int]

_BATCH_VOXELS = 2**17  # of 32x32x32: 4 windows, in a third to two thirds of the time of one by one on two CPU cores


def embed(
    volume: Volume | str | PathLike[str],
    backbone: FPN3d,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    compiled: bool | None = None,
    overlap: float = 0.5,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float16,
    progress: bool = True,
) -> Embedding:
    """The features of every voxel of a scan.

    Level `i` at voxel `v` is `sum_w g_w(v) F_w,i(floor((v - s_w) / 2**i)) / sum_w g_w(v)` over the windows `w` that
    hold `v`, with starts `s_w` and a Gaussian weight `g` that is constant on blocks of a sixteenth of a window.
    Windows without body are skipped. The scan is prepared by `backbone.recipe`; a copy of the backbone runs, in eval
    mode.

    Args:
        volume: a scan in HU, any orientation, or the path of one.
        device: "auto" takes cuda, else mps, else the CPU.
        precision: "32", "bf16", or "auto": bfloat16 where the hardware computes in it and the error, measured on one
            window of this scan, is at most 1 %.
        compiled: pass the network through torch.compile first (CPU); None does so where the scan is large enough to
            earn back the compilation.
        overlap: least share of a window that its neighbour covers too, along each axis.
        batch_size: windows a forward pass; None takes as many small ones as hold 131,072 voxels, which is the fastest
            on a CPU, and one of the released size.
        dtype: of the stored pyramid.
        progress: show a bar.

    Returns:
        The embedding, 50 to 60 bytes a voxel of the prepared grid.

    Raises:
        ValueError: the scan holds NaN or no body, or an argument is out of range.
    """
    scan = prepare_hu(volume if isinstance(volume, Volume) else load_volume(volume), backbone.recipe)
    body = body_mask(scan.image, body_hu=backbone.recipe.body_hu)
    return embed_prepared(
        scan,
        body,
        backbone,
        device=device,
        precision=precision,
        compiled=compiled,
        overlap=overlap,
        batch_size=batch_size,
        dtype=dtype,
        progress=progress,
    )


def embed_prepared(
    scan: Volume,
    body: Bool[np.ndarray, "x y z"],
    backbone: FPN3d,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    compiled: bool | None = None,
    overlap: float = 0.5,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float16,
    progress: bool = True,
) -> Embedding:
    """`embed` for a scan that is prepared already, as one of a cache: HU on the grid of `backbone.recipe`.

    Args:
        body: its mask; windows without body are skipped.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if precision not in ("auto", "32", "bf16"):
        raise ValueError(f'precision must be "auto", "32" or "bf16", got {precision!r}')
    if backbone.in_channels != 1:
        raise ValueError(f"a CT has one channel, the backbone takes {backbone.in_channels}")
    windows = Windows.over(scan.shape, backbone.recipe.patch_size, overlap=overlap)
    starts = windows.holding(body)
    image = torch.from_numpy(windows.padded(scale_hu(scan.image, backbone.recipe.window_hu)))
    where = pick_device(device)
    if compiled is None:
        compiled = where.type == "cpu" and len(starts) >= COMPILE_FROM_WINDOWS
    if batch_size is None:
        batch_size = 1 if compiled else max(1, _BATCH_VOXELS // math.prod(windows.size))
    sample = _patches(image, starts[len(starts) // 2 :][:1], windows)
    run = backbone_runner(backbone, sample, device=where, precision=precision, compiled=compiled)
    blended = _Blended(windows, starts, backbone.channels, dtype)
    with tqdm(total=len(starts), desc="embedding", unit="window", disable=not progress) as bar:
        for batch in _batches(starts, batch_size):
            for start, pyramid in zip(batch, _pyramids(run, _patches(image, batch, windows).to(where)), strict=True):
                blended.add(start, pyramid)
            bar.update(len(batch))
    return Embedding(
        pyramid=blended.finished(),
        strides=blended.strides,
        shape=scan.shape,
        affine=scan.affine,
        covered=torch.from_numpy(blended.total_weight > 0),
        covered_stride=windows.block,
        recipe=backbone.recipe,
        fingerprint=fingerprint(backbone),
    )


def _patches(image: Tensor, starts: list[Start], windows: Windows) -> Float[Tensor, "n 1 x y z"]:
    sx, sy, sz = windows.size
    return torch.stack([image[None, x : x + sx, y : y + sy, z : z + sz] for x, y, z in starts])


def _batches(starts: list[Start], batch_size: int) -> Iterator[list[Start]]:
    for i in range(0, len(starts), batch_size):
        yield starts[i : i + batch_size]


def _pyramids(run: Runner, patches: Tensor) -> Iterator[list[Tensor]]:
    """One pyramid a patch, its levels (x, y, z, c)."""
    with torch.inference_mode():
        levels = run(patches)
    for i in range(len(patches)):
        yield [level[i].movedim(0, -1) for level in levels]


class _Blended:
    """The weighted mean of the windows, accumulated in float32 on the slab of slices that windows still touch."""

    def __init__(self, windows: Windows, starts: list[Start], channels: tuple[int, ...], dtype: torch.dtype) -> None:
        self.windows = windows
        self.strides = tuple(windows.stride(i) for i in range(len(channels)))
        self.weight = windows.weight()
        self.total_weight = _total_weight(windows, starts, self.weight)
        self.z = 0  # first slice of the slab
        self.levels, self.slabs = [], []
        for c, stride in zip(channels, self.strides, strict=True):
            x, y, z = (-(-n // s) for n, s in zip(windows.shape, stride, strict=True))
            self.levels.append(torch.zeros((x, y, z, c), dtype=dtype))
            self.slabs.append(torch.zeros(x, y, -(-windows.size[2] // stride[2]), c))

    def add(self, start: Start, pyramid: list[Tensor]) -> None:
        """Add a window's pyramid; windows must come sorted along z."""
        self._move_to(start[2])
        share = self._share(start)
        for i, (level, slab, stride) in enumerate(zip(pyramid, self.slabs, self.strides, strict=True)):
            x, y = start[0] // stride[0], start[1] // stride[1]
            weight = _on_lattice(share, self.windows.block, stride)
            for axis in range(3):
                level = level.repeat_interleave(2**i // stride[axis], axis) if 2**i > stride[axis] else level
            target = slab[x : x + weight.shape[0], y : y + weight.shape[1], : weight.shape[2]]
            sx, sy, sz, _ = target.shape
            target.addcmul_(level[:sx, :sy, :sz].to(target), weight[:sx, :sy, :sz, None])

    def finished(self) -> tuple[Float[Tensor, "_ _ _ _"], ...]:
        """The levels as (c, x, y, z), all slices in their place."""
        self._move_to(self.windows.shape[2])
        return tuple(level.movedim(-1, 0) for level in self.levels)

    def _share(self, start: Start) -> np.ndarray:
        """The window's weight over that of all windows, on its blocks (fewer where it reaches beyond the volume)."""
        first = [s // b for s, b in zip(start, self.windows.block, strict=True)]
        here = tuple(slice(f, f + n) for f, n in zip(first, self.weight.shape, strict=True))
        total = self.total_weight[here]
        sx, sy, sz = total.shape
        return self.weight[:sx, :sy, :sz] / total

    def _move_to(self, z: int) -> None:
        """Store the slices before `z`, which no later window touches, and let the slab begin there."""
        if z == self.z:
            return
        for level, slab, stride in zip(self.levels, self.slabs, self.strides, strict=True):
            first, moved = self.z // stride[2], -(-(z - self.z) // stride[2])
            depth = slab.shape[2]
            done = min(moved, depth, level.shape[2] - first)
            level[:, :, first : first + done] = slab[:, :, :done]
            kept = slab[:, :, moved:].clone()
            slab.zero_()
            slab[:, :, : depth - moved if moved < depth else 0] = kept
        self.z = z


def _total_weight(windows: Windows, starts: list[Start], weight: np.ndarray) -> np.ndarray:
    """Per block of the volume, the weights of all windows together."""
    total = np.zeros([-(-n // b) for n, b in zip(windows.shape, windows.block, strict=True)])
    for start in starts:
        here = tuple(slice(s // b, s // b + n) for s, b, n in zip(start, windows.block, weight.shape, strict=True))
        part = total[here]
        sx, sy, sz = part.shape
        part += weight[:sx, :sy, :sz]
    return total


def _on_lattice(blocks: np.ndarray, block: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Values of blocks on a level's lattice: repeated where it is finer, every n-th where it is coarser."""
    finer = [max(b // s, 1) for b, s in zip(block, stride, strict=True)]
    x, y, z = (max(s // b, 1) for b, s in zip(block, stride, strict=True))
    return torch.from_numpy(upsampled(blocks[::x, ::y, ::z], finer).astype(np.float32))
