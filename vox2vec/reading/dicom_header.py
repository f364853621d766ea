"""What the header of one DICOM file says, read without its pixels."""

import math
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag

ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""SOP classes that hold a whole volume in one file: Enhanced CT, Legacy Converted Enhanced CT."""

_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_DICOMDIR = "1.2.840.10008.1.3.10"
_OVERLAY_BIT = 0x60000102
_UNCOMPRESSED = (
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"),  # implicit, explicit little endian
    *("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"),  # deflated, explicit big endian
)
_NAMES_OF_DICOM = (".dcm", ".dicom", ".ima")
_TAGS: list[str | int] = [
    *("SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Modality"),
    *("SeriesDescription", "ImageType", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", _OVERLAY_BIT),
]


@dataclass(frozen=True, slots=True)
class Header:
    """One image, or one other object (RTSTRUCT, SR...), of a series; None is what the file does not state.

    Attributes:
        position_mm: centre of the first pixel, in mm to the patient's left, posterior, superior.
        orientation: direction of a row (column index grows), then of a column (row index grows), same axes.
        spacing_mm: between rows, then between columns: DICOM's order.
        padding: stored values, lowest and highest, of pixels that hold nothing.
        is_plain: whether the pixels are 16-bit numbers as they come, neither compressed nor packed with an overlay.
    """

    path: Path
    series_uid: str
    study_uid: str
    patient_id: str
    sop_class: str
    modality: str
    description: str
    image_type: tuple[str, ...]
    rows: int
    columns: int
    samples: int
    frames: int
    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    slope: float | None
    intercept: float | None
    padding: tuple[int, int] | None
    bits_stored: int
    is_signed: bool
    is_plain: bool
    is_little_endian: bool

    @property
    def is_image(self) -> bool:
        return self.rows > 0 and self.columns > 0

    @property
    def is_int16(self) -> bool:
        """Whether stored values are read as signed: so that -2000 as padding in unsigned 12-bit pixels stays -2000."""
        return self.is_signed or self.bits_stored < 16

    @property
    def is_localizer(self) -> bool:
        return "LOCALIZER" in self.image_type

    @property
    def is_placed(self) -> bool:
        """Whether the pixels' places in the patient are stated."""
        return None not in (self.position_mm, self.orientation, self.spacing_mm)


def read_header(path: Path) -> Header | None:
    """The header of a DICOM file; None for other files and for a DICOMDIR.

    A ValueError for a file that must be DICOM, by its first bytes or its name, but is broken.
    """
    if not _starts_as_dicom(path):
        if is_dicom_file(path):
            raise ValueError(f"{path} is named like DICOM but is none, or was cut short; copy it again or remove it")
        return None
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[Tag(tag) for tag in _TAGS], force=True)
        if _text(dataset, "SOPClassUID") == _DICOMDIR or _meta(dataset, "MediaStorageSOPClassUID") == _DICOMDIR:
            return None
        header = _header(path, dataset)
    except Exception as error:  # whatever a corrupt file makes the parser stumble over
        raise ValueError(f"{path} has a broken DICOM header ({error}); copy it again or remove it") from error
    if not header.series_uid or (header.sop_class == _CT_IMAGE and not header.is_image):
        raise ValueError(
            f"{path} has an incomplete DICOM header (no SeriesInstanceUID or no Rows and Columns), it was probably "
            "cut short; copy it again or remove it"
        )
    return header


def is_dicom_file(path: Path) -> bool:
    """By its name, or by the mark DICM after a preamble, or, in old files, by an element of group 2 or 8 at once."""
    return path.suffix.lower() in _NAMES_OF_DICOM or _starts_as_dicom(path)


def _starts_as_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}); check its permissions") from error
    is_old = len(head) == 132 and head[:2] in (b"\x02\x00", b"\x08\x00") and head[2] <= 0x18 and head[3] == 0
    return head[128:] == b"DICM" or is_old


def _header(path: Path, dataset: Dataset) -> Header:
    sop_class = _text(dataset, "SOPClassUID")
    bits_stored = _whole(dataset, "BitsStored", default=16)
    is_signed = _whole(dataset, "PixelRepresentation", default=0) == 1
    is_packed = (
        _whole(dataset, "BitsAllocated", default=0) != 16
        or _whole(dataset, "HighBit", default=bits_stored - 1) != bits_stored - 1
        or _whole(dataset, _OVERLAY_BIT, default=0) != 0
    )
    return Header(
        path=path,
        series_uid=_text(dataset, "SeriesInstanceUID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        patient_id=_text(dataset, "PatientID"),
        sop_class=sop_class,
        modality=_text(dataset, "Modality").upper() or ("CT" if sop_class in (_CT_IMAGE, *ENHANCED_CT) else ""),
        description=_text(dataset, "SeriesDescription"),
        image_type=tuple(part.strip().upper() for part in _text(dataset, "ImageType").split("\\")),
        rows=_whole(dataset, "Rows", default=0),
        columns=_whole(dataset, "Columns", default=0),
        samples=_whole(dataset, "SamplesPerPixel", default=1),
        frames=int(_number(dataset, "NumberOfFrames") or 1),
        position_mm=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        spacing_mm=_numbers(dataset, "PixelSpacing", 2),
        slope=_number(dataset, "RescaleSlope"),
        intercept=_number(dataset, "RescaleIntercept"),
        padding=_padding(dataset, is_signed or bits_stored < 16),
        bits_stored=bits_stored,
        is_signed=is_signed,
        is_plain=_meta(dataset, "TransferSyntaxUID") in ("", *_UNCOMPRESSED) and not is_packed,
        is_little_endian=_is_little_endian(dataset),
    )


def _padding(dataset: Dataset, is_int16: bool) -> tuple[int, int] | None:
    if "PixelPaddingValue" not in dataset:
        return None
    value = _whole(dataset, "PixelPaddingValue", default=0)
    ends = [value, _whole(dataset, "PixelPaddingRangeLimit", default=value)]
    low, high = sorted(end - 2**16 if is_int16 and end >= 2**15 else end for end in ends)
    return (low, high)


def _meta(dataset: Dataset, keyword: str) -> str:
    return str(getattr(dataset.file_meta, keyword, ""))


def _is_little_endian(dataset: Dataset) -> bool:
    return dataset.original_encoding[1] is not False


# Values are taken from their bytes: pydicom's own conversion warns at each oddity of a header that matters to nobody.


def _bytes(dataset: Dataset, tag: str | int) -> bytes:
    if tag not in dataset:
        return b""
    value = dataset.get_item(tag).value
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else b""


def _text(dataset: Dataset, tag: str) -> str:
    raw = _bytes(dataset, tag)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.strip(" \0\r\n")


def _numbers(dataset: Dataset, tag: str, count: int) -> tuple[float, ...] | None:
    text = _text(dataset, tag)
    if not text:
        return None
    numbers = tuple(float(part) for part in text.split("\\"))
    if len(numbers) < count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{tag} must hold {count} finite numbers, got {text!r}")
    return numbers[:count]


def _number(dataset: Dataset, tag: str) -> float | None:
    numbers = _numbers(dataset, tag, 1)
    return None if numbers is None else numbers[0]


def _whole(dataset: Dataset, tag: str | int, *, default: int) -> int:
    raw = _bytes(dataset, tag)
    if len(raw) < 2:
        return default
    return int.from_bytes(raw[:2], "little" if _is_little_endian(dataset) else "big")
