"""A scan in, its features out: overlapping windows through the backbone, blended into one pyramid."""

import logging
import math
from collections.abc import Iterator
from os import PathLike
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from tqdm import tqdm

from vox2vec.inference.blending import Blender
from vox2vec.inference.embedding import Embedding, packed
from vox2vec.inference.runner import COMPILE_FROM_WINDOWS, Precision, Runner, backbone_runner
from vox2vec.inference.windows import Start, Windows, batches, patches_at
from vox2vec.nn.device import pick_device
from vox2vec.nn.fingerprint import fingerprint
from vox2vec.nn.fpn import FPN3d
from vox2vec.preprocessing.body import body_mask, with_cut_lungs
from vox2vec.preprocessing.intensity import scale_hu
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.reading.load import load_volume
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

logger = logging.getLogger(__name__)

_BATCH_VOXELS = 2**17  # of 32x32x32: 4 windows, in a third to two thirds of the time of one by one on two CPU cores


@runtime_checkable
class PreparedScan(Protocol):
    """A scan that lies on a recipe's grid already, such as a `CachedScan`."""

    def prepared(self) -> tuple[Volume, Bool[np.ndarray, "x y z"]]:
        """In HU, and its body."""


Scan = Volume | str | PathLike[str] | PreparedScan


class Embedder:
    """A backbone ready to embed many scans: copied to its device, tried in bfloat16 and hashed once.

    Call it with a scan; `embed` is one call of it. The copy is made for the first scan, and bfloat16 tried on its
    middle window.

    Args:
        device: "auto" takes cuda, else mps, else the CPU.
        precision: "32", "bf16", or "auto": bfloat16 where the hardware computes in it and the error, measured on one
            window of the first scan, is at most 1 %.
        compiled: pass the network through torch.compile first (CPU); None does so where a scan is large enough to
            earn back the compilation.
        overlap: least share of a window that its neighbour covers too, along each axis.
        batch_size: windows a forward pass; None takes as many small ones as hold 131,072 voxels, which is the fastest
            on a CPU, and one of the released size.
        dtype: of the stored pyramid; None takes float16, and bfloat16 for a level with values beyond float16's.
        progress: show a bar.

    Raises:
        ValueError: an argument is out of range, or the backbone takes other than one channel.
    """

    def __init__(
        self,
        backbone: FPN3d,
        *,
        device: str | torch.device = "auto",
        precision: Precision = "auto",
        compiled: bool | None = None,
        overlap: float = 0.5,
        batch_size: int | None = None,
        dtype: torch.dtype | None = None,
        progress: bool = True,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if precision not in ("auto", "32", "bf16"):
            raise ValueError(f'precision must be "auto", "32" or "bf16", got {precision!r}')
        if backbone.in_channels != 1:
            raise ValueError(f"a CT has one channel, the backbone takes {backbone.in_channels}")
        self.recipe: Recipe = backbone.recipe
        self.fingerprint = fingerprint(backbone)
        self._backbone, self._device, self._precision = backbone, pick_device(device), precision
        self._compiled, self._overlap, self._batch_size = compiled, overlap, batch_size
        self._dtype, self._progress = dtype, progress
        self._runners: dict[bool, Runner] = {}  # compiled or not

    def __call__(self, scan: Scan) -> Embedding:
        """The features of every voxel of a scan.

        Raises:
            ValueError: the scan holds NaN or no body, is prepared by another recipe, or gives vectors that are not
                finite or beyond `dtype`.
        """
        volume, body = self._prepared(scan)
        windows = Windows.over(volume.shape, self.recipe.patch_size, overlap=self._overlap)
        starts = windows.holding(body)
        image = torch.from_numpy(windows.padded(scale_hu(volume.image, self.recipe.window_hu)))
        compiled = self._compiled
        if compiled is None:
            compiled = self._device.type == "cpu" and len(starts) >= COMPILE_FROM_WINDOWS
        run = self._runner(patches_at(image, starts[len(starts) // 2 :][:1], windows), compiled)
        batch_size = self._batch_size or (1 if compiled else max(1, _BATCH_VOXELS // math.prod(windows.size)))
        strides = [windows.stride(i) for i in range(self._backbone.num_scales)]
        native = [2**i for i in range(self._backbone.num_scales)]
        blender = Blender(windows, starts, native=native, strides=strides)
        levels = _Levels(windows, strides, self._backbone.channels, self._dtype)
        with tqdm(total=len(starts), desc="embedding", unit="window", disable=not self._progress) as bar:
            for batch in batches(starts, batch_size):
                patches = patches_at(image, batch, windows).to(self._device)
                for start, pyramid in zip(batch, _pyramids(run, patches), strict=True):
                    levels.keep(blender.before(start[2]))
                    blender.add(start, pyramid)
                bar.update(len(batch))
        levels.keep(blender.before(windows.shape[2]))
        return Embedding(
            pyramid=tuple(level.movedim(-1, 0) for level in levels.stored),
            strides=tuple(strides),
            shape=volume.shape,
            affine=volume.affine,
            covered=torch.from_numpy(blender.total_weight > 0),
            covered_stride=windows.block,
            packed_body=packed(with_cut_lungs(body)),
            recipe=self.recipe,
            fingerprint=self.fingerprint,
        )

    def _prepared(self, scan: Scan) -> tuple[Volume, Bool[np.ndarray, "x y z"]]:
        if isinstance(scan, (Volume, str, PathLike)):
            volume = prepare_hu(scan if isinstance(scan, Volume) else load_volume(scan), self.recipe)
            return volume, body_mask(volume.image, body_hu=self.recipe.body_hu)
        volume, body = scan.prepared()
        if not np.allclose(volume.affine[:3, :3], np.diag(self.recipe.spacing_mm), atol=1e-6):
            raise ValueError(
                f"a prepared scan must lie on the grid of the weights, {self.recipe.spacing_mm} mm, got "
                f"{volume.spacing_mm}; warm a cache with that spacing"
            )
        if not body.any():
            raise ValueError("a scan must hold a body, its mask is empty; is it in HU?")
        return volume, body

    def _runner(self, sample: Tensor, compiled: bool) -> Runner:
        if compiled not in self._runners:
            self._runners[compiled] = backbone_runner(
                self._backbone, sample, device=self._device, precision=self._precision, compiled=compiled
            )
        return self._runners[compiled]


def embed(
    volume: Scan,
    backbone: FPN3d,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    compiled: bool | None = None,
    overlap: float = 0.5,
    batch_size: int | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
) -> Embedding:
    """The features of every voxel of a scan.

    Level `i` at voxel `v` is `sum_w g_w(v) F_w,i(floor((v - s_w) / 2**i)) / sum_w g_w(v)` over the windows `w` that
    hold `v`, with starts `s_w` and a Gaussian weight `g` that is constant on blocks of a sixteenth of a window.
    Windows without body are skipped. The scan is prepared by `backbone.recipe`; a copy of the backbone runs, in eval
    mode. For many scans keep an `Embedder`, which this calls once; its options are explained there.

    Args:
        volume: a scan in HU, any orientation; the path of one; or a `CachedScan`, prepared already.

    Returns:
        The embedding, 50 to 60 bytes a voxel of the prepared grid.

    Raises:
        ValueError: the scan holds NaN or no body, or an argument is out of range.
    """
    return Embedder(
        backbone,
        device=device,
        precision=precision,
        compiled=compiled,
        overlap=overlap,
        batch_size=batch_size,
        dtype=dtype,
        progress=progress,
    )(volume)


class _Levels:
    """The pyramid of the whole volume as it is finished, (x, y, z, c) a level."""

    def __init__(
        self, windows: Windows, strides: list[Start], channels: tuple[int, ...], dtype: torch.dtype | None
    ) -> None:
        self._may_widen = dtype is None
        self.stored = []
        for c, stride in zip(channels, strides, strict=True):
            x, y, z = (-(-n // s) for n, s in zip(windows.shape, stride, strict=True))
            self.stored.append(torch.zeros((x, y, z, c), dtype=dtype or torch.float16))

    def keep(self, finished: Iterator[tuple[int, slice, Tensor]]) -> None:
        """Store finished slices.

        Raises:
            ValueError: values that are not finite, or that the stored type does not hold.
        """
        for i, place, cells in finished:
            largest = float(cells.abs().amax()) if cells.numel() else 0.0
            if not math.isfinite(largest):
                raise ValueError(
                    f"vectors must be finite, level {i} of the network gives NaN or infinity; are the weights broken?"
                )
            if largest > torch.finfo(self.stored[i].dtype).max:
                if not self._may_widen:
                    raise ValueError(
                        f"level {i} has values up to {largest:.3g}, which {self.stored[i].dtype} does not hold; take "
                        "dtype=torch.bfloat16 or torch.float32"
                    )
                logger.warning("level %d has values up to %.3g, beyond float16: kept in bfloat16", i, largest)
                self.stored[i] = self.stored[i].to(torch.bfloat16)
            self.stored[i][:, :, place] = cells.movedim(0, -1)


def _pyramids(run: Runner, patches: Tensor) -> Iterator[list[Tensor]]:
    """One pyramid a patch, its levels (c, x, y, z)."""
    with torch.inference_mode():
        levels = run(patches)
    for i in range(len(patches)):
        yield [level[i] for level in levels]
