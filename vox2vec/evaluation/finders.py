"""Ways to find a scan's points in another scan: by a network's vectors, and by correlation of intensities."""

from collections.abc import Callable, Sequence

import numpy as np

from vox2vec.inference.embed import Embedder
from vox2vec.matching.alone import match_alone
from vox2vec.matching.correlation import correlate
from vox2vec.matching.index import Index
from vox2vec.matching.landmarks import match
from vox2vec.nn.fpn import FPN3d
from vox2vec.preprocessing.intensity import scale_hu
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

Finder = Callable[[Volume, np.ndarray, Volume], np.ndarray]
"""A scan in HU, points in it (v, 3) in mm, another scan: where they are found there, NaN where they are not."""


def by_features(backbone: FPN3d, weights: Sequence[float] | None = None) -> Finder:
    """The place of the most similar vector, each point by itself.

    Args:
        weights: of the levels, as of `Index.of`.
    """
    index = _indices(backbone, weights)
    return lambda scan, points, other: match_alone(index(scan), points, index(other)).points_mm


def by_field(backbone: FPN3d, *, settle: bool = True) -> Finder:
    """Where the field between the scans puts the points.

    Args:
        settle: moved to where the intensities correlate best nearby.
    """
    index = _indices(backbone)

    def find(scan: Volume, points: np.ndarray, other: Volume) -> np.ndarray:
        return match(index(scan), points, index(other), scans=(scan, other) if settle else None).points_mm

    return find


def _indices(backbone: FPN3d, weights: Sequence[float] | None = None) -> Callable[[Volume], Index]:
    """Of scans, each of which is embedded once, whichever side it is on."""
    embedder = Embedder(backbone, progress=False)
    indices: dict[int, tuple[Volume, Index]] = {}  # by identity; the scan is kept, so that no other takes its number

    def index(scan: Volume) -> Index:
        if id(scan) not in indices:
            indices[id(scan)] = scan, Index.of(embedder(scan), weights=weights, average=True)
        return indices[id(scan)][1]

    return index


def by_correlation(recipe: Recipe, radius_mm: float) -> Finder:
    """The voxel around which the intensities correlate most, on the recipe's grid."""

    def windowed(scan: Volume) -> Volume:
        prepared = prepare_hu(scan, recipe)
        return Volume(scale_hu(prepared.image, recipe.window_hu), prepared.affine)

    def find(scan: Volume, points: np.ndarray, other: Volume) -> np.ndarray:
        found, _ = correlate(windowed(scan), points, windowed(other), radius_mm=radius_mm)
        return found

    return find
