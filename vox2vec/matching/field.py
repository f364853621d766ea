"""Where any point of one scan lies in another: mutual matches of a lattice of voxels, which hold each other."""

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial import cKDTree

from vox2vec.inference.embedding import Embedding
from vox2vec.matching.affine import Fits, agreeing, by_others, robust_affines
from vox2vec.matching.index import Index
from vox2vec.matching.mutual import both_compared, mutual_pairs, pitch_of

NEIGHBOURS = 32
"""Pairs that the affine map around a point is fitted to."""

LATTICE_MM = 20.0
"""From one matched point to the next."""

SEARCH_MM = 6.0
"""Lattice of the places that a vector is compared with first, before the voxels around the best of them."""

LEAST_POINTS = 200
"""Of a lattice, in a body of any size."""

LEAST_PAIRS = 8
"""With fewer pairs that agree there is no field."""

_WITHIN_MM = 40.0  # of one similarity transform, what may be right between two patients
_WITHIN = 0.15  # of the pairs' extent at most: in a small scan 40 mm would be right by chance
_FAR = 1.5  # times as far from the affine map of all
_ROUNDS = 6  # in which pairs are held against their neighbours'
_OFF_MM, _OFF_MEDIANS = 6.0, 2.0  # farther from its neighbours' map, and so many times the median, a pair is wrong
_UNSEEN = 0.5  # of the scatter's square: what an affine map of the neighbours does not see of the anatomy
_LONELY = 3.0  # pitches of the lattice to the nearest pair, beyond which nothing is known
_POINTS = 2**14  # fitted together

_logger = logging.getLogger(__name__)


class Placed(NamedTuple):
    """Where points lie in the other scan, RAS+ millimetres, and the standard deviation of that."""

    points_mm: Float64[np.ndarray, "v 3"]
    spread_mm: Float64[np.ndarray, " v"]


class NoField(ValueError):
    """Too few matches of two scans agree with each other."""


@dataclass(frozen=True, eq=False)
class Field:
    """A map from one scan to another, for any number of points.

    A point's place is where the robust affine map of its `NEIGHBOURS` nearest kept pairs puts it.

    Attributes:
        source_mm, target_mm: the pairs that are kept, RAS+ millimetres.
        linear: the linear part of the affine map of all, which the local ones are drawn towards.
        pitch_mm: of the lattice whose points were matched.
        source_box_mm, target_box_mm: lowest and highest corner of the two prepared grids.
    """

    source_mm: Float64[np.ndarray, "m 3"]
    target_mm: Float64[np.ndarray, "m 3"]
    linear: Float64[np.ndarray, "3 3"]
    pitch_mm: float
    source_box_mm: Float64[np.ndarray, "2 3"]
    target_box_mm: Float64[np.ndarray, "2 3"]

    @classmethod
    def between(
        cls,
        source: Embedding | Index,
        target: Embedding | Index,
        *,
        lattice_mm: float = LATTICE_MM,
        search_mm: float = SEARCH_MM,
    ) -> "Field":
        """Match a lattice of each scan's body in the other, there and back, and keep what holds together.

        Seconds for the small network. It holds between two times of a patient and between patients, also where the
        scans overlap in part or are turned.

        Args:
            source, target: embeddings are averaged over neighbouring cells first; an `Index` should be made so.
            lattice_mm: from one matched point to the next; less in a small scan, which has `LEAST_POINTS` all the same.
            search_mm: lattice of the places that are looked at first, before the voxels around the best of them.

        Raises:
            NoField: fewer than `LEAST_PAIRS` matches agree with each other.
            ValueError: scans of different weights or level weights, or lengths that are not positive.
        """
        source, target = (one if isinstance(one, Index) else Index.of(one, average=True) for one in (source, target))
        both_compared(source, target)
        if lattice_mm <= 0 or search_mm <= 0:
            raise ValueError(f"lattice_mm and search_mm must be positive, got {lattice_mm} and {search_mm}")
        lattice_mm = min(pitch_of(one, lattice_mm, least=LEAST_POINTS) for one in (source, target))
        here, there = mutual_pairs(source, target, lattice_mm=lattice_mm, search_mm=search_mm)
        boxes = (_box_of(one.embedding) for one in (source, target))
        return cls.of_pairs(here, there, lattice_mm, *boxes)

    @classmethod
    def of_pairs(
        cls,
        source_mm: Float64[np.ndarray, "m 3"],
        target_mm: Float64[np.ndarray, "m 3"],
        pitch_mm: float,
        source_box_mm: Float64[np.ndarray, "2 3"],
        target_box_mm: Float64[np.ndarray, "2 3"],
    ) -> "Field":
        """Of pairs of which many may be wrong: those that agree with one transform, then each with its neighbours.

        Raises:
            NoField: too few agree.
        """
        _enough(np.ones(len(source_mm), bool), len(source_mm))
        within_mm = min(_WITHIN_MM, _WITHIN * float(np.ptp(source_mm, axis=0).max()))
        kept = agreeing(source_mm, target_mm, within_mm=within_mm)
        _enough(kept, len(source_mm))
        centre = source_mm[kept].mean(axis=0)
        overall = robust_affines(source_mm[None, kept], target_mm[None, kept], centre[None], stiffness=1.0)
        linear = overall.linear[0]
        off = np.linalg.norm((source_mm - centre) @ linear.T + overall.at[0] - target_mm, axis=1)
        here, there = source_mm[off <= _FAR * within_mm], target_mm[off <= _FAR * within_mm]
        for _ in range(_ROUNDS):
            off = np.linalg.norm(by_others(here, there, min(NEIGHBOURS, len(here) - 1), prior=linear) - there, axis=1)
            right = off <= max(_OFF_MM, _OFF_MEDIANS * float(np.median(off)))
            _enough(right, len(source_mm))
            here, there = here[right], there[right]
        _logger.info("field: %d of %d mutual matches hold each other", len(here), len(source_mm))
        return cls(here, there, linear, pitch_mm, source_box_mm, target_box_mm)

    def at(self, points_mm: Any) -> Placed:
        """Where points (v, 3) of the source lie in the target, both RAS+ millimetres; NaN stays NaN.

        The spread is of the matches around the map, larger where they are few or all on one side: a third of the
        places are farther off.
        """
        fits = self.maps(points_mm)
        return Placed(fits.at, self.spread_of(fits))

    def maps(self, points_mm: Any) -> Fits:
        """The affine map around each of the points (v, 3) of the source, RAS+ millimetres; NaN for NaN."""
        points = np.asarray(points_mm, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points must be (v, 3) millimetres, got shape {points.shape}; one point is [[x, y, z]]")
        maps = Fits(*(np.full((len(points), *shape), np.nan) for shape in ((3,), (3, 3), (), ())))
        known = np.flatnonzero(np.isfinite(points).all(axis=1))
        tree = cKDTree(self.source_mm)
        for some in np.array_split(known, max(1, -(-len(known) // _POINTS))):
            _, near = tree.query(points[some], k=min(NEIGHBOURS, len(self.source_mm)))
            fits = robust_affines(self.source_mm[near], self.target_mm[near], points[some], prior=self.linear)
            for values, value in zip(maps, fits, strict=True):
                values[some] = value
        return maps

    @staticmethod
    def spread_of(maps: Fits) -> Float64[np.ndarray, " v"]:
        """The standard deviation, in millimetres, of where the maps put their points."""
        return maps.scatter_mm * np.sqrt(_UNSEEN + maps.leverage)

    def supported(self, points_mm: Any) -> Bool[np.ndarray, " v"]:
        """Whether points (v, 3) of the source have a place in the target: matches near them, inside what it shows."""
        points = np.asarray(points_mm, dtype=np.float64)
        known = np.isfinite(points).all(axis=1)
        far = np.full(len(points), np.inf)
        far[known], _ = cKDTree(self.source_mm).query(points[known])
        low, high = self.target_box_mm
        with np.errstate(invalid="ignore"):
            places = self.at(points).points_mm
            return known & (far <= _LONELY * self.pitch_mm) & ((places >= low) & (places <= high)).all(axis=1)

    def inverse(self) -> "Field":
        """From the target to the source, by the same pairs.

        Between two phases of a patient there and back ends within a millimetre at half of the points.
        """
        return Field(
            self.target_mm,
            self.source_mm,
            np.linalg.inv(self.linear),
            self.pitch_mm,
            self.target_box_mm,
            self.source_box_mm,
        )


def _enough(kept: Bool[np.ndarray, " m"], pairs: int) -> None:
    if kept.sum() < LEAST_PAIRS:
        raise NoField(
            f"at least {LEAST_PAIRS} matches between the scans must agree with each other, {kept.sum()} of {pairs} do; "
            "do they show the same part of the body?"
        )


def _box_of(embedding: Embedding) -> Float64[np.ndarray, "2 3"]:
    return embedding.grid.to_mm([[-0.5] * 3, np.array(embedding.shape) - 0.5])
