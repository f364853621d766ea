"""Grids of every kind for property tests."""

import numpy as np
from hypothesis import strategies as st

from vox2vec.geometry import Box
from vox2vec.volume import Volume

AXIS_ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


def affines(*, oblique: bool) -> st.SearchStrategy[np.ndarray]:
    """Permuted, flipped, anisotropic affines with any origin; rotated and sheared ones too if `oblique`."""
    return st.builds(
        _affine,
        order=st.sampled_from(AXIS_ORDERS),
        signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
        spacing=st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 2.5, 5.0])] * 3),
        origin=st.tuples(*[st.integers(-200, 200)] * 3),
        angles=st.tuples(*[st.integers(-30, 30)] * 3) if oblique else st.just((0, 0, 0)),
        shear=st.floats(-0.3, 0.3) if oblique else st.just(0.0),
    )


def boxes(shape: tuple[int, int, int]) -> st.SearchStrategy[Box]:
    """Boxes with at least one voxel inside a grid of `shape`."""
    ends = [st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).map(sorted) for n in shape]
    return st.tuples(*ends).map(lambda e: Box(tuple(a for a, _ in e), tuple(b + 1 for _, b in e)))


def asymmetric(shape: tuple[int, int, int], affine: np.ndarray, dtype: type = np.int16) -> Volume:
    """An image in which no two voxels are alike."""
    return Volume(np.arange(np.prod(shape)).reshape(shape).astype(dtype), affine)


def ramp(shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
    """An image whose value is a linear function of the place in the patient: x + 10 y + 100 z, in mm."""
    grid = Volume(np.zeros(shape), affine)
    places = grid.to_mm(np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1))
    return Volume(places @ [1.0, 10.0, 100.0], affine)


def _affine(order, signs, spacing, origin, angles, shear) -> np.ndarray:
    linear = np.zeros((3, 3))
    for column, (row, sign, mm) in enumerate(zip(order, signs, spacing, strict=True)):
        linear[row, column] = sign * mm
    for axis, angle in enumerate(np.deg2rad(angles)):
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        linear = turn @ linear
    linear[:, 2] += shear * linear[:, 1]
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = origin
    return affine
