"""The same places in another scan: points of one, found in the other by a field that holds them together."""

import logging
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial import cKDTree
from torch.nn import functional as F

from vox2vec.inference.embedding import Embedding
from vox2vec.matching.alone import match_alone
from vox2vec.matching.field import SEARCH_MM, Field, NoField
from vox2vec.matching.index import Index
from vox2vec.matching.local import settled
from vox2vec.matching.matches import NO_COUNTERPART, Matches, status_of
from vox2vec.matching.mutual import Places, both_compared, unit_vectors
from vox2vec.volume import Volume

_FAR_MM, _FAR_SPREADS = 10.0, 3.0  # the vector's own place from the field's: farther in both, and it is an outlier
_OFF_THE_BODY_MM = 10.0  # a place farther from the target's body is none

_logger = logging.getLogger(__name__)


def match(
    source: Embedding | Index,
    points_mm: Any,
    target: Embedding | Index,
    *,
    scans: tuple[Volume, Volume] | None = None,
    field: Field | None = None,
    mutual_mm: float = 10.0,
) -> Matches:
    """Find points (v, 3) of the source, in RAS+ millimetres, in the target.

    The field between the scans puts them where matches all around say; where the scans themselves are given, each
    place moves to where their intensities correlate best nearby. A point's own vector is looked for as well, there and
    back, and tells on the match: `back_mm`, `mutual` and `outlier`. Many points cost little more than one. Where no
    field can be made, which is logged, points are found by `match_alone`.

    Args:
        source, target: embeddings are averaged over neighbouring cells first. An `Index` is taken as it is: it is kept
            between calls, may weight the levels, and should be made with `average=True` too.
        scans: that were embedded, HU.
        field: of the two, where it was made before.
        mutual_mm: a match is mutual if looking back ends within this distance of the point.

    Returns:
        Matches. An outlier is a point whose own vector's most similar place lies more than 10 mm, and more than three
        times the spread, from the match.

    Raises:
        ValueError: embeddings of different weights, indices of other level weights or only one of them averaged, or
            points that are no (v, 3).
    """
    source, target = (one if isinstance(one, Index) else Index.of(one, average=True) for one in (source, target))
    both_compared(source, target)
    points = np.asarray(points_mm, dtype=np.float64)
    known = source.embedding.at(points).isfinite().all(dim=1).numpy() & source.embedding.in_body(points)
    try:
        field = Field.between(source, target) if field is None else field
    except NoField as error:
        _logger.warning("points are matched one by one: %s", error)
        return match_alone(source, points, target, mutual_mm=mutual_mm)
    here, there = Places(source, SEARCH_MM), Places(target, SEARCH_MM)
    maps = field.maps(points)
    found_mm, spread_mm = maps.at.copy(), field.spread_of(maps)
    shown = known & field.supported(points) & _beside_body(there, found_mm)
    if scans is not None:
        found_mm[shown] = settled(
            *(scans[0], points[shown], scans[1], found_mm[shown]),
            linear=maps.linear[shown],
            spread_mm=spread_mm[shown],
            window_hu=source.embedding.recipe.window_hu,
        ).points_mm
    shown &= target.embedding.at(found_mm).isfinite().all(dim=1).numpy()
    found_mm[~shown], spread_mm[~shown] = np.nan, np.nan
    status = np.array(status_of(source.embedding, points, known), dtype=object)
    status[known & ~shown] = NO_COUNTERPART
    score, back_mm, outlier = (np.full(len(points), fill) for fill in (np.nan, np.nan, False))
    asked, found = points[shown], found_mm[shown]
    vectors = (source.weighted(source.embedding.between(asked)), target.weighted(target.embedding.between(found)))
    score[shown] = F.cosine_similarity(*vectors).double().numpy()
    back_mm[shown] = np.linalg.norm(_most_similar(target, found, here) - asked, axis=1)
    off_mm = np.linalg.norm(_most_similar(source, asked, there) - found, axis=1)
    outlier[shown] = off_mm > np.maximum(_FAR_MM, _FAR_SPREADS * spread_mm[shown])
    with np.errstate(invalid="ignore"):
        mutual = back_mm <= mutual_mm
    return Matches(found_mm, score, back_mm, mutual, outlier, spread_mm, status.tolist())


def _beside_body(places: Places, points_mm: Float64[np.ndarray, "v 3"]) -> Bool[np.ndarray, " v"]:
    """Which points lie in the body of a scan, or so near that they mean its skin."""
    far_mm = np.full(len(points_mm), np.inf)
    known = np.isfinite(points_mm).all(axis=1)
    far_mm[known], _ = cKDTree(places.lattice_mm).query(points_mm[known])
    return far_mm <= _OFF_THE_BODY_MM


def _most_similar(asked: Index, points_mm: Float64[np.ndarray, "v 3"], places: Places) -> Float64[np.ndarray, "v 3"]:
    """For points of one scan the voxels of the other whose vectors are most like theirs, RAS+ millimetres."""
    voxels = np.floor(asked.embedding.grid.to_voxels(points_mm) + 0.5).astype(np.int64)
    return places.index.embedding.grid.to_mm(places.most_similar(unit_vectors(asked, voxels)))
