"""The same places in another scan: points of one, found in the other by their vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional as F

from vox2vec.inference.embedding import Embedding
from vox2vec.matching.index import Index
from vox2vec.reading.points import Points, System, write_points

MATCHED, OUTSIDE, NO_VECTOR = "matched", "outside the scan", "outside the body"


@dataclass(frozen=True, eq=False)
class Matches:
    """Where points of a source scan lie in a target scan.

    Attributes:
        points_mm: in the target, RAS+ millimetres; NaN where there is no match.
        score: cosine similarity, NaN where there is no match.
        back_mm: how far from the point one ends when the match is looked for in the source.
        mutual: whether that is within `mutual_mm`.
        outlier: whether the match lies far from where its neighbours' affine map puts it; all False with fewer than
            `NEIGHBOURS` matches.
        status: "matched", "outside the scan" or "outside the body" (of the source: air around it is no place).
    """

    points_mm: Float64[np.ndarray, "v 3"]
    score: Float64[np.ndarray, " v"]
    back_mm: Float64[np.ndarray, " v"]
    mutual: Bool[np.ndarray, " v"]
    outlier: Bool[np.ndarray, " v"]
    status: Sequence[str]

    @property
    def found(self) -> Bool[np.ndarray, " v"]:
        """Which points are matched."""
        return np.array([status == MATCHED for status in self.status], dtype=bool)

    def save(self, path: str | PathLike[str], *, names: Sequence[str] | None = None, system: System = "RAS") -> None:
        """Write .csv, or 3D Slicer's .fcsv or .mrk.json, with score, mutual, back_mm, outlier and status.

        Args:
            names: of the points; their numbers from 1 by default.
            system: of the file, which says it.

        Raises:
            ValueError: another format, or not one name a point.
        """
        names = [str(i + 1) for i in range(len(self.status))] if names is None else names
        if len(names) != len(self.status):
            raise ValueError(f"each point must have one name, got {len(names)} names of {len(self.status)} points")
        told = {
            "score": [_told(value, 3) for value in self.score],
            "mutual": ["yes" if mutual else "no" for mutual in self.mutual],
            "back_mm": [_told(value, 1) for value in self.back_mm],
            "outlier": ["yes" if outlier else "no" for outlier in self.outlier],
            "status": self.status,
        }
        write_points(Points(names, self.points_mm, system), path, columns=told)


NEIGHBOURS = 12
"""Matches that the affine map around a point is fitted to, itself left out."""

AROUND = 4
"""Voxels along each axis in which interpolated vectors are compared around the best voxel."""

_OUTLIER_MM = 10.0  # at least this far from the map
_OUTLIER_SPREADS = 3.0  # and at least so many times as far as is usual


def match(
    source: Embedding | Index,
    points_mm: Any,
    target: Embedding | Index,
    *,
    mutual_mm: float = 10.0,
    refine: bool = True,
) -> Matches:
    """Find points (v, 3) of the source, in RAS+ millimetres, in the target.

    Each point's vector is compared with every voxel's: the best voxel is exact. Then vectors interpolated between cells
    are compared within `AROUND` voxels of it, and a parabola through the best one's neighbours goes below the voxel.
    Embeddings are averaged over neighbouring cells first. An `Index` is taken as it is: it is kept between calls, may
    weight the levels, and should be made with `average=True` too.

    Args:
        mutual_mm: a match is mutual if looking back ends within this distance of the point.
        refine: by interpolated vectors, below the voxel.

    Raises:
        ValueError: embeddings of different weights, indices of other level weights or only one of them averaged, or
            points that are no (v, 3).
    """
    source, target = (one if isinstance(one, Index) else Index.of(one, average=True) for one in (source, target))
    if source.embedding.fingerprint != target.embedding.fingerprint:
        raise ValueError(
            f"both scans must be embedded by the same weights, got {source.embedding.fingerprint} and "
            f"{target.embedding.fingerprint}; embed one again"
        )
    if list(source.weights) != list(target.weights):
        raise ValueError(f"both must weight their levels alike, got {source.weights} and {target.weights}")
    if source.averaged != target.averaged:
        raise ValueError("both or neither must be averaged; make both indices with average=True")
    points = np.asarray(points_mm, dtype=np.float64)
    vectors = source.embedding.at(points)
    known = vectors.isfinite().all(dim=1) & torch.from_numpy(source.embedding.in_body(points))
    here = known.numpy()
    found_mm, score, back_mm = (np.full((len(points), *s), np.nan) for s in ((3,), (), ()))
    voxels, similarity = target.search(vectors[known])
    grid, own = target.embedding.grid, source.embedding.grid
    places = voxels.double().numpy()
    if refine:
        places, similarity = _refined(target, source.embedding.between(points[here]), voxels)
    found_mm[here], score[here] = grid.to_mm(places), similarity.double().numpy()
    back, _ = source.search(target.embedding.at(found_mm[here]))
    back_mm[here] = np.linalg.norm(own.to_mm(back.numpy()) - points[here], axis=1)
    outlier = np.zeros(len(points), bool)
    outlier[here] = outliers(points[here], found_mm[here])
    with np.errstate(invalid="ignore"):
        mutual = back_mm <= mutual_mm
    return Matches(found_mm, score, back_mm, mutual, outlier, _status(source.embedding, points, here))


def outliers(points_mm: Float64[np.ndarray, "v 3"], found_mm: Float64[np.ndarray, "v 3"]) -> Bool[np.ndarray, " v"]:
    """Matches far from where `by_neighbours` puts them: at least 10 mm, and three times the median.

    With at most `NEIGHBOURS` matches none is.
    """
    if len(points_mm) <= NEIGHBOURS:
        return np.zeros(len(points_mm), bool)
    off_mm = np.linalg.norm(found_mm - by_neighbours(points_mm, found_mm), axis=1)
    return off_mm > max(_OUTLIER_MM, _OUTLIER_SPREADS * float(np.median(off_mm)))


def by_neighbours(
    points_mm: Float64[np.ndarray, "v 3"], found_mm: Float64[np.ndarray, "v 3"]
) -> Float64[np.ndarray, "v 3"]:
    """Where the affine map of each point's `NEIGHBOURS` nearest others, fitted to their matches, puts it.

    The fit is robust (iteratively reweighted by Cauchy's weights), its linear part drawn towards the identity where
    points are few. There must be more points than neighbours. Memory is linear in the points.
    """
    _, near = cKDTree(points_mm).query(points_mm, k=NEIGHBOURS + 1)
    others = near != np.arange(len(near))[:, None]
    others[others.all(axis=1), -1] = False  # more points in one place than neighbours: it is not among its own
    near = near[others].reshape(-1, NEIGHBOURS)
    return _affine_at(points_mm[near] - points_mm[:, None], found_mm[near])


def _affine_at(
    offsets: Float64[np.ndarray, "v k 3"], found: Float64[np.ndarray, "v k 3"]
) -> Float64[np.ndarray, "v 3"]:
    """The values at offset 0 of robust affine fits, one for each of `v` sets of `k` points."""
    scale = np.abs(offsets).max(axis=(1, 2), keepdims=True).clip(min=1e-6)
    design = np.concatenate([offsets / scale, np.ones((*offsets.shape[:2], 1))], axis=2)
    prior = 0.1 * np.diag([1.0, 1, 1, 0])  # of the linear part: it is near the identity between scans of patients
    weights = np.ones((*offsets.shape[:2], 1))
    shift = found - offsets
    solution = np.zeros((len(offsets), 4, 3))
    for _ in range(20):
        weighted = (design * weights).swapaxes(1, 2)
        solution = np.linalg.solve(weighted @ design + prior, weighted @ shift)
        residual = np.linalg.norm(shift - design @ solution, axis=2, keepdims=True)
        spread = (1.4826 * np.median(residual, axis=1, keepdims=True)).clip(min=1e-6)
        weights = 1 / (1 + (residual / (2.385 * spread)) ** 2)
    return solution[:, 3]


def _refined(
    target: Index, vectors: Float[Tensor, "q d"], voxels: Int64[Tensor, "q 3"]
) -> tuple[Float64[np.ndarray, "q 3"], Float[Tensor, " q"]]:
    """The place of the most similar interpolated vector within `AROUND` voxels, and its similarity at the voxel."""
    embedding = target.embedding
    reach = np.arange(-AROUND, AROUND + 1)
    box = np.stack(np.meshgrid(reach, reach, reach, indexing="ij"), axis=-1)
    size = torch.tensor(embedding.shape)
    places, scores = voxels.double().numpy(), torch.empty(len(voxels))
    for i, (vector, voxel) in enumerate(zip(target.weighted(vectors), voxels, strict=True)):
        around = voxel + torch.from_numpy(box)
        inside = ((around >= 0) & (around < size)).all(dim=-1)
        inside &= target.may_be_found[tuple(around.clamp(min=0).minimum(size - 1).unbind(dim=-1))]
        similar = torch.full(inside.shape, -torch.inf)
        near = target.weighted(embedding.between(embedding.grid.to_mm(around[inside].numpy())))
        similar[inside] = F.cosine_similarity(near, vector[None])
        best = np.unravel_index(int(similar.argmax()), similar.shape)
        places[i] = around[best].double().numpy() + _below_the_voxel(similar.double().numpy(), best)
        scores[i] = similar[best]
    return places, scores


def _below_the_voxel(similar: Float64[np.ndarray, "x y z"], best: Sequence[Any]) -> Float64[np.ndarray, "3"]:
    """Along each axis the top of a parabola through the best voxel and its two neighbours; 0 where one is missing."""
    offset = np.zeros(3)
    for axis in range(3):
        line = np.pad(np.moveaxis(similar, axis, 0)[(slice(None), *np.delete(best, axis))], 1, constant_values=-np.inf)
        below, middle, above = line[int(best[axis]) : int(best[axis]) + 3]
        curvature = below - 2 * middle + above
        if np.isfinite(curvature) and curvature < 0:
            offset[axis] = (below - above) / (2 * curvature)
    return offset.clip(-0.49, 0.49)  # half way, the point would lie in the next voxel, which may have no vector


def _status(embedding: Embedding, points: np.ndarray, known: np.ndarray) -> list[str]:
    voxels = np.floor(embedding.grid.to_voxels(points) + 0.5)
    inside = np.asarray(((voxels >= 0) & (voxels < embedding.shape)).all(axis=1))
    return [MATCHED if has else NO_VECTOR if within else OUTSIDE for has, within in zip(known, inside, strict=True)]


def _told(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"
