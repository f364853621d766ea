"""Real scans, read as SimpleITK and nibabel read them."""

import zipfile
from pathlib import PurePosixPath

import nibabel
import numpy as np
import pytest
import SimpleITK

from vox2vec.reading.load import load_volume


@pytest.fixture(scope="module")
def dicom_folder(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    with zipfile.ZipFile(shared / "data" / "dicom" / "CRLM-CT-1004.zip") as archive:
        for member in archive.infolist():
            if not member.is_dir():
                (folder / PurePosixPath(member.filename).name).write_bytes(archive.read(member))
    return folder


def test_a_dicom_series_is_read_as_itk_reads_it(dicom_folder, capfd):
    volume = load_volume(dicom_folder)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(dicom_folder)))
    itk = reader.Execute()
    expected = SimpleITK.GetArrayFromImage(itk).T
    assert expected.min() == -3024
    np.testing.assert_array_equal(volume.image, np.maximum(expected, -1024))
    _assert_same_places(volume, itk)
    assert volume.image.dtype == np.int16
    assert volume.axis_codes == "LPS"
    assert capfd.readouterr().err == ""


def test_one_file_of_a_real_series_gives_it_all(dicom_folder):
    volume = load_volume(sorted(dicom_folder.iterdir())[7])
    assert volume.shape == (512, 512, 41)
    assert volume.spacing_mm == pytest.approx((0.796875, 0.796875, 5))


@pytest.mark.parametrize("name", ["lung_baseline", "lung_followup"])
def test_a_metaimage_is_read_as_itk_reads_it(name, shared):
    path = shared / "data" / "pairs" / f"{name}.mha"
    volume = load_volume(path)
    itk = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(volume.image, np.maximum(SimpleITK.GetArrayFromImage(itk).T, -1024))
    _assert_same_places(volume, itk)


@pytest.mark.parametrize(
    "name", ["labelled/LIDC-IDRI-0001", "labelled/abdomen_3mm", "openkbp/labelled/pt_109", "train/C3L-00189"]
)
def test_a_nifti_is_read_as_nibabel_reads_it(name, shared):
    path = shared / "data" / f"{name}.nii.gz"
    volume = load_volume(path)
    expected = nibabel.load(path)
    np.testing.assert_array_equal(volume.image, np.maximum(np.asarray(expected.dataobj), -1024))
    np.testing.assert_array_equal(volume.affine, expected.affine)
    assert volume.image.dtype == np.int16


def _assert_same_places(volume, itk) -> None:
    for corner in [(0, 0, 0), tuple(n - 1 for n in volume.shape), (3, 0, 0), (0, 5, 0), (0, 0, 9)]:
        left, posterior, superior = itk.TransformIndexToPhysicalPoint(corner)
        np.testing.assert_allclose(volume.to_mm(corner), [-left, -posterior, superior], atol=1e-3)
