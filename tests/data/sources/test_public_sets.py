"""The public data sets, from small trees in their layouts."""

import pickle
import shutil

import numpy as np
import pytest

from tests.data.sources import trees
from vox2vec.data.sources.dataset_json import dataset_json, msd
from vox2vec.data.sources.dicom_tree import dicom_tree
from vox2vec.data.sources.public_sets import amos, btcv, flare2022, lidc, midrc, nlst, nsclc
from vox2vec.reading.dicom import find_series


def _reasons(source):
    return {item.path.rpartition("/")[2]: item.reason for item in source.left_out}


@pytest.mark.parametrize("unpacked", [False, True])
def test_amos_is_its_500_cts_zipped_or_unpacked(unpacked, tmp_path):
    source = amos(trees.amos_tree(tmp_path, unpacked=unpacked))
    assert source.ids == ["0001", "0008", "0500"]
    for id in source.ids:
        scan = source.load(id)
        np.testing.assert_array_equal(scan.image, trees.image(int(id)))
        np.testing.assert_array_equal(scan.affine, trees.AFFINE)
    np.testing.assert_array_equal(source.labels("0008").image, trees.labels_of(trees.image(8)))
    assert source.labels("0500") is None
    assert source.label_names[13] == "duodenum"
    assert _reasons(source)["amos_0507.nii.gz"].startswith("MRI")


def test_amos_gives_its_unlabelled_cts_when_asked(tmp_path):
    trees.amos_tree(tmp_path)
    assert "unlabelled CT" in _reasons(amos(tmp_path))["amos_5000.nii.gz"]
    source = amos(tmp_path, unlabelled=True)
    assert source.ids == ["0001", "0008", "0500", "5000", "6200"]
    np.testing.assert_array_equal(source.load("6200").image, trees.image(6200))


def test_flare_is_the_unlabelled_ones_and_the_others_when_asked(tmp_path):
    trees.flare_tree(tmp_path)
    assert flare2022(tmp_path).ids == ["TU00001", "TU00002"]
    source = flare2022(tmp_path, labelled=True)
    assert source.ids == ["TL0003", "TU00001", "TU00002", "VU0004"]
    for id, seed in (("TU00001", 11), ("TU00002", 12), ("TL0003", 13), ("VU0004", 14)):
        np.testing.assert_array_equal(source.load(id).image, trees.image(seed))
    np.testing.assert_array_equal(source.labels("TL0003").image, trees.labels_of(trees.image(13)))
    assert source.labels("TU00001") is None


def test_btcv_has_labels_at_any_depth(tmp_path):
    source = btcv(trees.btcv_tree(tmp_path / "deeper" / "Abdomen").parents[0])
    assert source.ids == ["0001", "0002", "0061"]
    np.testing.assert_array_equal(source.labels("0002").image, trees.labels_of(trees.image(2)))
    assert source.label_names[9] == "inferior vena cava"


def test_a_second_file_of_one_name_is_reported_and_hides_no_labels(tmp_path):
    trees.btcv_tree(tmp_path)
    shutil.copytree(tmp_path / "RawData", tmp_path / "old copy" / "RawData")
    source = btcv(tmp_path)
    assert source.labels("0001") is not None
    assert sum("a second file of 0001" in item.reason for item in source.left_out) == 2


def test_nlst_is_the_longest_series_of_each_patient(tmp_path):
    for patient in ("100002", "100004"):
        folder = tmp_path / patient / "1.2.3" / "19990102"
        trees.series(folder / f"1.9.{patient}.1", f"1.9.{patient}.1", slices=4, PatientID=patient)
        longest = trees.series(folder / f"1.9.{patient}.2", f"1.9.{patient}.2", slices=6, PatientID=patient)
        trees.localizer(folder / f"1.9.{patient}.3", f"1.9.{patient}.3", PatientID=patient)
    source = nlst(tmp_path)
    assert source.ids == ["100002/1.9.100002.2", "100004/1.9.100004.2"]
    np.testing.assert_array_equal(source.load("100004/1.9.100004.2").image, longest)
    reasons = [item.reason for item in source.left_out]
    assert sum("longer series" in reason for reason in reasons) == 2
    assert sum("localizer" in reason for reason in reasons) == 2


def test_nsclc_leaves_out_the_segmentations_beside_its_cts(tmp_path):
    study = tmp_path / "NSCLC-Radiomics" / "LUNG1-001" / "1.2.3"
    volume = trees.series(study / "ct", "1.9.1", PatientID="LUNG1-001")
    trees.segmentation(study / "seg", "1.9.2", PatientID="LUNG1-001")
    source = nsclc(tmp_path)
    assert source.ids == ["LUNG1-001/1.9.1"]
    np.testing.assert_array_equal(source.load("LUNG1-001/1.9.1").image, volume)
    assert "modality is SEG" in source.left_out[0].reason


def test_midrc_leaves_out_scouts_and_single_slices(tmp_path):
    root = tmp_path / "MIDRC-RICORD-1A"
    trees.series(root / "p1" / "study" / "a", "1.9.1", PatientID="p1")
    trees.localizer(root / "p1" / "study" / "b", "1.9.2", PatientID="p1")
    trees.series(root / "p1" / "study" / "c", "1.9.3", slices=1, PatientID="p1")
    source = midrc(tmp_path)
    assert source.ids == ["p1/1.9.1"]
    assert sorted(item.reason.split(",")[0] for item in source.left_out) == [
        "it holds a single slice",
        "it is a localizer (scout)",
    ]


@pytest.mark.parametrize("above", ["", "LIDC-IDRI"])
def test_lidc_takes_every_ct_of_a_patient_and_no_x_ray(above, tmp_path):
    patient = tmp_path / above / "LIDC-IDRI-0001"
    for uid in ("1.9.1", "1.9.2"):
        trees.series(patient / "study" / uid, uid, PatientID="LIDC-IDRI-0001")
    trees.series(patient / "x-ray" / "1.9.3", "1.9.3", slices=1, Modality="DX", PatientID="LIDC-IDRI-0001")
    source = lidc(tmp_path)
    assert source.ids == ["LIDC-IDRI-0001/1.9.1", "LIDC-IDRI-0001/1.9.2"]
    assert "modality is DX" in source.left_out[0].reason


def _only_patients(folder):
    """Refuses to read the whole tree at once."""
    assert folder.name.startswith("p")
    return find_series(folder)


@pytest.mark.parametrize("above", ["", "NSCLC-Radiomics"])
def test_a_tree_shared_out_among_processes_is_the_same(above, tmp_path, monkeypatch):
    for patient in range(5):
        trees.series(tmp_path / above / f"p{patient}" / "s", f"1.9.{patient}", PatientID=f"p{patient}")
    alone = dicom_tree(tmp_path)
    monkeypatch.setattr("vox2vec.data.sources.dicom_tree.find_series", _only_patients)
    shared = dicom_tree(tmp_path, num_workers=2)
    assert alone.ids == shared.ids
    assert alone.identity("p3/1.9.3") == shared.identity("p3/1.9.3")


def test_series_of_few_slices_are_left_out_on_demand(tmp_path):
    trees.series(tmp_path / "a", "1.9.1", slices=5)
    trees.series(tmp_path / "b", "1.9.2", slices=3)
    source = dicom_tree(tmp_path, min_slices=4)
    assert source.ids == ["patient/1.9.1"]
    assert source.left_out[0].reason == "too few slices: 3, fewer than 4"


MSD_JSON = '{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "cancer"}, '
MSD_JSON += '"training": [{"image": "./imagesTr/liver_0.nii.gz", "label": "./labelsTr/liver_0.nii.gz"}], '
MSD_JSON += '"test": ["./imagesTs/liver_1.nii.gz"]}'
MSD_FILES = {
    "dataset.json": MSD_JSON.encode(),
    "imagesTr/liver_0.nii.gz": trees.nifti_bytes(trees.image(0)),
    "imagesTr/._liver_0.nii.gz": b"of macOS",
    "labelsTr/liver_0.nii.gz": trees.nifti_bytes(trees.labels_of(trees.image(0))),
    "imagesTs/liver_1.nii.gz": trees.nifti_bytes(trees.image(1)),
}


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_msd_is_read_from_a_folder_and_from_a_tar(form, tmp_path):
    if form == "folder":
        for name, data in MSD_FILES.items():
            trees.put(tmp_path / "Task03_Liver" / name, data)
    else:
        trees.tarred(tmp_path / "Task03_Liver.tar", {f"Task03_Liver/{n}": d for n, d in MSD_FILES.items()})
    source = msd(tmp_path, "Task03_Liver")
    assert source.ids == ["liver_0", "liver_1"]
    np.testing.assert_array_equal(source.load("liver_1").image, trees.image(1))
    np.testing.assert_array_equal(source.load("liver_0").affine, trees.AFFINE)
    np.testing.assert_array_equal(source.labels("liver_0").image, trees.labels_of(trees.image(0)))
    assert source.labels("liver_1") is None
    assert dict(source.label_names) == {1: "liver", 2: "cancer"}


def test_nnunets_new_form_is_read_by_names_and_channel(tmp_path):
    trees.put(tmp_path / "dataset.json", b'{"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1, "r": [1, 2]}, "file_ending": ".nii.gz"}')  # fmt: skip  # noqa: E501
    trees.put(tmp_path / "imagesTr" / "case_7_0000.nii.gz", trees.nifti_bytes(trees.image(7)))
    trees.put(tmp_path / "labelsTr" / "case_7.nii.gz", trees.nifti_bytes(trees.labels_of(trees.image(7))))
    source = dataset_json(tmp_path)
    assert source.ids == ["case_7"]
    np.testing.assert_array_equal(source.labels("case_7").image, trees.labels_of(trees.image(7)))
    assert dict(source.label_names) == {1: "a"}


def test_nnunets_list_of_cases_without_the_channel_finds_its_files(tmp_path):
    case = '{"image": "imagesTr/c.nii.gz", "label": "labelsTr/c.nii.gz"}'
    text = f'{{"modality": {{"0": "CT"}}, "labels": {{}}, "training": [{case}]}}'.encode()
    trees.put(tmp_path / "dataset.json", text)
    trees.put(tmp_path / "imagesTr" / "c_0000.nii.gz", trees.nifti_bytes(trees.image(7)))
    trees.put(tmp_path / "labelsTr" / "c.nii.gz", trees.nifti_bytes(trees.labels_of(trees.image(7))))
    source = dataset_json(tmp_path / "dataset.json")
    assert source.ids == ["c"]
    assert source.labels("c") is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"modality": {"0": "MRI"}}', "must describe CT of one channel, it says MRI"),
        ('{"modality": {"0": "CT", "1": "PET"}}', "must describe CT of one channel, it says CT, PET"),
        ("[1]", "must hold a mapping"),
        ("{", "must be JSON"),
        ('{"training": [{"image": "../../secret.nii.gz"}]}', "must list files of its own folder, got ../../secret"),
        ('{"training": [{"image": "imagesTr/a.nii.gz"}]}', "none of its 1 is there"),
    ],
)
def test_a_dataset_json_that_is_none_of_ct_is_refused(text, message, tmp_path):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        dataset_json(tmp_path)


@pytest.mark.parametrize(
    ("opened", "message"),
    [
        (amos, "no scan of AMOS in .*; expected: amos22.zip"),
        (flare2022, "no scan of FLARE2022 .*; expected: Training"),
        (btcv, "no scan of BTCV .*; expected: RawData"),
        (nlst, "NLST: no DICOM file below"),
    ],
)
def test_an_empty_folder_is_refused_with_what_is_expected(opened, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        opened(tmp_path)
    with pytest.raises(ValueError, match="must be a folder"):
        opened(tmp_path / "nowhere")


def test_a_broken_archive_is_left_out_by_name_and_the_rest_read(tmp_path):
    trees.flare_tree(tmp_path)
    whole = (tmp_path / "Training" / "Unlabel2.zip").read_bytes()
    (tmp_path / "Training" / "Unlabel3.zip").write_bytes(whole[:100])
    source = flare2022(tmp_path)
    assert source.ids == ["TU00001", "TU00002"]
    assert "truncated or corrupt archive" in _reasons(source)["Unlabel3.zip"]


def test_a_broken_member_is_refused_by_name(tmp_path):
    data = trees.nifti_bytes(trees.image(1))
    trees.zipped(tmp_path / "amos22.zip", {"amos22/imagesTr/amos_0001.nii.gz": data[: len(data) // 2]})
    with pytest.raises(ValueError, match=r"amos22\.zip:amos22/imagesTr/amos_0001\.nii\.gz is truncated or corrupt"):
        amos(tmp_path).load("0001")


def test_an_unknown_id_is_refused_with_examples(tmp_path):
    with pytest.raises(ValueError, match=r"BTCV has no scan '9'; it holds 3, such as \['0001'"):
        btcv(trees.btcv_tree(tmp_path)).load("9")


def test_sources_travel_to_other_processes_scan_by_scan(tmp_path):
    source = amos(trees.amos_tree(tmp_path))
    alone = pickle.loads(pickle.dumps(source.only("0001")))
    np.testing.assert_array_equal(alone.load("0001").image, trees.image(1))
    np.testing.assert_array_equal(alone.labels("0001").image, source.labels("0001").image)
    assert alone.identity("0001", labels=True) == source.identity("0001", labels=True)
    assert alone.ids == ["0001"]


def test_the_identity_changes_with_the_file_and_only_then(tmp_path):
    source = btcv(trees.btcv_tree(tmp_path))
    before = source.identity("0001"), source.identity("0001", labels=True), source.identity("0002")
    trees.put(tmp_path / "RawData/Training/label/label0001.nii.gz", trees.nifti_bytes(trees.image(3)))
    after = source.identity("0001"), source.identity("0001", labels=True), source.identity("0002")
    assert [b == a for b, a in zip(before, after, strict=True)] == [True, False, True]
