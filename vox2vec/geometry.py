"""Boxes of voxels, and affines that take voxel indices to world millimetres."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num, Shaped


@dataclass(frozen=True)
class Box:
    """Voxels `start <= v < stop` of a grid."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    def __post_init__(self) -> None:
        if any(stop < start for start, stop in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"a box must not stop before it starts, got start {self.start} and stop {self.stop}")

    @classmethod
    def of(cls, mask: Shaped[np.ndarray, "x y z"]) -> "Box":
        """The smallest box that holds all true voxels of `mask`; a ValueError if there are none."""
        start, stop = [], []
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            (where,) = np.nonzero(mask.any(axis=others))
            if where.size == 0:
                raise ValueError("the mask must hold at least one voxel, got an empty one")
            start.append(int(where[0]))
            stop.append(int(where[-1]) + 1)
        return cls((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.stop[0] - self.start[0], self.stop[1] - self.start[1], self.stop[2] - self.start[2])

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """What to index an array with: `image[box.slices]`."""
        return (
            slice(self.start[0], self.stop[0]),
            slice(self.start[1], self.stop[1]),
            slice(self.start[2], self.stop[2]),
        )


def transformed(affine: Float[np.ndarray, "4 4"], points: Num[np.ndarray, "*v 3"]) -> Float[np.ndarray, "*v 3"]:
    """`affine` applied to each point: voxel indices to millimetres, or back with the inverse."""
    return points @ affine[:3, :3].T + affine[:3, 3]


def spacing_of(affine: Float[np.ndarray, "4 4"]) -> tuple[float, float, float]:
    """Millimetres between neighbouring voxels along each axis: the lengths of the affine's columns."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return (x, y, z)


def shifted(affine: Float[np.ndarray, "4 4"], start: Num[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    """The affine of a grid whose voxel 0 is voxel `start` (may be fractional) of the given one."""
    moved = affine.copy()
    moved[:3, 3] = transformed(affine, start)
    return moved
