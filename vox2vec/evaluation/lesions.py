"""Lesions of a scan found again in a later one: the two published scores, and how far off they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vox2vec.reading.points import Points

FAR_MM = 10.0
"""No lesion is found that lies farther off, however large it is."""


@dataclass(frozen=True, eq=False)
class Tracked:
    """How far from their true centres lesions were found.

    Attributes:
        names: of the lesions whose truth is known.
        off_mm: infinite where a lesion was not found.
        radius_mm: of each lesion, NaN where it is not known.

    Source: Cai et al., "Deep Lesion Tracker", CVPR 2021, and the evaluation published with it; Yan et al., "SAM:
    Self-supervised learning of pixel-wise anatomical embeddings", 2022.
    """

    names: Sequence[str]
    off_mm: Float64[np.ndarray, " v"]
    radius_mm: Float64[np.ndarray, " v"]

    @classmethod
    def of(cls, names: Sequence[str], found_mm: Float64[np.ndarray, "v 3"], truth: Points) -> "Tracked":
        """Of points by name, NaN where nothing was found; those without truth are left out.

        Raises:
            ValueError: two points of a list share a name, unless both lists name the same in the same order; or the
                lists have no name in common.
        """
        if list(names) == list(truth.names):
            at = np.arange(len(names))
        elif len(set(names)) < len(names) or len(set(truth.names)) < len(truth.names):
            raise ValueError("points and truth must have names of their own, or the same ones in the same order")
        else:
            places = {name: i for i, name in enumerate(truth.names)}
            at = np.array([places.get(name, -1) for name in names])
        known = at >= 0
        if not known.any():
            raise ValueError(
                f"points and truth must share names, got {', '.join(names[:3])} and {', '.join(truth.names[:3])}"
            )
        off_mm = np.linalg.norm(found_mm[known] - truth.points_mm[at[known]], axis=1)
        radius = np.full(len(truth.names), np.nan) if truth.radius_mm is None else truth.radius_mm
        told = [name for name, is_known in zip(names, known, strict=True) if is_known]
        return cls(told, np.nan_to_num(off_mm, nan=np.inf), radius[at[known]])

    @property
    def within_10_mm(self) -> float:
        """The share of lesions at most 10 mm off."""
        return float((self.off_mm <= FAR_MM).mean())

    @property
    def within_radius(self) -> float:
        """The share at most min(radius, 10 mm) off, of lesions whose radius is known; NaN where none is."""
        known = np.isfinite(self.radius_mm)
        if not known.any():
            return float("nan")
        return float((self.off_mm[known] <= np.minimum(self.radius_mm[known], FAR_MM)).mean())

    def __str__(self) -> str:
        """The scores and the mean and median distance as a line."""
        found = self.off_mm[np.isfinite(self.off_mm)]
        known = int(np.isfinite(self.radius_mm).sum())
        told = [f"{len(self.off_mm)} with truth: {self.within_10_mm:.1%} within 10 mm"]
        if known:
            some = "" if known == len(self.off_mm) else f" of the {known} whose radius is known"
            told.append(f"{self.within_radius:.1%} within min(radius, 10 mm){some}")
        if len(found):
            told.append(f"{found.mean():.1f} mm off on average, median {np.median(found):.1f}")
        if len(found) < len(self.off_mm):
            told.append(f"{len(self.off_mm) - len(found)} not found")
        return ", ".join(told)
