"""The pixels of one DICOM slice, in Hounsfield units."""

import numpy as np
import pydicom
import SimpleITK
from jaxtyping import Bool, Shaped

from vox2vec.reading.dicom_header import Header
from vox2vec.reading.sitk_image import last_line
from vox2vec.reading.values import AIR_HU, hounsfield

_TISSUE_HU = (-1000.0, 3071.0)


def slice_hu(header: Header) -> Shaped[np.ndarray, "rows columns"]:
    """One slice in HU by its own RescaleSlope and RescaleIntercept: int16, or float32 where that would lose digits.

    Pixels of the PixelPaddingValue become -1024. A ValueError where pixels are missing, truncated or corrupt.
    """
    slope = header.slope or 1.0  # some converters write 0 for none
    intercept = header.intercept or 0.0
    padding = header.padding
    if header.is_plain:
        values = _plain_pixels(header)
        empty = _padded(values, padding, slope, intercept)
    else:
        values = _decoded_hu(header)
        ends = None if padding is None else sorted(end * slope + intercept for end in padding)
        empty = _padded(values, None if ends is None else (ends[0] - 1e-3, ends[1] + 1e-3), 1.0, 0.0)
        slope, intercept = 1.0, 0.0
    if empty is not None:  # before scaling, so that a padding of 63536 does not ask for a wider type
        values = np.where(empty, values.dtype.type(0), values)
    hu = hounsfield(values, slope=slope, intercept=intercept, name=str(header.path))
    if empty is not None:
        hu[empty] = AIR_HU
    return hu


def _plain_pixels(header: Header) -> Shaped[np.ndarray, "rows columns"]:
    """Stored values as they stand in the file, which keeps a padding that lies outside BitsStored."""
    try:
        dataset = pydicom.dcmread(header.path, specific_tags=["PixelData"], force=True)
        raw = dataset.get_item("PixelData").value if "PixelData" in dataset else b""
    except Exception as error:  # whatever a corrupt file makes the parser stumble over
        raise ValueError(f"{header.path} is corrupt ({error}); copy it again") from error
    size = header.rows * header.columns * 2
    if len(raw) < size:
        raise ValueError(
            f"{header.path} must hold {header.rows}x{header.columns} pixels in {size} bytes, got {len(raw)}: "
            "the file is truncated; copy it again"
        )
    order = "<" if header.is_little_endian else ">"
    kind = "i2" if header.is_int16 else "u2"
    stored = np.frombuffer(raw, order + kind, header.rows * header.columns).reshape(header.rows, header.columns)
    return _sign_extended(stored, header.bits_stored) if header.is_signed else stored


def _sign_extended(stored: np.ndarray, bits: int) -> np.ndarray:
    """Signed 12-bit values whose writer left the upper bits empty; those already negative stay."""
    if bits >= 16:
        return stored
    negative = (stored >= 2 ** (bits - 1)) & (stored < 2**bits)
    return np.where(negative, stored.astype(np.int32) - 2**bits, stored).astype(np.int16) if negative.any() else stored


def _decoded_hu(header: Header) -> Shaped[np.ndarray, "rows columns"]:
    """Compressed or packed pixels, which ITK scales to HU as well."""
    try:
        image = SimpleITK.ReadImage(str(header.path), imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise ValueError(
            f"{header.path} is truncated, corrupt, or of an encoding that cannot be read ({last_line(error)}); copy it "
            "again, or decompress it (dcmdjpeg, gdcmconv --raw)"
        ) from error
    pixels = np.asarray(SimpleITK.GetArrayFromImage(image))
    return pixels.reshape(header.rows, header.columns)


def _padded(
    values: np.ndarray, padding: tuple[float, float] | tuple[int, int] | None, slope: float, intercept: float
) -> Bool[np.ndarray, "rows columns"] | None:
    """Pixels that hold nothing.

    A padding value among those of tissue is believed only where it fills the corners: some converters rescale the
    pixels and keep the old tag, and water would become air.
    """
    if padding is None:
        return None
    low, high = padding
    empty = (values >= low) & (values <= high)
    hu = sorted((low * slope + intercept, high * slope + intercept))
    is_tissue = hu[1] > _TISSUE_HU[0] and hu[0] < _TISSUE_HU[1]
    if is_tissue and not empty[[0, 0, -1, -1], [0, -1, 0, -1]].all():
        return None
    return np.asarray(empty)
