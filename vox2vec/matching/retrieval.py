"""The most similar places in many CTs: vectors of a coarse lattice of each, kept in files and mapped into memory."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from vox2vec.data.entry import Entry
from vox2vec.geometry import transformed
from vox2vec.inference.embed import Embedder, Scan
from vox2vec.inference.embedding import Embedding
from vox2vec.matching.csv_file import write_csv

FORMAT_VERSION = 1
_ROWS = 2**14  # vectors read at a time
_PARTIAL = ".partial"
_REMEDY = "delete both files of this CT, the next search makes them anew"


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
            ValueError: an embedding of other weights, no body on the lattice, or a key that is no name of a file.
        """
        self._write(key, embedding, self._lattice(key, embedding))

    def fill(
        self,
        keys: Iterable[str],
        scan_of: Callable[[str], Scan],
        embedder: Embedder,
        *,
        progress: bool = True,
    ) -> Mapping[str, str]:
        """Embed and add those CTs that are missing; one that cannot be embedded is passed over.

        Args:
            keys: of the CTs that should be in the index.
            scan_of: opens one of them: a `Volume`, a path, or a `CachedScan`.
            progress: show a bar.

        Returns:
            The keys of CTs that were left out, and why.

        Raises:
            ValueError: an embedder of other weights.
            OSError: the index cannot be written, a full disk above all; it stays valid.
        """
        self._check(embedder.fingerprint)
        missing = [key for key in keys if key not in self]
        left_out = {}
        for key in tqdm(missing, desc="indexing", unit="CT", disable=None if missing and progress else True):
            try:
                embedding = embedder(scan_of(key))
                voxels = self._lattice(key, embedding)
            except (ValueError, OSError) as error:
                left_out[key] = str(error)
            else:
                self._write(key, embedding, voxels)
        return left_out

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

    def _check(self, fingerprint: str) -> None:
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"the index is of the weights {self.fingerprint}, the embedding of {fingerprint}; embed by the former, "
                "or make another index"
            )

    def _lattice(self, key: str, embedding: Embedding) -> Int64[np.ndarray, "v 3"]:
        """The voxels of a CT that the index keeps."""
        self._check(embedding.fingerprint)
        if Path(key).name != key:
            raise ValueError(f"a key must be the name of a file in the index, without folders, got {key!r}")
        steps = [max(1, round(self.every_mm / s)) for s in embedding.grid.spacing_mm]
        lattice = np.zeros(embedding.shape, bool)
        lattice[tuple(slice(step // 2, None, step) for step in steps)] = True
        voxels = np.argwhere(lattice & embedding.body & embedding.has_vector())
        if not len(voxels):
            raise ValueError(f"{key} has no body voxel on a lattice of {self.every_mm:g} mm")
        return voxels

    def _write(self, key: str, embedding: Embedding, voxels: Int64[np.ndarray, "v 3"]) -> None:
        """Vectors first: a CT is in the index once its JSON is. Nothing is mapped: Windows renames no mapped file."""
        points = embedding.grid.to_mm(voxels)
        path, told = self.folder / f"{key}.npy", self.folder / f"{key}.json"
        shape = (len(voxels), embedding.num_channels)
        partial = path.with_name(path.name + _PARTIAL)
        with partial.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
            for start in range(0, len(points), _ROWS):
                vectors = F.normalize(embedding.at(points[start : start + _ROWS]), dim=1)
                file.write(vectors.numpy().astype("<f2").tobytes())
        partial.replace(path)
        described = {"format_version": FORMAT_VERSION, "affine": embedding.affine.tolist(), "voxels": voxels.tolist()}
        partial = told.with_name(told.name + _PARTIAL)
        partial.write_text(json.dumps(described), encoding="utf-8")
        partial.replace(told)

    def _best(self, key: str, query: Tensor, count: int, apart_mm: float) -> Iterator[Place]:
        """Of one CT: the best, then the best of what is far enough from it, and so on."""
        points, scores = self._points(key), self._scores(key, query)
        if len(points) != len(scores):
            raise ValueError(
                f"{self.folder / key}.json names {len(points)} places, {key}.npy holds {len(scores)}; {_REMEDY}"
            )
        for _ in range(count):
            best = int(scores.argmax())
            if scores[best] == -np.inf:
                return
            x, y, z = points[best].tolist()
            yield Place(key, (x, y, z), float(scores[best]))
            scores[np.linalg.norm(points - points[best], axis=1) < max(apart_mm, 1e-9)] = -np.inf

    def _scores(self, key: str, query: Tensor) -> Float32[np.ndarray, " v"]:
        """The cosine similarity of every vector of a CT, read part by part."""
        path = self.folder / f"{key}.npy"
        try:
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} must hold vectors of the index, it does not ({error}); {_REMEDY}") from error
        if vectors.ndim != 2 or vectors.shape[1] != len(query):
            raise ValueError(f"the vector must be ({vectors.shape[-1]},), as those of {path}, got ({len(query)},)")
        parts = [
            torch.from_numpy(vectors[start : start + _ROWS].astype(np.float32)) @ query
            for start in range(0, len(vectors), _ROWS)
        ]
        return torch.cat(parts).numpy()

    def _points(self, key: str) -> Float64[np.ndarray, "v 3"]:
        """RAS+ millimetres of a CT's vectors."""
        path = self.folder / f"{key}.json"
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
            if described["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format version {described['format_version']}, this vox2vec reads {FORMAT_VERSION}")
            affine, voxels = (np.array(described[name], dtype=np.float64) for name in ("affine", "voxels"))
            return transformed(affine.reshape(4, 4), voxels.reshape(-1, 3))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} must say where the index's vectors lie, it does not ({error!r}); {_REMEDY}"
            ) from error


def write_places(places: Sequence[Place], path: str | PathLike[str], entries: Mapping[str, Entry]) -> None:
    """Write a CSV with a row a place: source, id, x, y, z (RAS+ millimetres), score and path of the CT.

    Args:
        entries: of a cache, by the places' keys.
    """
    rows = []
    for place in places:
        entry = entries[place.key]
        point = [f"{value:.2f}" for value in place.point_mm]
        rows.append([entry.source, entry.id, *point, f"{place.score:.4f}", entry.path])
    write_csv(path, ["source", "id", "x", "y", "z", "score", "path"], rows)
