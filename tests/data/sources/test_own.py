"""Anyone's own scans, however they lie on disk."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK

from tests.data.sources import trees
from vox2vec.data.sources.folder import csv_list, folder
from vox2vec.data.sources.own import own_data
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.data.sources.source import check_same_grid
from vox2vec.volume import Volume


@pytest.fixture
def mixed(tmp_path):
    """A folder of every kind of scan, labels beside one, a zip of NIfTI, a zip of DICOM, and things that are none."""
    trees.put(tmp_path / "a" / "one.nii.gz", trees.nifti_bytes(trees.image(1)))
    trees.put(tmp_path / "a" / "one_labels.nii.gz", trees.nifti_bytes(trees.labels_of(trees.image(1))))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(trees.image(2).T), str(tmp_path / "two.mha"))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(trees.image(3).T), str(tmp_path / "three.nrrd"))
    trees.series(tmp_path / "dicom", "1.9.1", PatientID="p")
    trees.localizer(tmp_path / "scout", "1.9.2", PatientID="p")
    trees.zipped(tmp_path / "more.zip", {"x/four.nii.gz": trees.nifti_bytes(trees.image(4)), "readme.txt": b"hi"})
    trees.series(tmp_path / "packed", "1.9.3", PatientID="q")
    slices = {f"s/{path.name}": path.read_bytes() for path in (tmp_path / "packed").iterdir()}
    for path in (tmp_path / "packed").iterdir():
        path.unlink()
    trees.zipped(tmp_path / "patient.zip", slices)
    trees.zipped(tmp_path / "papers.zip", {"paper.pdf": b"%PDF"})
    (tmp_path / "notes.txt").write_text("none")
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*the orientation is not stated")
def test_a_folder_gives_every_scan_whatever_its_format(mixed):
    source = own_data(mixed)
    assert source.ids == ["a/one", "more/x/four", "p/1.9.1", "patient", "three", "two"]
    for id, seed in (("a/one", 1), ("two", 2), ("three", 3), ("more/x/four", 4)):
        np.testing.assert_array_equal(source.load(id).image, trees.image(seed))
    np.testing.assert_array_equal(source.load("patient").image, source.load("p/1.9.1").image)
    np.testing.assert_array_equal(source.labels("a/one").image, trees.labels_of(trees.image(1)))
    reasons = {item.path.rpartition("/")[2]: item.reason for item in source.left_out}
    assert reasons["papers.zip"].startswith("no scan inside")
    assert "localizer" in reasons["scout (1.9.2)"]


def test_labels_of_another_folder_are_found_by_name(tmp_path):
    for seed in (1, 2):
        trees.put(tmp_path / "images" / f"s{seed}_0000.nii.gz", trees.nifti_bytes(trees.image(seed)))
    trees.put(tmp_path / "labels" / "s2.nii.gz", trees.nifti_bytes(trees.labels_of(trees.image(2))))
    source = folder(tmp_path / "images", labels=tmp_path / "labels")
    assert source.labels("s1_0000") is None
    np.testing.assert_array_equal(source.labels("s2_0000").image, trees.labels_of(trees.image(2)))
    (tmp_path / "labels" / "s2.nii.gz").rename(tmp_path / "labels" / "other.nii.gz")
    with pytest.raises(ValueError, match="labels must be named as their scans"):
        folder(tmp_path / "images", labels=tmp_path / "labels")


def test_a_csv_lists_files_and_dicom_folders_with_their_labels(tmp_path):
    trees.put(tmp_path / "one.nii.gz", trees.nifti_bytes(trees.image(1)))
    trees.put(tmp_path / "one_l.nii.gz", trees.nifti_bytes(trees.labels_of(trees.image(1))))
    stack = trees.series(tmp_path / "dicom", "1.9.1")
    rows = ["id,image,label", "first,one.nii.gz,one_l.nii.gz", "second,dicom,", "third,gone.nii.gz,"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    source = own_data(tmp_path / "list.csv")
    assert source.ids == ["first", "second"]
    np.testing.assert_array_equal(source.load("second").image, stack)
    np.testing.assert_array_equal(source.labels("first").image, trees.labels_of(trees.image(1)))
    assert source.left_out[0].reason == "listed in list.csv, not on disk"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\nx.nii.gz\n", 'must have a column "image"'),
        ("image\n", "a row for each scan"),
        ("id,image\na,{scan}\na,{scan}\n", "its own id, got 'a' twice"),
    ],
)
def test_a_csv_that_is_no_list_of_scans_is_refused(text, message, tmp_path):
    scan = trees.put(tmp_path / "one.nii.gz", trees.nifti_bytes(trees.image(1)))
    (tmp_path / "list.csv").write_text(text.replace("{scan}", str(scan)))
    with pytest.raises(ValueError, match=message):
        csv_list(tmp_path / "list.csv")


def test_one_file_is_a_data_set_of_one(tmp_path):
    source = own_data(trees.put(tmp_path / "one.nii.gz", trees.nifti_bytes(trees.image(1))))
    assert source.ids == ["one.nii.gz"]


def test_paths_without_scans_are_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        own_data(tmp_path / "gone")
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(ValueError, match="no scan in"):
        own_data(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ImagePositionPatient": None}, "do not state their place"),
        ({"Modality": "MR"}, "modality is MR"),
    ],
)
def test_series_that_are_no_ct_volume_are_left_out_with_the_reason(change, message, tmp_path):
    trees.series(tmp_path / "good", "1.9.1")
    trees.series(tmp_path / "bad", "1.9.2", **change)
    source = folder(tmp_path)
    assert source.ids == ["patient/1.9.1"]
    assert message in source.left_out[0].reason


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((7, 6, 5), 0.5, np.float32), "must be whole numbers"),
        (np.full((7, 6, 5), 70000, np.int32), "must be numbers of 0 to 32767"),
        (np.zeros((7, 6, 5, 2), np.uint8), "must have three axes"),
    ],
)
def test_labels_that_are_none_are_refused(labels, message, tmp_path):
    trees.put(tmp_path / "one.nii.gz", trees.nifti_bytes(trees.image(1)))
    trees.put(tmp_path / "one_seg.nii.gz", trees.nifti_bytes(labels))
    with pytest.raises(ValueError, match=message):
        folder(tmp_path).labels("one")


def test_truncated_labels_are_refused(tmp_path):
    trees.put(tmp_path / "one.nii.gz", trees.nifti_bytes(trees.image(1)))
    trees.put(tmp_path / "one_seg.nii.gz", trees.nifti_bytes(trees.labels_of(trees.image(1)))[:60])
    with pytest.raises(ValueError, match=r"one_seg\.nii\.gz is truncated or corrupt"):
        folder(tmp_path).labels("one")


def test_labels_of_any_stored_type_and_format_keep_their_numbers(tmp_path):
    wanted = trees.labels_of(trees.image(1)).astype(np.float64) * 100
    trees.put(tmp_path / "one.nii.gz", trees.nifti_bytes(trees.image(1)))
    (tmp_path / "one_seg.nii.gz").write_bytes(gzip.compress(nibabel.Nifti1Image(wanted, trees.AFFINE).to_bytes()))
    labels = folder(tmp_path).labels("one")
    np.testing.assert_array_equal(labels.image, wanted)
    assert labels.image.dtype == np.uint8
    (tmp_path / "one_seg.nii.gz").unlink()
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray((wanted * 10).astype(np.int32).T), str(tmp_path / "one_seg.nrrd"))
    np.testing.assert_array_equal(folder(tmp_path).labels("one").image, wanted * 10)


def test_labels_elsewhere_than_their_scan_are_refused():
    scan = Volume(trees.image(1), trees.AFFINE)
    same = check_same_grid(scan, Volume(trees.image(1), _moved(0.01)), name="a")
    np.testing.assert_array_equal(same.affine, scan.affine)
    with pytest.raises(ValueError, match=r"a: labels must lie on their scan's grid, .*, 40\.0 voxels apart"):
        check_same_grid(scan, Volume(trees.image(1), _moved(30.0)), name="a")
    with pytest.raises(ValueError, match="got shape"):
        check_same_grid(scan, Volume(trees.image(1)[:-1], trees.AFFINE), name="a")


def _moved(mm):
    affine = trees.AFFINE.copy()
    affine[0, 3] += mm
    return affine


def test_phantoms_are_a_labelled_data_set():
    source = Phantoms(2, spacing_mm=(8, 8, 10))
    assert source.ids == ["phantom_0000", "phantom_0001"]
    scan, labels = source.load("phantom_0001"), source.labels("phantom_0001")
    assert scan.shape == labels.shape
    assert set(np.unique(labels.image)) <= {0, *source.label_names}
    assert not np.array_equal(scan.image, source.load("phantom_0000").image)
    with pytest.raises(ValueError, match="there are 2 phantoms"):
        source.load("phantom_0002")
