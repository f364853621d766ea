"""The slices of a series in space: their order, whether they form one regular grid, and its affine."""

from collections.abc import Sequence

import numpy as np

from vox2vec.reading.dicom_header import Header
from vox2vec.reading.sitk_image import LPS_TO_RAS

_SAME_PLACE_MM = 0.01
_GAP_MM, _GAP_SHARE = 0.1, 0.05
_GRID_MM, _GRID_SHARE = 0.2, 0.1


def by_position(headers: Sequence[Header]) -> list[list[Header]]:
    """Slices along the normal of the first one's plane; those at one position share a list."""
    places = _depths_mm(headers)
    groups: list[list[Header]] = []
    last = -np.inf
    for index in np.argsort(places, kind="stable").tolist():
        if places[index] - last > _SAME_PLACE_MM:
            groups.append([])
            last = places[index]
        groups[-1].append(headers[index])
    return groups


def is_same_place(one: Header, other: Header) -> bool:
    """Whether two slices of one orientation lie over each other, not only at one depth."""
    apart = np.linalg.norm(np.diff(_positions([one, other]), axis=0))
    return bool(apart <= _SAME_PLACE_MM)


def check_alike(headers: Sequence[Header]) -> None:
    """A ValueError where the slices of one series cannot lie in one grid: sizes, directions, pixel sizes, patients."""
    _check_same(headers, "one size", [(h.rows, h.columns) for h in headers], 0.0)
    _check_same(headers, "one orientation", [h.orientation or () for h in headers], 1e-3)
    _check_same(headers, "one pixel spacing", [h.spacing_mm or () for h in headers], 1e-3)
    patients = sorted({h.patient_id for h in headers})
    if len(patients) > 1:
        raise ValueError(f"a series must be of one patient, got PatientID {', '.join(patients)}; keep one's files")


def check_regular(headers: Sequence[Header]) -> None:
    """A ValueError where ordered slices are not evenly spaced on a line, which names each gap and its place.

    Gaps may differ from the median by 0.1 mm or 5 %, whichever is more (positions are often rounded to 0.1 mm), and
    a slice may lie 0.2 mm or 10 % of a gap off its place in the even grid, so that small differences cannot add up.
    """
    gaps = np.diff(_depths_mm(headers))
    usual = float(np.median(gaps))
    (odd,) = np.nonzero(np.abs(gaps - usual) > max(_GAP_MM, _GAP_SHARE * usual) + 1e-3)
    if odd.size:
        raise ValueError(
            f"slices must be evenly spaced, got gaps of {usual:.2f} mm and {_gaps_in_words(headers, gaps, odd)}. "
            f"{_cause(gaps[odd], usual)}; export the series again, or convert the intact part with dcm2niix"
        )
    places = _positions(headers)
    grid = places[0] + np.outer(np.arange(len(places)), (places[-1] - places[0]) / (len(places) - 1))
    off = np.linalg.norm(places - grid, axis=1)
    worst = int(off.argmax())
    if off[worst] > max(_GRID_MM, _GRID_SHARE * usual) + 1e-3:
        raise ValueError(
            f"slices must lie evenly on a straight line, got one {off[worst]:.2f} mm off it at "
            f"{_place(headers[worst])}; export the series again, or resample it to an even grid first"
        )


def affine_of(headers: Sequence[Header]) -> np.ndarray:
    """Voxel (column, row, slice) to RAS millimetres, from the actual positions: a tilted gantry gives shear.

    Source: DICOM PS3.3, C.7.6.2.1.1.
    """
    first, last = headers[0], headers[-1]
    if first.orientation is None or first.spacing_mm is None:
        raise ValueError(f"{first.path} must state ImageOrientationPatient and PixelSpacing")
    if min(first.spacing_mm) <= 0:
        raise ValueError(
            f"{first.path}: PixelSpacing must be positive, got {first.spacing_mm}; export the series again"
        )
    along_row, along_column = _directions(first)
    between_rows_mm, between_columns_mm = first.spacing_mm
    places = _positions([first, last])
    affine = np.eye(4)
    affine[:3, 0] = along_row * between_columns_mm
    affine[:3, 1] = along_column * between_rows_mm
    affine[:3, 2] = (places[1] - places[0]) / (len(headers) - 1)
    affine[:3, 3] = places[0]
    return LPS_TO_RAS @ affine


def _directions(header: Header) -> tuple[np.ndarray, np.ndarray]:
    row, column = np.array(header.orientation).reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(row @ column)) > 0.01:
        raise ValueError(
            f"{header.path}: ImageOrientationPatient must be two perpendicular unit vectors, got {header.orientation}; "
            "the header is broken: export the series again"
        )
    return row / lengths[0], column / lengths[1]


def _depths_mm(headers: Sequence[Header]) -> np.ndarray:
    """Where each slice lies along the first one's normal."""
    normal = np.cross(*_directions(headers[0]))
    return np.asarray(_positions(headers) @ normal)


def _positions(headers: Sequence[Header]) -> np.ndarray:
    return np.array([header.position_mm for header in headers], dtype=np.float64)


def _check_same(
    headers: Sequence[Header], what: str, values: Sequence[tuple[float, ...] | tuple[int, ...]], tolerance: float
) -> None:
    table = np.array(values, dtype=np.float64)
    (odd,) = np.nonzero((np.abs(table - table[0]) > tolerance).any(axis=1))
    if odd.size:
        raise ValueError(
            f"all slices of a series must have {what}, got {_in_words(values[0])} and {_in_words(values[odd[0]])} "
            f"({odd.size} of {len(headers)} differ from the first, such as {headers[odd[0]].path}); "
            "keep the files of one volume in the folder"
        )


def _gaps_in_words(headers: Sequence[Header], gaps: np.ndarray, odd: np.ndarray) -> str:
    named = [f"{gaps[i]:.2f} mm between {_place(headers[i])} and {_place(headers[i + 1])}" for i in odd[:3].tolist()]
    more = f" and {odd.size - 3} more" if odd.size > 3 else ""
    return ", ".join(named) + more


def _cause(odd_mm: np.ndarray, usual_mm: float) -> str:
    missing = odd_mm / usual_mm - 1
    if (missing > 0.5).all() and (np.abs(missing - np.rint(missing)) < 0.1).all():
        number = int(np.rint(missing).sum())
        return f"{number} slice{' is' if number == 1 else 's are'} missing"
    return "slices are missing, or parts of different spacing stand in one series"


def _place(header: Header) -> str:
    return f"{header.path.name} at {_in_words(header.position_mm or ())} mm"


def _in_words(numbers: Sequence[float] | Sequence[int]) -> str:
    return "(" + ", ".join(f"{number:g}" for number in numbers) + ")"
