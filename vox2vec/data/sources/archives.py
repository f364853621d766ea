"""NIfTI files below a folder, those inside its zips and tars included."""

import tarfile
import zipfile
from pathlib import Path

from vox2vec.data.sources.source import LeftOut
from vox2vec.data.sources.stored import ArchivedNifti, PlainFile
from vox2vec.reading.files import files_below

NIFTI = (".nii", ".nii.gz")


def niftis_below(root: Path) -> tuple[list[tuple[str, PlainFile | ArchivedNifti]], list[LeftOut]]:
    """Each NIfTI with its path below `root` (an archive counts as a folder), unpacked first; and broken archives."""
    plain: list[tuple[str, PlainFile | ArchivedNifti]] = []
    archived: list[tuple[str, PlainFile | ArchivedNifti]] = []
    broken: list[LeftOut] = []
    for path in files_below(root):
        place = path.relative_to(root).as_posix()
        if path.name.lower().endswith(NIFTI):
            plain.append((place, PlainFile(path)))
        elif path.suffix.lower() in (".zip", ".tar"):
            try:
                archived += [(f"{place}/{file.member}", file) for file in niftis_in(path)]
            except ValueError as error:
                broken.append(LeftOut(str(path), str(error)))
    return plain + archived, broken


def niftis_in(archive: Path) -> list[ArchivedNifti]:
    """The NIfTI members of a zip or an uncompressed tar; a ValueError where it cannot be listed."""
    try:
        if archive.suffix.lower() == ".zip":
            with zipfile.ZipFile(archive) as listing:
                found = [ArchivedNifti(archive, i.filename, i.file_size) for i in listing.infolist() if not i.is_dir()]
        else:
            with tarfile.open(archive, "r:") as tar:
                found = [ArchivedNifti(archive, m.name, m.size, m.offset_data) for m in tar if m.isfile()]
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive} is a truncated or corrupt archive ({error}); download it again") from error
    return [file for file in found if _is_visible(file.member) and file.member.lower().endswith(NIFTI)]


def tar_member(archive: Path, name: str) -> bytes | None:
    """The bytes of the first file called `name`, in whichever folder of the tar; None where there is none."""
    with tarfile.open(archive, "r:") as tar:
        for member in tar:
            if member.name.rpartition("/")[2] == name and (file := tar.extractfile(member)) is not None:
                return file.read()
    return None


def _is_visible(member: str) -> bool:
    return not any(part.startswith((".", "__MACOSX")) and part != "." for part in member.split("/"))
