"""What needs nothing but this library: the identity, correlation of patches, and our own ways, by the small network."""

import numpy as np

import vox2vec
from benchmarks.registration.answer import Answer, Displacement, places_of
from vox2vec.evaluation.finders import by_correlation, by_features, by_field
from vox2vec.inference.embed import Embedder
from vox2vec.matching.field import Field
from vox2vec.nn.pretrained import vox2vec_small
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

_CORRELATED_MM = 12.0  # half of the cube
_LATTICE_MM = 6.0  # on which the field is asked where millions of points are


def identity(fixed: Volume, moving: Volume, spacing_mm: float) -> Answer:
    """Every point stays where it is."""
    return Answer(np.copy, lambda: np.copy)


def correlation(fixed: Volume, moving: Volume, spacing_mm: float) -> Answer:
    """Cubes of 24 mm compared at every voxel of the network's grid; the best size of three on the lung pair."""
    find = by_correlation(vox2vec_small().recipe, _CORRELATED_MM)
    return Answer(lambda points: find(fixed, points, moving), None)


def alone(fixed: Volume, moving: Volume, spacing_mm: float) -> Answer:
    """The most similar vector to each point's own."""
    find = by_features(vox2vec_small())
    return Answer(lambda points: find(fixed, points, moving), None)


def match(fixed: Volume, moving: Volume, spacing_mm: float) -> Answer:
    """`vox2vec.match`."""
    find = by_field(vox2vec_small())
    return Answer(lambda points: find(fixed, points, moving), None)


def field(fixed: Volume, moving: Volume, spacing_mm: float) -> Answer:
    """`Field`; where it is asked densely, on a lattice of 6 mm and linear between."""
    embedder = Embedder(vox2vec_small(), progress=False)
    found = Field.between(embedder(fixed), embedder(moving))

    def dense() -> Displacement:
        lattice = prepare_hu(fixed, Recipe(spacing_mm=(_LATTICE_MM,) * 3))
        here = places_of(lattice)
        return Displacement(lattice, found.at(here.reshape(-1, 3)).points_mm.reshape(here.shape) - here)

    return Answer(lambda points: found.at(points).points_mm, dense)


def register(fixed: Volume, moving: Volume, spacing_mm: float) -> Answer:
    """`vox2vec.register`."""
    found = vox2vec.register(fixed, moving, vox2vec_small())
    return Answer(found.points, lambda: found.points)
