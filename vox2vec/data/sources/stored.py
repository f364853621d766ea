"""Where a scan lies: a file, a file inside a zip or a tar, or the files of a DICOM series."""

import gzip
import io
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import nibabel
import numpy as np

from vox2vec.reading.dicom import DicomSeries, read_series
from vox2vec.reading.labels import label_volume, read_labels
from vox2vec.reading.load import load_volume
from vox2vec.reading.nifti import nifti_volume
from vox2vec.volume import Volume


@runtime_checkable
class ScanFile(Protocol):
    """A scan on disk. Its text is where it lies."""

    def image(self) -> Volume: ...
    def identity(self) -> str: ...


@runtime_checkable
class LabelFile(Protocol):
    """Labels on disk."""

    def labels(self) -> Volume: ...
    def identity(self) -> str: ...


@dataclass(frozen=True)
class PlainFile:
    """A file of any format that `load_volume` reads."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def image(self) -> Volume:
        return load_volume(self.path)

    def labels(self) -> Volume:
        return read_labels(self.path)

    def identity(self) -> str:
        return _stamp(self.path)


@dataclass(frozen=True)
class ArchivedNifti:
    """A .nii or .nii.gz inside an archive, read in place: nothing is unpacked.

    Attributes:
        offset: where the member's bytes start in a tar, which then are `size` many; None for a zip.
    """

    archive: Path
    member: str
    size: int
    offset: int | None = None

    def __str__(self) -> str:
        return f"{self.archive}:{self.member}"

    def image(self) -> Volume:
        return nifti_volume(self._nifti(), name=str(self))

    def labels(self) -> Volume:
        nifti = self._nifti()
        return label_volume(np.asanyarray(nifti.dataobj), nifti.affine, name=str(self))

    def identity(self) -> str:
        return f"{_stamp(self.archive)} {self.member} {self.size}"

    def _nifti(self) -> nibabel.Nifti1Image:
        try:
            data = self._bytes()
            if self.member.lower().endswith(".gz"):
                data = gzip.decompress(data)
            return nibabel.Nifti1Image.from_stream(io.BytesIO(data))
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, nibabel.filebasedimages.ImageFileError) as error:
            raise ValueError(f"{self} is truncated or corrupt ({error}); download the archive again") from error

    def _bytes(self) -> bytes:
        if self.offset is None:
            with zipfile.ZipFile(self.archive) as archive:
                return archive.read(self.member)
        with self.archive.open("rb") as tar:
            tar.seek(self.offset)
            return tar.read(self.size)


@dataclass(frozen=True)
class Series:
    """A DICOM series."""

    series: DicomSeries

    def __str__(self) -> str:
        return str(self.series.files[0].parent)

    def image(self) -> Volume:
        return read_series(self.series)

    def identity(self) -> str:
        return "\n".join([self.series.uid, *map(_stamp, self.series.files)])


@dataclass(frozen=True)
class ZippedSeries:
    """A zip whose files are one DICOM series; for reading it is unpacked to a temporary folder."""

    archive: Path

    def __str__(self) -> str:
        return str(self.archive)

    def image(self) -> Volume:
        try:
            with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(self.archive) as archive:
                archive.extractall(folder)  # which drops "..", drives and leading slashes from names
                return load_volume(folder)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{self} is truncated or corrupt ({error}); download it again") from error

    def identity(self) -> str:
        return _stamp(self.archive)


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
