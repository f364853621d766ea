"""The most similar places in many CTs: vectors of a coarse lattice of each, kept in files and mapped into memory."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vox2vec.inference.embedding import Embedding

FORMAT_VERSION = 1
_ROWS = 2**14  # vectors read at a time
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Place:
    """A place that was found.

    Attributes:
        key: of the CT, such as its key in a cache.
        point_mm: RAS+ millimetres.
        score: cosine similarity.
    """

    key: str
    point_mm: tuple[float, float, float]
    score: float


class PlaceIndex:
    """A folder with a file of vectors for each CT; CTs are added one by one, and found in all that are there.

    Vectors are unit, float16, of body voxels on a lattice of `every_mm`; a search reads a part of one file at a time,
    so memory does not grow with the number of CTs.

    Args:
        folder: made if it is not there.
        fingerprint: of the weights; an index of other weights is another folder.
    """

    def __init__(self, folder: Path, fingerprint: str, *, every_mm: float = 8.0) -> None:
        if every_mm <= 0:
            raise ValueError(f"every_mm must be positive, got {every_mm}")
        self.folder = folder / f"{fingerprint}_{every_mm:g}mm"
        self.fingerprint, self.every_mm = fingerprint, every_mm
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def keys(self) -> list[str]:
        """The CTs that are in it."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def __contains__(self, key: str) -> bool:
        return (self.folder / f"{key}.json").is_file()

    def add(self, key: str, embedding: Embedding) -> None:
        """Write the vectors of one CT's body, whole or not at all.

        Raises:
            ValueError: an embedding of other weights, or no body on the lattice.
        """
        if embedding.fingerprint != self.fingerprint:
            raise ValueError(
                f"the index is of the weights {self.fingerprint}, the embedding of {embedding.fingerprint}"
            )
        steps = [max(1, round(self.every_mm / s)) for s in embedding.grid.spacing_mm]
        lattice = np.zeros(embedding.shape, bool)
        lattice[tuple(slice(step // 2, None, step) for step in steps)] = True
        voxels = np.argwhere(lattice & embedding.body & embedding.has_vector())
        if not len(voxels):
            raise ValueError(f"{key} has no body voxel on a lattice of {self.every_mm:g} mm")
        points = embedding.grid.to_mm(voxels)
        path = self.folder / f"{key}.npy"
        partial = path.with_name(path.name + _PARTIAL)
        vectors = np.lib.format.open_memmap(
            partial, mode="w+", dtype=np.float16, shape=(len(voxels), embedding.num_channels)
        )
        for start in range(0, len(points), _ROWS):
            vectors[start : start + _ROWS] = F.normalize(embedding.at(points[start : start + _ROWS]), dim=1).numpy()
        vectors.flush()
        partial.replace(path)
        described = {"format_version": FORMAT_VERSION, "affine": embedding.affine.tolist(), "voxels": voxels.tolist()}
        told = path.with_suffix(".json")
        partial = told.with_name(told.name + _PARTIAL)
        partial.write_text(json.dumps(described))
        partial.replace(told)

    def search(
        self,
        vector: Float[Tensor, " d"],
        *,
        count: int = 10,
        apart_mm: float = 30.0,
        among: Collection[str] | None = None,
    ) -> list[Place]:
        """The `count` most similar places of all CTs, best first, those of one CT at least `apart_mm` apart.

        Args:
            among: the CTs to look in, all by default.

        Raises:
            ValueError: a vector with NaN, or of another width.
        """
        if count < 1 or apart_mm < 0:
            raise ValueError(f"count must be at least 1 and apart_mm not negative, got {count} and {apart_mm}")
        query = F.normalize(vector.float(), dim=0)
        if not bool(query.isfinite().all()):
            raise ValueError("the vector must be finite, it holds NaN: the place it was read at has no vector")
        found = [
            place
            for key in self.keys
            if among is None or key in among
            for place in self._best(key, query, count, apart_mm)
        ]
        return sorted(found, key=lambda place: -place.score)[:count]

    def _best(self, key: str, query: Tensor, count: int, apart_mm: float) -> Iterator[Place]:
        """Of one CT: the best, then the best of what is far enough from it, and so on."""
        vectors = np.load(self.folder / f"{key}.npy", mmap_mode="r", allow_pickle=False)
        if vectors.shape[1] != len(query):
            raise ValueError(f"the vector must be ({vectors.shape[1]},), got ({len(query)},)")
        parts = [
            torch.from_numpy(vectors[start : start + _ROWS].astype(np.float32)) @ query
            for start in range(0, len(vectors), _ROWS)
        ]
        scores = torch.cat(parts).numpy()
        described = json.loads((self.folder / f"{key}.json").read_text())
        affine = np.array(described["affine"])
        points = np.array(described["voxels"]) @ affine[:3, :3].T + affine[:3, 3]
        for _ in range(count):
            best = int(scores.argmax())
            if scores[best] == -np.inf:
                return
            x, y, z = points[best].tolist()
            yield Place(key, (x, y, z), float(scores[best]))
            scores[np.linalg.norm(points - points[best], axis=1) < max(apart_mm, 1e-9)] = -np.inf
