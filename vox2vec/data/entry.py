"""What a cache knows of a prepared CT without opening it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Entry:
    """One CT of a cache, as its entry.json says.

    Attributes:
        key: its folder.
        source, id, path: where it came from.
        shape: voxels of the prepared grid.
        affine: of that grid, voxel indices to RAS+ millimetres, as lists.
        settings: what it was prepared by.
        body_voxels: how many voxels are body.
        body_counts: the same for each block of the grid, in C order; see `cached_scan.BLOCK`.
        label_names: number (as text) to structure, where labels are stored.
        files: name to bytes and CRC-32.
        seconds: what each stage took.
    """

    key: str
    source: str
    id: str
    path: str
    shape: tuple[int, int, int]
    affine: Sequence[Sequence[float]]
    settings: Mapping[str, Any]
    body_voxels: int
    body_counts: Sequence[Any]
    label_names: Mapping[str, str]
    files: Mapping[str, list[int]]
    seconds: Mapping[str, float]

    @property
    def body_fraction(self) -> float:
        """Share of the grid that is body."""
        return self.body_voxels / float(np.prod(self.shape))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        x, y, z = self.settings["spacing_mm"]
        return (x, y, z)

    @property
    def num_bytes(self) -> int:
        return sum(size for size, _ in self.files.values())

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> "Entry":
        """From its entry.json; a ValueError where it is none."""
        values = json.loads(path.read_text(encoding="utf-8"))
        if set(values) != {field.name for field in fields(cls)}:
            raise ValueError(f"{path} must be an entry of a vox2vec cache, it has other fields; warm the cache anew")
        return cls(**{**values, "shape": tuple(values["shape"])})
