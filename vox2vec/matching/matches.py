"""Where points of a scan lie in another, with all that is known of it, and the file it is written to."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
from jaxtyping import Bool, Float64

from vox2vec.inference.embedding import Embedding
from vox2vec.reading.points import Points, System, write_points

MATCHED = "matched"
OUTSIDE, NO_VECTOR = "outside the scan", "outside the body"  # of the source
NO_COUNTERPART = "no counterpart"  # the other scan does not show the place


@dataclass(frozen=True, eq=False)
class Matches:
    """Where points of a source scan lie in a target scan.

    Attributes:
        points_mm: in the target, RAS+ millimetres; NaN where there is no match.
        score: cosine similarity, NaN where there is no match.
        back_mm: how far from the point one ends when the match is looked for in the source.
        mutual: whether that is within `mutual_mm`.
        outlier: whether what the point's own vector says and what the points around it say lie far apart.
        spread_mm: standard deviation of the place; NaN where it is not known.
        status: "matched"; "outside the scan" or "outside the body" of the source (air around it is no place); "no
            counterpart" where the target does not show the place.
    """

    points_mm: Float64[np.ndarray, "v 3"]
    score: Float64[np.ndarray, " v"]
    back_mm: Float64[np.ndarray, " v"]
    mutual: Bool[np.ndarray, " v"]
    outlier: Bool[np.ndarray, " v"]
    spread_mm: Float64[np.ndarray, " v"]
    status: Sequence[str]

    @property
    def found(self) -> Bool[np.ndarray, " v"]:
        """Which points are matched."""
        return np.array([status == MATCHED for status in self.status], dtype=bool)

    def save(self, path: str | PathLike[str], *, names: Sequence[str] | None = None, system: System = "RAS") -> None:
        """Write .csv, or 3D Slicer's .fcsv or .mrk.json, with score, mutual, back_mm, outlier, spread_mm and
        status.

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
            "spread_mm": [_told(value, 1) for value in self.spread_mm],
            "status": self.status,
        }
        write_points(Points(names, self.points_mm, system), path, columns=told)


def status_of(embedding: Embedding, points_mm: Float64[np.ndarray, "v 3"], known: Bool[np.ndarray, " v"]) -> list[str]:
    """Of points (v, 3) of the source: matched where they are `known`, else what is wrong with them."""
    voxels = np.floor(embedding.grid.to_voxels(points_mm) + 0.5)
    inside = np.asarray(((voxels >= 0) & (voxels < embedding.shape)).all(axis=1))
    return [MATCHED if has else NO_VECTOR if within else OUTSIDE for has, within in zip(known, inside, strict=True)]


def _told(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"
