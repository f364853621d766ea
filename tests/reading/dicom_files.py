"""Small DICOM series, written to order."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

AXIAL = (1, 0, 0, 0, 1, 0)
SERIES = "1.2.826.0.1.3680043.8.498.1"
ITK_COMPRESSORS = {JPEG2000Lossless: "JPEG2000", JPEGLosslessSV1: "JPEG"}


def slice_dataset(stored: np.ndarray, *, position: Any = (0, 0, 0), orientation: Any = AXIAL, **tags: Any) -> Dataset:
    """One CT slice of 16-bit stored values (row, column); `tags` override, None removes one."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    fields = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(),
        "SeriesInstanceUID": SERIES,
        "StudyInstanceUID": SERIES + ".0",
        "PatientID": "patient",
        "Modality": "CT",
        "SeriesDescription": "thorax",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ImagePositionPatient": [f"{x:.10g}" for x in position],
        "ImageOrientationPatient": [f"{x:.10g}" for x in orientation],
        "PixelSpacing": [2, 0.75],
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": tags.get("BitsStored", 16) - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
    }
    for keyword, value in {**fields, **tags}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if stored.ndim == 2:
        dataset.PixelData = np.ascontiguousarray(stored).tobytes()
        dataset["PixelData"].VR = "OW"
    return dataset


def write(path: Path, dataset: Dataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path, stack: np.ndarray, *, step: Any = (0, 0, 3), origin: Any = (0, 0, 0), **tags: Any
) -> list[Path]:
    """A slice for each `stack[k]`, at `origin + k * step` (LPS), under shuffled names so that these tell no order."""
    names = np.random.default_rng(len(stack)).permutation(len(stack))
    return [
        write(folder / f"{name:03d}.dcm", slice_dataset(stored, position=np.add(origin, np.multiply(k, step)), **tags))
        for k, (name, stored) in enumerate(zip(names, stack, strict=True))
    ]


def phantom(slices: int = 5, rows: int = 6, columns: int = 4, low: int = -1000) -> np.ndarray:
    """(slice, row, column) of HU in which no two voxels are alike."""
    return (np.arange(slices * rows * columns).reshape(slices, rows, columns) * 3 + low).astype(np.int16)


def change(path: Path, **tags: Any) -> None:
    """Set tags of a written file, None removes one."""
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


def compress(path: Path, syntax: str) -> None:
    """Re-encode a written file, losslessly, in place."""
    dataset = pydicom.dcmread(path)
    if syntax in (RLELossless, JPEGLSLossless):
        dataset.compress(syntax, generate_instance_uid=False)
    else:
        encoded = _encoded_by_itk(dataset.pixel_array, ITK_COMPRESSORS[syntax])
        dataset.file_meta.TransferSyntaxUID = encoded.file_meta.TransferSyntaxUID
        dataset.PixelData = encoded.PixelData
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    assert dataset.file_meta.TransferSyntaxUID == syntax
    dataset.save_as(path)


def _encoded_by_itk(pixels: np.ndarray, compressor: str) -> Dataset:
    with tempfile.TemporaryDirectory() as folder:
        writer = SimpleITK.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetUseCompression(True)
        writer.SetCompressor(compressor)
        writer.SetFileName(str(Path(folder, "slice.dcm")))
        writer.Execute(SimpleITK.GetImageFromArray(pixels[None]))
        return pydicom.dcmread(Path(folder, "slice.dcm"))
