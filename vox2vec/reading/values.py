"""Stored numbers become Hounsfield units: scaled, finite, padding clipped, int16 where nothing is lost."""

import math
import warnings

import numpy as np
from jaxtyping import Shaped

from vox2vec.volume import Volume

AIR_HU = -1024
"""The lowest value a read scan holds; padding below it (-2000, -3024) is clipped to it."""

_INT16_MAX = 32767
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_SLAB = 2**20  # voxels scaled at a time


def hu_volume(
    stored: Shaped[np.ndarray, "..."],
    affine: Shaped[np.ndarray, "4 4"],
    *,
    slope: float = 1.0,
    intercept: float = 0.0,
    name: str,
) -> Volume:
    """The scan `stored * slope + intercept` of a file called `name` in messages; takes over the memory of `stored`.

    Trailing axes of length 1 are dropped. A ValueError where the array is no single-channel 3D scan, or its affine
    is broken; a UserWarning where its values cannot be HU.
    """
    if stored.dtype.names is not None or stored.dtype.kind not in "iufb":
        raise ValueError(f"{name}: a CT must hold one number a voxel, got {stored.dtype} (RGB or complex)")
    shape = stored.shape
    while stored.ndim > 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim > 3:
        raise ValueError(
            f"{name}: a scan must have three axes, got shape {shape} (several phases or channels); "
            "save the wanted one alone and load that"
        )
    if stored.ndim < 3 or 1 in stored.shape:
        raise ValueError(f"{name}: a scan must be a volume of several slices, got a single slice of shape {shape}")
    image = hounsfield(stored, slope=slope, intercept=intercept, name=name)
    try:
        volume = Volume(image, affine)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    warn_unless_hu(image, name=name)
    return volume


def hounsfield(
    stored: Shaped[np.ndarray, "*shape"], *, slope: float = 1.0, intercept: float = 0.0, name: str
) -> Shaped[np.ndarray, "*shape"]:
    """`stored * slope + intercept`, clipped below at -1024: int16 where all values are whole and fit, else float32.

    Native int16 that needs no scaling is clipped in place; otherwise the scaling goes slab by slab, so that no
    float64 copy of a scan arises. NaN and infinity are a ValueError.
    """
    if not (math.isfinite(slope) and math.isfinite(intercept) and slope != 0):
        raise ValueError(f"{name}: the scale to HU must be finite and not zero, got slope {slope}, offset {intercept}")
    source = stored.T if stored.flags.f_contiguous else stored  # so that slabs are contiguous
    if source.dtype == np.int16 and source.dtype.isnative and (slope, intercept) == (1, 0):
        out = source if source.flags.writeable else np.empty(source.shape, np.int16)
        np.maximum(source, np.int16(AIR_HU), out=out)
    else:
        out = _scaled(source, slope, intercept, name)
    return out.T if stored.flags.f_contiguous else out


def warn_unless_hu(image: Shaped[np.ndarray, "x y z"], *, name: str) -> None:
    """A UserWarning where the values of a scan cannot be Hounsfield units."""
    low, high = float(image.min()), float(image.max())
    if low >= 0 and high <= 1:
        found = "all values lie between 0 and 1 (a windowed or normalised image, or a mask)"
    elif low >= 0 and high <= 255 and image.dtype == np.int16:
        found = "all values are whole numbers between 0 and 255 (an 8-bit picture, or labels)"
    elif high > _INT16_MAX:
        found = f"values reach {high:g} (padding of signed pixels read as unsigned, or a wrong slope)"
    else:
        return
    warnings.warn(
        f"{name}: the values cannot be Hounsfield units, {found}. Load the original CT, or convert it back to HU "
        "(air -1000, water 0) before using it",
        UserWarning,
        stacklevel=2,
    )


def _scaled(source: np.ndarray, slope: float, intercept: float, name: str) -> np.ndarray:
    out = np.empty(source.shape, np.int16)
    rows = max(1, _SLAB // max(1, math.prod(source.shape[1:])))
    for start in range(0, len(source), rows):
        slab = slice(start, start + rows)
        values = _values(source[slab], slope, intercept)
        low, high = float(values.min()), float(values.max())  # NaN if there is one
        if not (low >= -_FLOAT32_MAX and high <= _FLOAT32_MAX):
            raise ValueError(
                f"{name}: a scan must hold finite HU, got NaN or infinity; replace them, by -1024 for missing air"
            )
        np.maximum(values, AIR_HU, out=values)
        if out.dtype == np.int16 and not (high <= _INT16_MAX and _is_whole(values)):
            out = out.astype(np.float32)
        out[slab] = values
    return out


def _values(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Scaled in integers where that is exact, else in float64; always a new array."""
    whole = float(slope).is_integer() and float(intercept).is_integer()
    if stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2 and whole and abs(slope) + abs(intercept) < 2**14:
        return np.asarray(stored.astype(np.int32) * np.int32(slope) + np.int32(intercept))
    return np.asarray(stored.astype(np.float64) * slope + intercept)


def _is_whole(values: np.ndarray) -> bool:
    return values.dtype.kind == "i" or bool((values == np.rint(values)).all())
