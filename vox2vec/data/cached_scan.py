"""One CT of a cache, read box by box."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import blosc2
import numpy as np
from jaxtyping import Bool, Int16, Int64, Shaped

from vox2vec.data.entry import Entry
from vox2vec.geometry import Box
from vox2vec.reading.values import AIR_HU
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

BLOCK = (64, 64, 32)
"""Voxels of the blocks whose body voxels are counted, for drawing one of them all without reading the whole mask."""

_INNER = (64, 64, 8)  # voxels that are decompressed together: of 24 settings tried on a chest CT the smallest file


@dataclass(frozen=True, eq=False)
class CachedScan:
    """Reads parts of a CT from disk; what lies beyond the grid is air, no body, background."""

    entry: Entry
    _image: blosc2.NDArray
    _body: blosc2.NDArray
    _labels: blosc2.NDArray | None

    @classmethod
    def open(cls, folder: Path, entry: Entry) -> "CachedScan":
        """Map the files of an entry; nothing is decompressed yet. A ValueError where they are gone or broken."""
        image, body = _opened(folder / "image.b2nd"), _opened(folder / "body.b2nd")
        return cls(entry, image, body, _opened(folder / "labels.b2nd") if "labels" in entry.files else None)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.entry.shape

    def prepared(self) -> tuple[Volume, Bool[np.ndarray, "x y z"]]:
        """The whole CT in HU on its prepared grid, and its body; `vox2vec.embed` takes them."""
        whole = Box((0, 0, 0), self.shape)
        return Volume(self.image_hu(whole), np.array(self.entry.affine)), self.body(whole)

    def image_hu(self, box: Box) -> Int16[np.ndarray, "x y z"]:
        return _read(self._image, box, AIR_HU)

    def body(self, box: Box) -> Bool[np.ndarray, "x y z"]:
        return _read(self._body, box, False)

    def labels(self, box: Box) -> Shaped[np.ndarray, "x y z"]:
        """A ValueError where the cache was warmed without labels."""
        if self._labels is None:
            raise ValueError(f"{self.entry.id} was cached without labels; warm the cache with labels")
        return _read(self._labels, box, 0)

    def body_voxels(self, ranks: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, "n 3"]:
        """The voxels of these ranks, from 0 to `entry.body_voxels` - 1, in an order of all body voxels."""
        blocks = np.searchsorted(self._ends, ranks, side="right")
        found = np.empty((len(ranks), 3), np.int64)
        for i, (rank, block) in enumerate(zip(ranks.tolist(), blocks.tolist(), strict=True)):
            box = self._blocks[block]
            before = 0 if block == 0 else int(self._ends[block - 1])
            (inside,) = np.nonzero(self.body(box).ravel())
            found[i] = np.add(np.unravel_index(inside[rank - before], box.shape), box.start)
        return found

    @cached_property
    def _ends(self) -> Int64[np.ndarray, " b"]:
        return np.cumsum(self.entry.body_counts, dtype=np.int64)

    @cached_property
    def _blocks(self) -> list[Box]:
        return blocks_of(self.shape)


def compressed(image: Shaped[np.ndarray, "x y z"], recipe: Recipe) -> bytes:
    """A .b2nd file's bytes: chunks of a patch's size, the same bytes for the same array."""
    chunks = tuple(min(n, size) for n, size in zip(recipe.patch_size, image.shape, strict=True))
    blocks = tuple(min(n, size) for n, size in zip(_INNER, chunks, strict=True))
    parameters = {"codec": blosc2.Codec.ZSTD, "clevel": 5, "filters": [blosc2.Filter.BITSHUFFLE], "nthreads": 1}
    array = blosc2.asarray(np.ascontiguousarray(image), chunks=chunks, blocks=blocks, cparams=parameters)
    return bytes(array.to_cframe())


def blocks_of(shape: tuple[int, int, int]) -> list[Box]:
    """The grid in blocks of `BLOCK` voxels, cut at its end, in C order."""
    x, y, z = ([(i, min(i + size, n)) for i in range(0, n, size)] for n, size in zip(shape, BLOCK, strict=True))
    return [Box((a, c, e), (b, d, f)) for (a, b), (c, d), (e, f) in product(x, y, z)]


def block_counts(body: Bool[np.ndarray, "x y z"]) -> Int64[np.ndarray, " b"]:
    """Body voxels of each of `blocks_of`."""
    x, y, z = body.shape
    return np.array([np.count_nonzero(body[box.slices]) for box in blocks_of((x, y, z))], dtype=np.int64)


def _opened(path: Path) -> blosc2.NDArray:
    try:
        return blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} must be a whole file of a cache, it is not ({error}); run vox2vec cache verify"
        ) from error


def _read(array: blosc2.NDArray, box: Box, fill: int) -> np.ndarray:
    inside = Box(_clamped(box.start, array.shape), _clamped(box.stop, array.shape))
    if inside == box:
        return np.asarray(array[box.slices])
    values = np.full(box.shape, fill, array.dtype)
    if 0 not in inside.shape:
        starts, stops = np.subtract(inside.start, box.start), np.subtract(inside.stop, box.start)
        values[tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))] = array[inside.slices]
    return values


def _clamped(corner: tuple[int, int, int], shape: tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = (min(max(c, 0), n) for c, n in zip(corner, shape, strict=True))
    return (x, y, z)
