"""Values of an image between its voxels: nearest or linear, along the axes or across them."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage
from torch import Tensor

_TOLERANCE = 1e-6  # voxels; a coordinate this far beyond the outer edge still counts as inside


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
    if order == 0:
        out_dtype = image.dtype
    else:
        out_dtype = np.dtype(np.float64 if image.dtype == np.float64 else np.float32)
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
    """Grids whose axes are parallel (flipped, permuted, scaled): one axis after the other, the shrinking ones first."""
    coordinates = [np.arange(shape[axes[a]]) * matrix[a, axes[a]] + matrix[a, 3] for a in range(3)]
    inside = [_inside(c, n) for c, n in zip(coordinates, image.shape, strict=True)]
    values = torch.from_numpy(_native(image))
    if order == 1:
        values = values.to(torch.float64 if dtype == np.float64 else torch.float32)
    for a in sorted(range(3), key=lambda a: shape[axes[a]] / image.shape[a]):
        values = _along_axis(values, a, np.clip(coordinates[a], 0, image.shape[a] - 1), order)
    out = values.numpy()
    for a in range(3):
        if not inside[a].all():
            if not out.flags.writeable or np.shares_memory(out, image):
                out = out.copy()
            out[(slice(None),) * a + (~inside[a],)] = fill
    out = out.transpose(np.argsort(axes))
    if np.shares_memory(out, image):
        out = out.copy()
    return np.ascontiguousarray(out, dtype=dtype)


def _along_axis(values: Tensor, axis: int, coordinates: Float[np.ndarray, " n"], order: int) -> Tensor:
    """Linear (or nearest) interpolation of one axis at fractional positions inside the image."""
    if order == 0:
        low = torch.from_numpy(np.floor(coordinates + 0.5).astype(np.int64).clip(0, values.shape[axis] - 1))
        weight = None
    else:
        floor = np.floor(coordinates)
        low = torch.from_numpy(floor.astype(np.int64))
        fraction = coordinates - floor
        weight = torch.from_numpy(fraction).to(values.dtype) if fraction.any() else None
    lower = values if _is_identity(low, values.shape[axis]) else values.index_select(axis, low)
    if weight is None:
        return lower
    upper = values.index_select(axis, (low + 1).clamp_(max=values.shape[axis] - 1))
    broadcast = [1, 1, 1]
    broadcast[axis] = -1
    return torch.lerp(lower, upper, weight.reshape(broadcast), out=upper)


def _is_identity(index: Tensor, size: int) -> bool:
    return len(index) == size and bool((index == torch.arange(size)).all())


def _across_axes(
    image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int, int], *, order: int, fill: float, dtype: np.dtype
) -> np.ndarray:
    """Oblique or sheared grids, by scipy, with the voxel cells' own notion of outside."""
    out = np.empty(shape, dtype)
    ndimage.affine_transform(
        _native(image), matrix[:3, :3], matrix[:3, 3], output_shape=shape, output=out, order=order, mode="nearest"
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


def _native(image: np.ndarray) -> np.ndarray:
    """The image in the machine's byte order, in a type torch and scipy both read."""
    if image.dtype == np.uint16:
        return image.astype(np.int32)
    if image.dtype == np.uint32 or image.dtype == np.uint64:
        return image.astype(np.int64)
    if image.dtype == np.float16:
        return image.astype(np.float32)
    return np.array(image, dtype=image.dtype.newbyteorder("="), copy=not image.flags.writeable, order="K") if (
        not image.dtype.isnative or not image.flags.writeable or any(s < 0 for s in image.strides)
    ) else image
