"""Values of an image between its voxels: nearest or linear, along the axes or across them."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage
from torch import Tensor

_TOLERANCE = 1e-6  # voxels; a coordinate this far beyond the outer edge still counts as inside
_SLAB = 2**18  # voxels interpolated at a time


def resampled(
    image: Shaped[np.ndarray, "x y z"],
    matrix: Float[np.ndarray, "4 4"],
    shape: tuple[int, int, int],
    *,
    order: int,
    fill: float,
) -> Shaped[np.ndarray, "x2 y2 z2"]:
    """`image` read at the places `matrix @ (i, j, k, 1)` for every index of a grid of `shape`.

    A voxel fills its whole cell: places within half a voxel of the outermost centres take the nearest value, places
    beyond take `fill`. Order 0 keeps the dtype; order 1 gives float32 (float64 stays float64).
    """
    float_dtype = np.dtype(np.float64 if image.dtype == np.float64 else np.float32)
    out_dtype = image.dtype if order == 0 else float_dtype
    axes = _axis_of_each_axis(matrix)
    if axes is None:
        return _across_axes(image, matrix, shape, order=order, fill=fill, dtype=out_dtype)
    return _along_axes(image, matrix, shape, axes, order=order, fill=fill, dtype=out_dtype)


def _axis_of_each_axis(matrix: Float[np.ndarray, "4 4"]) -> tuple[int, ...] | None:
    """For each image axis the one grid axis that moves along it; None where an axis mixes several."""
    used = matrix[:3, :3] != 0
    if not (used.sum(axis=0) == 1).all() or not (used.sum(axis=1) == 1).all():
        return None
    return tuple(int(a) for a in used.argmax(axis=1))


def _along_axes(
    image: np.ndarray,
    matrix: np.ndarray,
    shape: tuple[int, int, int],
    axes: tuple[int, ...],
    *,
    order: int,
    fill: float,
    dtype: np.dtype,
) -> np.ndarray:
    """Grids whose axes are parallel (flipped, permuted, scaled): one axis after the other."""
    coordinates = [np.arange(shape[axes[a]]) * matrix[a, axes[a]] + matrix[a, 3] for a in range(3)]
    inside = [np.clip(c, 0, n - 1) for c, n in zip(coordinates, image.shape, strict=True)]
    values = _nearest(image, inside) if order == 0 else _linear(image, inside, dtype)
    for a in range(3):
        outside = ~_inside(coordinates[a], image.shape[a])
        if outside.any():
            values[(slice(None),) * a + (outside,)] = fill
    return np.ascontiguousarray(values.transpose(np.argsort(axes)))


def _nearest(image: np.ndarray, coordinates: list[np.ndarray]) -> np.ndarray:
    nearest = [np.floor(c + 0.5).astype(np.int64).clip(0, n - 1) for c, n in zip(coordinates, image.shape, strict=True)]
    return image[np.ix_(*nearest)]


def _linear(image: np.ndarray, coordinates: list[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """Slab by slab along the axis that is outermost in memory, so that each slab stays in the processor's cache."""
    outermost_first = sorted(range(3), key=lambda a: -abs(image.strides[a]))
    source = image.transpose(outermost_first)
    first, *others = (coordinates[a] for a in outermost_first)
    out = np.empty([len(first), *(len(c) for c in others)], dtype)
    step = max(1, _SLAB // (source.shape[1] * source.shape[2]))
    for start in range(0, len(first), step):
        places = first[start : start + step]
        low, high = int(places.min()), int(places.max()) + 2
        slab = torch.from_numpy(np.array(source[low:high], dtype, order="C"))
        slab = _linear_along(slab, 0, places - low)
        for axis in (1, 2):
            slab = _linear_along(slab, axis, others[axis - 1])
        out[start : start + step] = slab.numpy()
    return out.transpose(np.argsort(outermost_first))


def _linear_along(values: Tensor, axis: int, coordinates: Float[np.ndarray, " n"]) -> Tensor:
    """Linear interpolation of one axis at fractional positions inside the image."""
    low = np.floor(coordinates).astype(np.int64)
    fraction = coordinates - low
    size = values.shape[axis]
    whole = np.array_equal(low, np.arange(size))
    lower = values if whole else values.index_select(axis, torch.from_numpy(low))
    if not fraction.any():
        return lower
    upper = values.index_select(axis, torch.from_numpy((low + 1).clip(max=size - 1)))
    weight = torch.from_numpy(fraction).to(values.dtype).reshape([-1 if a == axis else 1 for a in range(3)])
    return torch.lerp(lower, upper, weight, out=upper)


def _across_axes(
    image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int, int], *, order: int, fill: float, dtype: np.dtype
) -> np.ndarray:
    """Oblique or sheared grids, by scipy, with the voxel cells' own notion of outside."""
    out = np.empty(shape, dtype)
    ndimage.affine_transform(
        image, matrix[:3, :3], matrix[:3, 3], output_shape=shape, output=out, order=order, mode="nearest"
    )
    index = [np.arange(n, dtype=np.float64) for n in shape]
    for i in range(shape[0]):
        inside: Bool[np.ndarray, "y z"] = np.ones(shape[1:], bool)
        for a in range(3):
            in_plane = matrix[a, 1] * index[1][:, None] + matrix[a, 2] * index[2][None, :]
            inside &= _inside(matrix[a, 0] * i + matrix[a, 3] + in_plane, image.shape[a])
        out[i][~inside] = fill
    return out


def _inside(coordinates: np.ndarray, size: int) -> np.ndarray:
    return (coordinates >= -0.5 - _TOLERANCE) & (coordinates <= size - 0.5 + _TOLERANCE)
