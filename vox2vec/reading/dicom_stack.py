"""The slices of one series become a volume."""

import logging
from collections.abc import Sequence

import numpy as np

from vox2vec.reading.dicom_header import Header
from vox2vec.reading.dicom_pixels import slice_hu
from vox2vec.reading.dicom_slices import affine_of, by_position, check_alike, check_regular, is_same_place
from vox2vec.volume import Volume

_logger = logging.getLogger(__name__)


def stacked(headers: Sequence[Header], *, name: str) -> Volume:
    """The volume of slices in any order, in HU; identical copies are dropped with a logged warning.

    A ValueError where they do not form one regular grid, `name` is the series' in messages.
    """
    check_alike(headers)
    slices = _one_per_position(by_position(headers), name)
    if len(slices) == 1:
        raise ValueError("all files show one position, a volume needs several slices; load the whole series")
    check_regular(slices)
    return Volume(_pixels(slices), affine_of(slices))


def _one_per_position(groups: Sequence[Sequence[Header]], name: str) -> list[Header]:
    copies = 0
    for group in groups:
        if len(group) > 1:
            pixels = slice_hu(group[0])
            for other in group[1:]:
                if not is_same_place(group[0], other) or not np.array_equal(pixels, slice_hu(other)):
                    raise ValueError(_repeated(groups, group[0], other))
                copies += 1
    if copies:
        _logger.warning("%s: dropped %d identical copies of slices", name, copies)
    return [group[0] for group in groups]


def _repeated(groups: Sequence[Sequence[Header]], one: Header, other: Header) -> str:
    repeated = sum(len(group) > 1 for group in groups)
    pair = f"{one.path.name} and {other.path.name} at {one.position_mm} mm"
    if repeated > 1 and 2 * repeated >= len(groups):
        return (
            f"it holds several phases or reconstructions (4D) in one series, {repeated} of {len(groups)} positions "
            f"occur up to {max(map(len, groups))} times with different pixels, such as {pair}; put the files of one "
            "phase into a folder of their own (dcm2niix splits them)"
        )
    return f"a series must hold one slice a position, got different ones: {pair}; remove the wrong one"


def _pixels(slices: Sequence[Header]) -> np.ndarray:
    """(column, row, slice); int16 until a slice needs float32."""
    stack = np.empty((len(slices), slices[0].rows, slices[0].columns), np.int16)
    for index, header in enumerate(slices):
        hu = slice_hu(header)
        if stack.dtype != hu.dtype and stack.dtype == np.int16:
            stack = stack.astype(np.float32)
        stack[index] = hu
    return stack.transpose(2, 1, 0)
