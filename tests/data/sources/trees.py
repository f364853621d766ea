"""Small trees in the layouts of the public data sets: real NIfTI, zips and DICOM."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np

from tests.reading.dicom_files import phantom, write_series

AFFINE = np.array([[-0.75, 0, 0, 40.0], [0, 0.5, 0, -30], [0, 0, 2.5, 7], [0, 0, 0, 1]])


def image(seed: int, shape: tuple[int, int, int] = (7, 6, 5)) -> np.ndarray:
    """HU in which no two voxels are alike, another for each seed."""
    return (np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape) - 100 - seed % 300).astype(np.int16)


def nifti_bytes(array: np.ndarray, affine: np.ndarray = AFFINE) -> bytes:
    """A .nii.gz."""

    return gzip.compress(nibabel.Nifti1Image(array, affine).to_bytes())


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def labels_of(array: np.ndarray) -> np.ndarray:
    return (array % 3).astype(np.uint8)


AMOS = {
    "imagesTr/amos_0001.nii.gz": 1,
    "imagesVa/amos_0008.nii.gz": 8,
    "imagesTs/amos_0500.nii.gz": 500,
    "imagesTr/amos_0507.nii.gz": 507,
}
AMOS_UNLABELLED = {
    "amos22_unlabeled_ct_5000_5399.zip": "amos_unlabeled_ct_5000_5399/amos_5000.nii.gz",
    "amos22_unlabeled_ct_6200_6899.zip": "amos22_unlabeled_6200_6899/amos_6200.nii.gz",
}


def amos_tree(root: Path, *, unpacked: bool = False) -> Path:
    """Scans 0001, 0008, 0500, the MRI 0507 and two unlabelled ones; labels of 0001 and 0008."""
    members = {name: nifti_bytes(image(number)) for name, number in AMOS.items()}
    members["labelsTr/amos_0001.nii.gz"] = nifti_bytes(labels_of(image(1)))
    members["labelsVa/amos_0008.nii.gz"] = nifti_bytes(labels_of(image(8)))
    if unpacked:
        for name, data in members.items():
            put(root / "amos22" / name, data)
    else:
        zipped(root / "amos22.zip", {f"amos22/{name}": data for name, data in members.items()})
        for archive, member in AMOS_UNLABELLED.items():
            zipped(root / archive, {member: nifti_bytes(image(int(member[-11:-7])))})
    (root / "labeled_data_meta_0000_0599.csv").write_text("amos_id\n")
    return root


def flare_tree(root: Path) -> Path:
    """TU00001, TU00002 in two zips, TL0001 with labels, VU0001 beside."""
    training = root / "Training"
    zipped(training / "Unlabel1.zip", {"Unlabel1/Case_00001_0000.nii.gz": nifti_bytes(image(11))})
    zipped(training / "Unlabel2.zip", {"Case_00002_0000.nii.gz": nifti_bytes(image(12))})
    zipped(training / "FLARE22_LabeledCase50" / "images.zip", {"FLARE22_Tr_0003_0000.nii.gz": nifti_bytes(image(13))})
    zipped(
        training / "FLARE22_LabeledCase50" / "labels.zip", {"FLARE22_Tr_0003.nii.gz": nifti_bytes(labels_of(image(13)))}
    )
    put(root / "Validation" / "FLARETs_0004_0000.nii.gz", nifti_bytes(image(14)))
    return root


def btcv_tree(root: Path) -> Path:
    """0001 and 0002 with labels, 0061 without."""
    for number in (1, 2):
        put(root / f"RawData/Training/img/img{number:04d}.nii.gz", nifti_bytes(image(number)))
        put(root / f"RawData/Training/label/label{number:04d}.nii.gz", nifti_bytes(labels_of(image(number))))
    put(root / "RawData/Testing/img/img0061.nii.gz", nifti_bytes(image(61)))
    return root


def series(folder: Path, uid: str, *, slices: int = 5, low: int = -1000, **tags: object) -> np.ndarray:
    """A DICOM series; returns what its volume (column, row, slice) holds."""
    stack = phantom(slices=slices, low=low)
    numbered = {"SeriesInstanceUID": uid, "StudyInstanceUID": uid + ".0", **tags}
    write_series(folder, stack, **numbered)
    return stack.transpose(2, 1, 0)


def localizer(folder: Path, uid: str, **tags: object) -> None:
    series(folder, uid, slices=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **tags)


def segmentation(folder: Path, uid: str, **tags: object) -> None:
    """A DICOM SEG beside the CTs, as in NSCLC-Radiomics."""
    series(folder, uid, slices=1, Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", **tags)
