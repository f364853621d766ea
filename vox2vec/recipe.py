"""The paper's numbers for turning a CT into the network's input, as one value that travels with the weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How a scan is prepared before the network sees it.

    Two backbones with different recipes see different images of the same scan, so features of one recipe are never
    compared with those of another.

    Attributes:
        spacing_mm: voxel size of the prepared grid along right, anterior, superior.
        window_hu: HU that map to 0 and 1; values beyond are clipped.
        body_hu: voxels at least this dense are the body; the scan is cropped to their bounding box.
        patch_size: voxels of a training patch and of an inference window.

    Source: Goncharov et al., "vox2vec", MICCAI 2023 (arXiv 2307.14725), and its released code.
    """

    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 2.0)
    window_hu: tuple[float, float] = (-1350.0, 1000.0)
    body_hu: float = -500.0
    patch_size: tuple[int, int, int] = (128, 128, 32)

    def __post_init__(self) -> None:
        if len(self.spacing_mm) != 3 or not all(0 < s < float("inf") for s in self.spacing_mm):
            raise ValueError(f"spacing_mm must be three positive numbers of millimetres, got {self.spacing_mm}")
        if len(self.window_hu) != 2 or not self.window_hu[0] < self.window_hu[1]:
            raise ValueError(f"window_hu must be (low, high) with low < high, got {self.window_hu}")
        if len(self.patch_size) != 3 or not all(n >= 1 for n in self.patch_size):
            raise ValueError(f"patch_size must be three positive numbers of voxels, got {self.patch_size}")
        object.__setattr__(self, "spacing_mm", tuple(float(s) for s in self.spacing_mm))
        object.__setattr__(self, "window_hu", tuple(float(v) for v in self.window_hu))
        object.__setattr__(self, "body_hu", float(self.body_hu))
        object.__setattr__(self, "patch_size", tuple(int(n) for n in self.patch_size))

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Recipe":
        """Read a recipe written by `as_dict`; an unknown or missing field is a ValueError."""
        known = set(cls.__dataclass_fields__)
        if set(fields) != known:
            raise ValueError(f"a recipe has the fields {sorted(known)}, got {sorted(fields)}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)


PAPER = Recipe()
