"""Voxels of two scans that find each other: the raw material of a field."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from vox2vec.matching.index import Index

_MUTUAL_MM = 8.0  # there and back ends within this distance
_CANDIDATES = 8  # places of the lattice around which every voxel is looked at
_LEAST_PLACES = 20_000  # that are looked at; all voxels of a scan that has no more
_PRODUCTS = 2**25  # similarities held at a time, 128 MiB
_GATHERED = 2**24  # numbers of the voxels around the best places, 64 MiB


def mutual_pairs(
    source: Index, target: Index, *, lattice_mm: float, search_mm: float
) -> tuple[Float64[np.ndarray, "m 3"], Float64[np.ndarray, "m 3"]]:
    """Points of both scans, RAS+ millimetres, that lead to each other: lattices of both bodies are looked for.

    Args:
        lattice_mm: of the points that are looked for.
        search_mm: of the places that are looked at; then every voxel around the best of them is.
    """
    places, others = Places(source, search_mm), Places(target, search_mm)
    a, b = _found_back(places, others, lattice_mm)
    d, c = _found_back(others, places, lattice_mm)
    return np.concatenate([a, c]), np.concatenate([b, d])


def both_compared(source: Index, target: Index) -> None:
    """A ValueError where vectors of the two cannot be compared."""
    if source.embedding.fingerprint != target.embedding.fingerprint:
        raise ValueError(
            f"both scans must be embedded by the same weights, got {source.embedding.fingerprint} and "
            f"{target.embedding.fingerprint}; embed one again"
        )
    if list(source.weights) != list(target.weights):
        raise ValueError(f"both must weight their levels alike, got {source.weights} and {target.weights}")
    if source.averaged != target.averaged:
        raise ValueError("both or neither must be averaged; make both indices with average=True")


def pitch_of(index: Index, every_mm: float, *, least: int) -> float:
    """Of a lattice in the body: as asked, but closer where that would be fewer than `least` points."""
    volume_mm3 = float(index.may_be_found.sum()) * float(np.prod(index.embedding.grid.spacing_mm))
    return min(every_mm, float((volume_mm3 / least) ** (1 / 3)))


def lattice_of(index: Index, every_mm: float) -> Int64[np.ndarray, "n 3"]:
    """Voxels of the body, every so many millimetres; all of them where that is less than a voxel."""
    steps = [max(1, round(every_mm / s)) for s in index.embedding.grid.spacing_mm]
    starts = [step // 2 for step in steps]
    body = index.may_be_found.numpy()
    some = np.argwhere(body[tuple(slice(a, None, step) for a, step in zip(starts, steps, strict=True))])
    return some * steps + starts


def unit_vectors(index: Index, voxels: Any) -> Float[Tensor, "n d"]:
    """Of voxels (n, 3), their levels weighted, of length 1."""
    embedding = index.embedding
    return F.normalize(index.weighted(embedding.at(embedding.grid.to_mm(voxels))), dim=1)


class Places:
    """A scan's vectors on a lattice of its body, and the voxels around each: a fast search, exact in small scans only.

    Attributes:
        index: of the scan.
        lattice_mm: the places (n, 3), RAS+ millimetres.
    """

    def __init__(self, index: Index, every_mm: float) -> None:
        self.index = index
        every_mm = pitch_of(index, every_mm, least=_LEAST_PLACES)
        self._lattice = torch.from_numpy(lattice_of(index, every_mm))
        self.lattice_mm = index.embedding.grid.to_mm(self._lattice.numpy())
        self._vectors = unit_vectors(index, self._lattice.numpy())
        steps = [max(1, round(every_mm / s)) for s in index.embedding.grid.spacing_mm]
        reach = [torch.arange(-(step // 2), step // 2 + 1) for step in steps]
        self._around = torch.stack(torch.meshgrid(*reach, indexing="ij"), dim=-1).reshape(-1, 3)

    def most_similar(self, vectors: Float[Tensor, "q d"]) -> Int64[np.ndarray, "q 3"]:
        """For each unit vector the most similar voxel around the `_CANDIDATES` most similar places of the lattice."""
        if not len(vectors):
            return np.zeros((0, 3), np.int64)
        rows = max(1, _PRODUCTS // len(self._vectors))
        count = min(_CANDIDATES, len(self._vectors))
        best = torch.cat([(some @ self._vectors.T).topk(count, dim=1).indices for some in vectors.split(rows)])
        rows = max(1, _GATHERED // (len(self._around) * count * vectors.shape[1]))
        parts = zip(self._lattice[best].split(rows), vectors.split(rows), strict=True)
        return torch.cat([self._refined(*part) for part in parts]).numpy()

    def _refined(self, places: Int64[Tensor, "q k 3"], vectors: Float[Tensor, "q d"]) -> Int64[Tensor, "q 3"]:
        size = torch.tensor(self.index.embedding.shape)
        around = (places[:, :, None] + self._around).clamp(min=0).minimum(size - 1).flatten(1, 2)
        near = unit_vectors(self.index, around.reshape(-1, 3).numpy()).unflatten(0, around.shape[:2])
        similar = torch.einsum("qkd,qd->qk", near, vectors)
        similar[~self.index.may_be_found[around.unbind(dim=-1)]] = -torch.inf
        return around[torch.arange(len(around)), similar.argmax(dim=1)]


def _found_back(
    here: Places, there: Places, lattice_mm: float
) -> tuple[Float64[np.ndarray, "m 3"], Float64[np.ndarray, "m 3"]]:
    """Points of a lattice here and their matches there, of those that lead back."""
    asked = lattice_of(here.index, lattice_mm)
    found = there.most_similar(unit_vectors(here.index, asked))
    back = here.most_similar(unit_vectors(there.index, found))
    own, other = here.index.embedding.grid, there.index.embedding.grid
    points = own.to_mm(asked)
    mutual = np.linalg.norm(points - own.to_mm(back), axis=1) <= _MUTUAL_MM
    return points[mutual], other.to_mm(found)[mutual]
