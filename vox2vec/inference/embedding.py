"""The features of a whole scan: vectors at any point, similarity maps, one file on disk."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from vox2vec.geometry import transformed
from vox2vec.nn.safetensors_file import write_safetensors
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

FORMAT = "vox2vec-embedding"
FORMAT_VERSION = "2"
_READ = ("1", "2")  # version 1 had no body: what some window saw stands in for it


@dataclass(frozen=True, eq=False)
class Embedding:
    """A vector for every voxel of a prepared scan, kept as a pyramid.

    Voxel `v` of the prepared grid has the vector `[pyramid[i][:, floor(v / strides[i])] for all i]`, concatenated.

    Attributes:
        pyramid: maps (c, x, y, z) on the CPU, finest level first.
        strides: voxels per cell of each level along x, y, z.
        shape: of the prepared grid.
        affine: of the prepared grid, voxel indices to RAS+ millimetres.
        covered: cells of `covered_stride` voxels that some window saw; elsewhere there is only air, and no vector.
        covered_stride: see `covered`.
        packed_body: the mask of the body, packed; see `body`.
        recipe: how the scan was prepared.
        fingerprint: of the weights; vectors of different weights cannot be compared.
    """

    pyramid: tuple[Tensor, ...]
    strides: tuple[tuple[int, int, int], ...]
    shape: tuple[int, int, int]
    affine: np.ndarray
    covered: Tensor
    covered_stride: tuple[int, int, int]
    packed_body: Tensor
    recipe: Recipe
    fingerprint: str

    def __repr__(self) -> str:
        shape, spacing = "x".join(map(str, self.shape)), "x".join(f"{s:g}" for s in self.recipe.spacing_mm)
        return (
            f"Embedding({self.num_channels} channels on {shape} voxels of {spacing} mm, by weights {self.fingerprint})"
        )

    @property
    def num_channels(self) -> int:
        """Width of a voxel's vector, 1008 for the released network."""
        return sum(level.shape[0] for level in self.pyramid)

    @property
    def grid(self) -> Volume:
        """An empty volume on the prepared grid, a target for `Volume.onto`."""
        return Volume(np.broadcast_to(np.float32(0), self.shape), self.affine)

    @property
    def body(self) -> Bool[np.ndarray, "x y z"]:
        """Which voxels of the prepared grid are body: all but the air around the patient.

        That is `body_mask`, and lungs that the scan's sides cut: `with_cut_lungs`.
        """
        bits = np.unpackbits(self.packed_body.numpy(), count=math.prod(self.shape))
        return bits.view(bool).reshape(self.shape)

    def in_body(self, points_mm: Any) -> Bool[np.ndarray, " v"]:
        """Whether the voxel that holds each of the world points (v, 3), in RAS+ millimetres, is body."""
        voxels, inside = self._voxels(points_mm)
        return inside & self.body[tuple(voxels.T)]

    def at(self, points_mm: Any, *, outside: Literal["nan", "raise"] = "nan") -> Float[Tensor, "v d"]:
        """Vectors (v, d), float32, of the voxels that hold the world points (v, 3), in RAS+ millimetres.

        Args:
            outside: a point outside the volume, or in air that no window saw, is a row of NaN, or a ValueError.
        """
        if outside not in ("nan", "raise"):
            raise ValueError(f'outside must be "nan" or "raise", got {outside!r}')
        places, inside = self._voxels(points_mm)
        voxels = torch.from_numpy(places)
        has_vector = torch.from_numpy(inside) & _cells(self.covered[None], self.covered_stride, voxels)[:, 0]
        if outside == "raise" and not bool(has_vector.all()):
            raise ValueError(self._about_points_without_vector(np.asarray(points_mm)[~has_vector.numpy()]))
        vectors = [_cells(level, s, voxels).float() for level, s in zip(self.pyramid, self.strides, strict=True)]
        return torch.cat(vectors, dim=1).masked_fill(~has_vector[:, None], torch.nan)

    def between(self, points_mm: Any) -> Float[Tensor, "v d"]:
        """Vectors (v, d), float32, interpolated between the centres of each level's cells, linearly along each axis.

        NaN where `at` is.
        """
        points = np.asarray(points_mm, dtype=np.float64)
        vectors = self.at(points)
        known = vectors.isfinite().all(dim=1)
        voxels = torch.from_numpy(transformed(np.linalg.inv(self.affine), points)[known.numpy()])
        levels = [_interpolated(level, s, voxels) for level, s in zip(self.pyramid, self.strides, strict=True)]
        vectors[known] = torch.cat(levels, dim=1)
        return vectors

    def around(self, point_mm: Any, radius_mm: float = 0.0) -> Float[Tensor, " d"]:
        """The mean direction (d,) of the body's vectors in the box of half-width `radius_mm` around a world point (3,).

        Raises:
            ValueError: no voxel of the box is body, or the radius is negative.
        """
        point = np.asarray(point_mm, dtype=np.float64)
        if point.shape != (3,) or radius_mm < 0:
            raise ValueError(f"a point must be (3,), a radius not negative, got {point.shape} and {radius_mm}")
        most = [int(radius_mm / s + 1e-6) for s in self.grid.spacing_mm]
        steps = [s * np.arange(-n, n + 1) for n, s in zip(most, self.grid.spacing_mm, strict=True)]
        box = point + np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
        vectors = self.at(box[self.in_body(box)])
        vectors = vectors[vectors.isfinite().all(dim=1)]
        if not len(vectors):
            raise ValueError(self._about_points_without_vector(point[None]))
        return F.normalize(vectors, dim=1).mean(dim=0)

    def averaged(self) -> "Embedding":
        """Every cell replaced by the mean of the 3 x 3 x 3 cells around it that have a vector, level by level."""
        pyramid = []
        for level in self.pyramid:
            seen = torch.stack([slab.any(dim=-1) for slab in level.movedim(0, -1)]).float()
            count = _sums_of_neighbours(seen).clamp(min=1)
            means = torch.empty(*level.shape[1:], len(level), dtype=level.dtype).movedim(-1, 0)
            for mean, channel in zip(means, level, strict=True):
                mean.copy_(_sums_of_neighbours(channel.float()) / count)
            pyramid.append(means)
        return replace(self, pyramid=tuple(pyramid))

    def similarity(self, vector: Tensor) -> Volume:
        """Cosine similarity of `vector` (d,) with every voxel, on the prepared grid; NaN where there is no vector."""
        vector = torch.as_tensor(vector, dtype=torch.float32).cpu()
        if vector.shape != (self.num_channels,) or not bool(vector.isfinite().all()) or not bool(vector.any()):
            raise ValueError(
                f"a vector must be ({self.num_channels},), finite and not zero, got shape {tuple(vector.shape)}"
                f"{'' if vector.isfinite().all() else ' with NaN: the point it was read at has no vector'}"
            )
        cosine = self.projected(vector[:, None])[0]
        square = self.squared_norm()
        cosine /= np.sqrt(square, out=square).clip(min=1e-12) * float(vector.norm())
        cosine[~self.has_vector()] = np.nan
        return Volume(cosine, self.affine)

    def squared_norm(self, weights: Sequence[float] | None = None) -> Float32[np.ndarray, "x y z"]:
        """Of every voxel's vector, on the prepared grid, levels first multiplied by `weights`, all 1 by default."""
        square = np.zeros(self.shape, np.float32)
        scales = [1.0] * len(self.pyramid) if weights is None else weights
        for level, stride, scale in zip(self.pyramid, self.strides, scales, strict=True):
            square += np.float32(scale**2) * _on_grid(_squared_norm(level).numpy(), stride, self.shape)
        return square

    def has_vector(self) -> Bool[np.ndarray, "x y z"]:
        """Which voxels of the prepared grid have one: those that some window saw."""
        return _on_grid(self.covered.numpy(), self.covered_stride, self.shape)

    def projected(self, directions: Float[Tensor, "d k"]) -> Float32[np.ndarray, "k x y z"]:
        """Every voxel's vector times each of `directions`, on the prepared grid; zero where there is no vector.

        Level by level at native strides: full-resolution vectors are never formed.
        """
        total = np.zeros((directions.shape[1], *self.shape), np.float32)
        parts = directions.float().cpu().split([level.shape[0] for level in self.pyramid])
        for level, stride, part in zip(self.pyramid, self.strides, parts, strict=True):
            cells = level.movedim(0, -1)
            projected = torch.stack([slab.float() @ part for slab in cells]).movedim(-1, 0)
            for out, one in zip(total, projected, strict=True):
                out += _on_grid(one.numpy(), stride, self.shape)
        return total

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file, by way of a temporary name; `load` reads it back equal."""
        tensors = {f"level_{i}": _channels_last(level) for i, level in enumerate(self.pyramid)}
        described = {
            "strides": self.strides,
            "shape": self.shape,
            "affine": self.affine.tolist(),
            "covered_stride": self.covered_stride,
            "recipe": self.recipe.as_dict(),
            "fingerprint": self.fingerprint,
        }
        metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "embedding": json.dumps(described)}
        masks = {"covered": self.covered.contiguous(), "body": self.packed_body}
        write_safetensors(tensors | masks, Path(path), metadata)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Embedding":
        """Read a file written by `save`. It is data only: reading runs no code.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: not an embedding, of a newer format, or cut short.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no embedding at {path}; make one with `vox2vec embed SCAN -o {path}`")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"{path} is not an embedding; `Embedding.save` and `vox2vec embed` write those")
                if metadata.get("format_version") not in _READ:
                    raise ValueError(
                        f"{path} has format version {metadata.get('format_version')}, this vox2vec reads versions "
                        f"{' and '.join(_READ)}: install the version that wrote it, or embed the scan again"
                    )
                described = json.loads(metadata["embedding"])
                levels = [file.get_tensor(f"level_{i}") for i in range(len(described["strides"]))]
                covered = file.get_tensor("covered")
                body = file.get_tensor("body") if metadata["format_version"] != "1" else None
        except SafetensorError as error:
            raise ValueError(f"{path} is cut short or not an embedding: {error}; embed the scan again") from error
        shape, covered_stride = _triple(described["shape"]), _triple(described["covered_stride"])
        return cls(
            pyramid=tuple(level.movedim(-1, 0) for level in levels),
            strides=tuple(_triple(stride) for stride in described["strides"]),
            shape=shape,
            affine=np.array(described["affine"]),
            covered=covered,
            covered_stride=covered_stride,
            packed_body=packed(_on_grid(covered.numpy(), covered_stride, shape)) if body is None else body,
            recipe=Recipe.from_dict(described["recipe"]),
            fingerprint=described["fingerprint"],
        )

    def _voxels(self, points_mm: Any) -> tuple[Int64[np.ndarray, "v 3"], Bool[np.ndarray, " v"]]:
        """The voxels that hold world points, and whether there are such; voxel 0 stands in for none."""
        points = np.asarray(points_mm, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points must be (v, 3) millimetres, got shape {points.shape}; one point is [[x, y, z]]")
        places = np.floor(transformed(np.linalg.inv(self.affine), points) + 0.5)
        inside = np.asarray(((places >= 0) & (places < self.shape)).all(axis=1))  # NaN is not inside
        return np.where(inside[:, None], places, 0).astype(np.int64), inside

    def _about_points_without_vector(self, points: np.ndarray) -> str:
        ends = transformed(self.affine, np.array([[-0.5] * 3, np.array(self.shape) - 0.5]))
        shown = ", ".join(str(tuple(p)) for p in points[:3].round(1).tolist())
        return (
            f"all points must lie in the body, inside {ends[0].round(1).tolist()} to {ends[1].round(1).tolist()} mm "
            f"(RAS+); {len(points)} do not: {shown}. Are they in LPS (negate x and y), or of another scan?"
        )


def packed(body: Bool[np.ndarray, "x y z"]) -> UInt8[Tensor, " b"]:
    """A mask, eight voxels a byte, for `Embedding.packed_body`."""
    return torch.from_numpy(np.packbits(body))


def _on_grid(cells: np.ndarray, stride: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
    """Every voxel's cell, (x, y, z)."""
    for axis, size in enumerate(shape):
        if stride[axis] > 1:
            cells = np.repeat(cells, stride[axis], axis=axis)
        cells = cells[(slice(None),) * axis + (slice(size),)]
    return cells


def _cells(level: Tensor, stride: tuple[int, int, int], voxels: Tensor) -> Tensor:
    """Columns (v, c) of the cells that hold `voxels` (v, 3)."""
    x, y, z = (voxels // torch.tensor(stride)).unbind(dim=1)
    return level.movedim(0, -1)[x, y, z]


def _interpolated(level: Tensor, stride: tuple[int, int, int], voxels: Float64[Tensor, "v 3"]) -> Float[Tensor, "v c"]:
    """Trilinear, at fractional voxels; beyond the centres of the outermost cells as at them."""
    last = torch.tensor(level.shape[1:]) - 1
    places = ((voxels + 0.5) / torch.tensor(stride) - 0.5).clamp(min=0).minimum(last)
    below = places.long()
    beyond = (places - below).float()
    total = torch.zeros(len(voxels), len(level))
    for corner in product((False, True), repeat=3):
        upper = torch.tensor(corner)
        share = torch.where(upper, beyond, 1 - beyond).prod(dim=1, keepdim=True)
        x, y, z = (below + upper).minimum(last).unbind(dim=1)
        total += share * level.movedim(0, -1)[x, y, z].float()
    return total


def _sums_of_neighbours(values: Float[Tensor, "x y z"]) -> Float[Tensor, "x y z"]:
    """Of 3 x 3 x 3, those beyond the border left out."""
    bordered = F.pad(values[None], (1,) * 6)  # torch's own padding refuses what is thinner than 3
    return F.avg_pool3d(bordered, 3, stride=1, divisor_override=1)[0]


def _squared_norm(level: Tensor) -> Float[Tensor, "x y z"]:
    """Per cell, slab by slab: no float32 copy of the level."""
    return torch.stack([slab.float().square().sum(dim=-1) for slab in level.movedim(0, -1)])


def _channels_last(level: Tensor) -> Tensor:
    return level.movedim(0, -1).contiguous()


def _triple(values: Any) -> tuple[int, int, int]:
    x, y, z = (int(v) for v in values)
    return (x, y, z)
