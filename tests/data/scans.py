"""Small sources and caches for tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vox2vec.data.cache import Cache
from vox2vec.data.sources.source import LeftOut
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

RECIPE = Recipe(spacing_mm=(2, 2, 3), patch_size=(16, 12, 8))


@dataclass(frozen=True)
class Made:
    """Scans given as volumes; `versions` stand for their files' times."""

    volumes: dict[str, Volume]
    label_volumes: dict[str, Volume] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    name: str = "made"
    left_out: Sequence[LeftOut] = ()
    label_names: dict[int, str] = field(default_factory=lambda: {1: "one", 2: "two"})

    @property
    def ids(self) -> Sequence[str]:
        return sorted(self.volumes)

    def load(self, id: str) -> Volume:
        return self.volumes[id]

    def labels(self, id: str) -> Volume | None:
        return self.label_volumes.get(id)

    def path(self, id: str) -> str:
        return f"made:{id}"

    def only(self, id: str) -> "Made":
        return self

    def identity(self, id: str, *, labels: bool = False) -> str:
        return f"{id} {self.versions.get(id, 0)}"


def body(seed: int, shape: tuple[int, int, int] = (40, 30, 20)) -> Volume:
    """An asymmetric body of many HU in air, on a flipped grid of 2x2x3 mm."""
    rng = np.random.default_rng(seed)
    image = np.full(shape, -1000, np.int16)
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    inside = ((x - shape[0] * 0.45) / (shape[0] * 0.4)) ** 2 + ((y - shape[1] * 0.55) / (shape[1] * 0.4)) ** 2 < 1
    inside = inside & (z > shape[2] // 8)
    image[inside] = rng.integers(-100, 300, shape)[inside]
    image[inside & (x < shape[0] * 0.35) & (y > shape[1] * 0.5)] = -850  # a lung
    return Volume(image, np.array([[-2.0, 0, 0, 30], [0, 2, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]]))


def labels_for(volume: Volume, *classes: int) -> Volume:
    """Stripes of the classes along x, where the body is dense."""
    stripes = np.array([0, *classes])[np.arange(volume.shape[0]) * (len(classes) + 1) // volume.shape[0]]
    dense = volume.image > -500
    return Volume((stripes[:, None, None] * dense).astype(np.uint8), volume.affine)


def stored(folder: Path, *volumes: Volume, recipe: Recipe = RECIPE) -> Cache:
    """A cache of the volumes, ids s0, s1, and so on."""
    cache = Cache(folder, recipe)
    source = Made({f"s{i}": volume for i, volume in enumerate(volumes)})
    for id in source.ids:
        cache.store(source, id)
    return cache
