"""Matching points in a whole scan: level by level at native strides, against comparing every voxel's full vector; and
the memory of a search in many CTs."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.memory import peak_of
from benchmarks.timing import seconds_of
from vox2vec.inference.embedding import Embedding, packed
from vox2vec.matching.index import Index
from vox2vec.matching.retrieval import PlaceIndex
from vox2vec.recipe import PAPER

SHAPE = (350, 300, 200)
QUERIES = 8
CTS = 200  # searched for the most similar places
SLAB = 65_536  # voxels whose vectors are formed together
PART = 100  # brute force looks at one voxel in so many, its time is multiplied


def pyramid() -> Embedding:
    """Random vectors of the released widths, at the strides that `embed` leaves for a scan of many windows."""
    generator = torch.Generator().manual_seed(0)
    strides = [(min(2**i, 8), min(2**i, 8), min(2**i, 4)) for i in range(6)]
    levels = []
    for i, stride in enumerate(strides):
        cells = [-(-n // s) for n, s in zip(SHAPE, stride, strict=True)]
        level = torch.empty(*cells, 16 * 2**i, dtype=torch.float16)
        for slab in level:
            slab.copy_(torch.randn(slab.shape, generator=generator))
        levels.append(level.movedim(-1, 0))
    everywhere = np.ones(SHAPE, bool)
    return Embedding(
        pyramid=tuple(levels),
        strides=tuple(strides),
        shape=SHAPE,
        affine=np.diag([1.0, 1, 2, 1]),
        covered=torch.from_numpy(everywhere),
        covered_stride=(1, 1, 1),
        packed_body=packed(everywhere),
        recipe=PAPER,
        fingerprint="random",
    )


def every_vector(vectors: Tensor, embedding: Embedding, voxels: np.ndarray) -> np.ndarray:
    """The voxel most like each vector, by forming the whole vector of every one."""
    queries = F.normalize(vectors, dim=1).T
    best, place = torch.full((len(vectors),), -torch.inf), torch.zeros(len(vectors), dtype=torch.long)
    for start in range(0, len(voxels), SLAB):
        found = F.normalize(embedding.at(embedding.grid.to_mm(voxels[start : start + SLAB])), dim=1)
        similar, row = (found @ queries).max(dim=0)
        place = torch.where(similar > best, row + start, place)
        best = torch.maximum(best, similar)
    return voxels[place.numpy()]


def rows() -> Iterator[tuple[str, ...]]:
    target = pyramid()
    rng = np.random.default_rng(0)
    some = np.zeros(np.prod(SHAPE), bool)
    some[rng.permutation(len(some))[: len(some) // PART]] = True
    some = some.reshape(SHAPE)
    vectors = target.at(target.grid.to_mm(rng.integers(0, SHAPE, (QUERIES, 3))))
    vectors += torch.randn(vectors.shape, generator=torch.Generator().manual_seed(1))
    index = Index.of(target)
    found, _ = Index.of(target, among=some).search(vectors)
    voxels = np.argwhere(some)
    same = np.array_equal(found.numpy(), every_vector(vectors, target, voxels))
    ours_s, brute_s = seconds_of(lambda: index.search(vectors), lambda: every_vector(vectors, target, voxels), rounds=1)
    brute_s *= PART
    yield (
        f"match {QUERIES} points in {'x'.join(map(str, SHAPE))}",
        f"{ours_s / QUERIES:.2f} s a point",
        f"every full vector {brute_s / QUERIES:.1f} s (1 % of them timed)",
        f"{brute_s / ours_s:.0f}x faster, {'the same voxels' if same else 'OTHER VOXELS'}",
    )
    many = vectors.repeat(8, 1)
    many_s, one_s = seconds_of(lambda: index.search(many), lambda: index.search(vectors[:1]), rounds=1)
    yield "one point of 64 together", f"{many_s / 64:.2f} s", f"one alone {one_s:.2f} s", f"{one_s * 64 / many_s:.1f}x"
    averaged_s, search_s = seconds_of(target.averaged, lambda: index.search(vectors[:1]), rounds=1)
    yield "averaging such an embedding, once a scan", f"{averaged_s:.0f} s", f"one point {search_s:.2f} s", ""
    yield _places(target)


def _places(embedding: Embedding) -> tuple[str, ...]:
    """A search in so many CTs of this size: one file under many names, each mapped and read for itself."""
    with tempfile.TemporaryDirectory() as folder:
        index = PlaceIndex(Path(folder), "random")
        index.add("0", embedding, np.ones(embedding.shape, bool))
        for ending in (".npy", ".json"):
            for i in range(1, CTS):
                os.link(index.folder / f"0{ending}", index.folder / f"{i}{ending}")
        gigabytes = CTS * (index.folder / "0.npy").stat().st_size / 1e9
        imports = "import torch; from pathlib import Path; from vox2vec.matching.retrieval import PlaceIndex"
        search = f"PlaceIndex(Path({folder!r}), 'random').search(torch.ones({embedding.num_channels}))"
        seconds, peak = peak_of(imports, search)
    return f"search {CTS} CTs of that size, {gigabytes:.1f} GB of vectors", seconds, "", peak
