"""Points found one by one: each by its own vector, whatever the points around it say."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from vox2vec.inference.embedding import Embedding
from vox2vec.matching.affine import by_others
from vox2vec.matching.index import Index
from vox2vec.matching.matches import Matches, status_of
from vox2vec.matching.mutual import both_compared
from vox2vec.matching.peak import below_the_voxel

NEIGHBOURS = 12
"""Matches that the affine map around a point is fitted to, itself left out."""

AROUND = 4
"""Voxels along each axis in which interpolated vectors are compared around the best voxel."""

_OUTLIER_MM = 10.0  # at least this far from the map
_OUTLIER_SPREADS = 3.0  # and at least so many times as far as is usual


def match_alone(
    source: Embedding | Index,
    points_mm: Any,
    target: Embedding | Index,
    *,
    mutual_mm: float = 10.0,
    refine: bool = True,
) -> Matches:
    """Find points (v, 3) of the source, in RAS+ millimetres, in the target, each by itself.

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
    both_compared(source, target)
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
    unknown = np.full(len(points), np.nan)
    return Matches(found_mm, score, back_mm, mutual, outlier, unknown, status_of(source.embedding, points, here))


def outliers(points_mm: Float64[np.ndarray, "v 3"], found_mm: Float64[np.ndarray, "v 3"]) -> Bool[np.ndarray, " v"]:
    """Matches far from where the affine map of the `NEIGHBOURS` nearest others puts them.

    Far is at least 10 mm, and three times the median. With at most `NEIGHBOURS` matches none is.
    """
    if len(points_mm) <= NEIGHBOURS:
        return np.zeros(len(points_mm), bool)
    off_mm = np.linalg.norm(found_mm - by_others(points_mm, found_mm, NEIGHBOURS), axis=1)
    return off_mm > max(_OUTLIER_MM, _OUTLIER_SPREADS * float(np.median(off_mm)))


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
        places[i] = around[best].double().numpy() + below_the_voxel(similar.double().numpy(), best)
        scores[i] = similar[best]
    return places, scores
