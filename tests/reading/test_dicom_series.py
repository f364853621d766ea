"""Which series of a folder is read, and which folders are refused by name."""

import logging
import re
import shutil

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    JPEG2000Lossless,
    MRImageStorage,
    RLELossless,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
)

from tests.reading.dicom_files import SERIES, change, compress, phantom, slice_dataset, write, write_series
from vox2vec.reading.dicom import DicomSeries, find_series, read_series
from vox2vec.reading.load import load_volume

OTHER = SERIES + ".77"
LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def refusal(path, **options) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        load_volume(path, **options)
    return str(caught.value)


def write_struct(path, **tags) -> None:
    tags = {"SOPClassUID": RTStructureSetStorage, "Modality": "RTSTRUCT", "SeriesInstanceUID": OTHER, **tags}
    dataset = slice_dataset(phantom(1)[0], **tags)
    for keyword in ("PixelData", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(dataset, keyword)
    write(path, dataset)


@pytest.mark.parametrize("missing", [[4], [4, 5], [2, 7]])
def test_missing_slices_are_named_by_gap_and_place(missing, tmp_path):
    files = write_series(tmp_path, phantom(10, 4, 4), step=(0, 0, 5))
    for k in missing:
        files[k].unlink()
    message = refusal(tmp_path)
    assert "slices must be evenly spaced, got gaps of 5.00 mm" in message
    gap = 5 * (len(missing) + 1) if missing == [4, 5] else 10
    k = missing[0]
    assert f"{gap:.2f} mm between {files[k - 1].name} at (0, 0, {5 * k - 5}) mm" in message
    assert f"{len(missing)} slice" in message
    assert "missing" in message


def test_two_spacings_in_one_series_are_refused(tmp_path):
    for k, z in enumerate([0, 5, 10, 15, 17.5, 20]):
        write(tmp_path / f"{k}", slice_dataset(phantom(1)[0], position=(0, 0, z)))
    assert "2.50 mm between 3 at (0, 0, 15) mm and 4 at (0, 0, 17.5) mm" in refusal(tmp_path)


def test_small_differences_of_gaps_may_not_add_up(tmp_path):
    for k, z in enumerate(np.cumsum([5.0] * 20 + [5.2] * 20)):
        write(tmp_path / f"{k}", slice_dataset(phantom(1)[0], position=(0, 0, z)))
    assert "evenly on a straight line, got one 1.95 mm off it at 19 at (0, 0, 100) mm" in refusal(tmp_path)


def test_a_slice_moved_sideways_is_refused(tmp_path):
    files = write_series(tmp_path, phantom())
    change(files[2], ImagePositionPatient=[3, 0, 6])
    assert "evenly on a straight line, got one 3.00 mm off it" in refusal(tmp_path)


def test_two_series_are_listed_with_the_way_to_pick_one(tmp_path):
    first, second = phantom(4), phantom(6)
    files = write_series(tmp_path / "a", first, SeriesDescription="soft tissue")
    write_series(tmp_path / "b", second, SeriesDescription="lung", SeriesInstanceUID=OTHER)
    message = refusal(tmp_path)
    assert "must hold one CT series, got 2; pick one by series=UID (--series UID), or pass one file of it" in message
    assert f"{SERIES} (soft tissue, CT, 4 files)" in message
    assert f"{OTHER} (lung, CT, 6 files)" in message
    np.testing.assert_array_equal(load_volume(tmp_path, series=OTHER).image, second.transpose(2, 1, 0))
    np.testing.assert_array_equal(load_volume(files[2]).image, first.transpose(2, 1, 0))
    assert "series must be the SeriesInstanceUID of one in" in refusal(tmp_path, series="1.2.3")
    assert f"belongs to series {SERIES}, not to {OTHER}" in refusal(files[2], series=OTHER)


def test_one_file_stands_for_its_series_in_its_folder_with_or_without_extension(tmp_path):
    stack = phantom(4)
    for k, path in enumerate(write_series(tmp_path, stack)):
        path.rename(tmp_path / f"IM{k}")
    write_series(tmp_path, phantom(3), SeriesInstanceUID=OTHER)
    np.testing.assert_array_equal(load_volume(str(tmp_path / "IM2")).image, stack.transpose(2, 1, 0))


def test_localizers_and_other_objects_beside_a_series_are_left_out_with_a_log_message(tmp_path, caplog):
    stack = phantom()
    write_series(tmp_path / "ct", stack)
    write(tmp_path / "scout", slice_dataset(phantom(1)[0], ImageType=LOCALIZER, SeriesInstanceUID=OTHER))
    # One in the series itself, seen from the side.
    side = slice_dataset(phantom(1, 9, 9)[0], ImageType=LOCALIZER, orientation=(0, 1, 0, 0, 0, -1))
    write(tmp_path / "ct" / "side", side)
    write_struct(tmp_path / "struct", SeriesInstanceUID=OTHER + ".1")
    write(tmp_path / "mr", slice_dataset(phantom(1)[0], Modality="MR", SeriesInstanceUID=OTHER + ".2"))
    with caplog.at_level(logging.INFO):
        np.testing.assert_array_equal(load_volume(tmp_path).image, stack.transpose(2, 1, 0))
    assert f"left out series {OTHER} (thorax, CT, 1 file): it is a localizer" in caplog.text
    assert f"series {SERIES}: left out 1 localizers" in caplog.text
    assert "its modality is RTSTRUCT" in caplog.text


def test_files_that_are_no_dicom_are_passed_over(tmp_path):
    stack = phantom()
    write_series(tmp_path / "deep" / "deeper", stack)
    (tmp_path / "deep" / "deeper" / "notes.txt").write_text("hello")
    (tmp_path / "deep" / "deeper" / "._000.dcm").write_bytes(b"\0\5\x16\7")
    (tmp_path / "empty").touch()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    dicomdir = slice_dataset(phantom(1)[0], SOPClassUID="1.2.840.10008.1.3.10", SeriesInstanceUID=None)
    write(tmp_path / "DICOMDIR", dicomdir)
    np.testing.assert_array_equal(load_volume(tmp_path).image, stack.transpose(2, 1, 0))
    assert "it is a DICOMDIR; load its folder" in refusal(tmp_path / "DICOMDIR")


def test_identical_copies_of_slices_are_dropped_with_a_warning(tmp_path, caplog):
    stack = phantom()
    files = write_series(tmp_path, stack)
    shutil.copytree(tmp_path, tmp_path / "again")
    files[0].unlink()
    np.testing.assert_array_equal(load_volume(tmp_path).image, stack.transpose(2, 1, 0))
    assert "dropped 4 identical copies of slices" in caplog.text


def test_different_slices_at_one_position_are_refused(tmp_path):
    files = write_series(tmp_path, phantom())
    other = write(tmp_path / "other", slice_dataset(phantom(1)[0] + np.int16(7), position=(0, 0, 6)))
    message = refusal(tmp_path)
    assert "must hold one slice a position, got different ones" in message
    assert files[2].name in message
    assert other.name in message


def test_several_phases_in_one_series_are_refused_by_name(tmp_path):
    write_series(tmp_path / "a", phantom())
    write_series(tmp_path / "b", phantom() + np.int16(20))
    write_series(tmp_path / "c", phantom() + np.int16(40))
    message = refusal(tmp_path)
    assert "several phases or reconstructions (4D) in one series, 5 of 5 positions occur up to 3 times" in message


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"ImageType": LOCALIZER}, "it is a localizer (scout), not a volume"),
        ({"Modality": "MR", "SOPClassUID": MRImageStorage}, "its modality is MR, only CT is read"),
        ({"Modality": ""}, None),
        (
            {"SOPClassUID": EnhancedCTImageStorage},
            "enhanced (multi-frame) DICOM, which is not read; convert it with dcm2",
        ),
        ({"NumberOfFrames": 7}, "enhanced (multi-frame) DICOM"),
        ({"SamplesPerPixel": 3}, "colour (RGB) pictures"),
        ({"ImagePositionPatient": None}, "3 of 3 files, such as"),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "PixelSpacing": None}, "do not state their place"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "two perpendicular unit vectors, got (1.0, 0.0, 0.0, 1.0"),
        ({"PixelSpacing": [0, 1]}, "PixelSpacing must be positive, got (0.0, 1.0)"),
        ({"PixelSpacing": [-1, 1]}, "PixelSpacing must be positive"),
        ({"SOPClassUID": CTImageStorage, "Rows": None}, "incomplete DICOM header"),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "Rows": None}, "it holds no image"),
    ],
)
def test_series_that_are_no_ct_volume_are_refused_by_name(tags, message, tmp_path):
    for path in write_series(tmp_path, phantom(3)):
        change(path, **tags)
    if message is None:
        assert load_volume(tmp_path).shape == (4, 6, 3)
    else:
        assert message in refusal(sorted(tmp_path.iterdir())[0] if "incomplete" in message else tmp_path)


def test_objects_without_an_image_are_refused(tmp_path):
    write_struct(tmp_path / "struct.dcm")
    assert "its modality is RTSTRUCT, only CT is read" in refusal(tmp_path)
    assert "its modality is RTSTRUCT" in refusal(tmp_path / "struct.dcm")
    write(tmp_path / "scout", slice_dataset(phantom(1)[0], ImageType=LOCALIZER))
    message = refusal(tmp_path)
    assert "must hold a CT volume, but none of its 2 series is one" in message
    assert "it is a localizer" in message


def test_a_single_slice_is_refused(tmp_path):
    path = write(tmp_path / "one.dcm", slice_dataset(phantom(1)[0]))
    assert "it holds a single slice, a volume needs several" in refusal(path)
    shutil.copy(path, tmp_path / "two.dcm")
    assert "all files show one position" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (
            {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
            "must have one orientation, got (1, 0, 0, 0, 1, 0) and (0, 1",
        ),
        ({"PixelSpacing": [2, 0.8]}, "must have one pixel spacing, got (2, 0.75) and (2, 0.8)"),
        ({"Rows": 4, "Columns": 6}, "must have one size, got (6, 4) and (4, 6)"),
        ({"PatientID": "another"}, "must be of one patient, got PatientID another, patient"),
        ({"RescaleSlope": "nan"}, "beside it cannot be read"),
        ({"SamplesPerPixel": 3}, "colour"),
        ({"ImagePositionPatient": None}, "1 of 5 files"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_series_of_unlike_slices_is_refused(tags, message, tmp_path):
    change(write_series(tmp_path, phantom())[3], **tags)
    assert message in refusal(tmp_path)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("where", ["pixels", "before the pixels", "header", "everything"])
def test_a_file_cut_short_is_refused_wherever_it_ends(syntax, where, tmp_path, capfd):
    files = write_series(tmp_path, phantom(5, 30, 30))
    if syntax:
        for path in files:
            compress(path, syntax)
    content = files[4].read_bytes()
    pixels = content.index(b"\xe0\x7f\x10\x00")
    keep = {"pixels": (pixels + len(content)) // 2, "before the pixels": pixels, "header": 500, "everything": 0}[where]
    files[4].write_bytes(content[:keep])
    message = refusal(tmp_path)
    assert files[4].name in message
    assert re.search("truncated|cut short|corrupt", message)
    assert capfd.readouterr().err == ""


def test_a_corrupt_header_is_refused_with_the_file_named(tmp_path):
    files = write_series(tmp_path, phantom())
    content = files[1].read_bytes()
    files[1].write_bytes(content.replace(b"0\\0\\3 ", b"0\\x\\3 "))
    assert f"such as {files[1]} (cut short?)" in refusal(tmp_path)
    assert f"{files[1]} has a broken DICOM header (could not convert string to float: 'x')" in refusal(files[1])


def test_odd_headers_that_do_not_matter_are_read_silently(tmp_path):
    stack = phantom()
    for path in write_series(tmp_path, stack):
        content = path.read_bytes()
        content = content.replace(b"thorax", b"\xe4\xf6\xfc\xff\xfe!").replace(b"patient ", b"a\\b\\c\\d ")
        path.write_bytes(content.replace(SERIES.encode() + b".0", SERIES.encode() + b".x"))
    np.testing.assert_array_equal(load_volume(tmp_path).image, stack.transpose(2, 1, 0))


def test_old_files_without_a_preamble_are_read(tmp_path):
    stack = phantom()
    for path in write_series(tmp_path, stack):
        dataset = pydicom.dcmread(path)
        bare = pydicom.Dataset({element.tag: element for element in dataset})
        path.unlink()
        bare.save_as(path.with_suffix(""), implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(load_volume(tmp_path).image, stack.transpose(2, 1, 0))


def test_a_tree_is_listed_series_by_series(tmp_path):
    files = write_series(tmp_path / "b", phantom(4), origin=(0, 0, -50), PatientID="p 2")
    write_series(tmp_path / "c", phantom(3), SeriesInstanceUID=OTHER, PatientID="p3", SeriesDescription="Leber Schön")
    write_struct(tmp_path / "a" / "x.dcm", SeriesInstanceUID=OTHER + ".5")
    (tmp_path / "c" / "broken.dcm").write_bytes(b"")
    struct, first, second = find_series(tmp_path)
    assert first == DicomSeries(SERIES, SERIES + ".0", "p 2", "CT", "thorax", False, tuple(files))
    assert (second.patient_id, second.description, len(second.files)) == ("p3", "Leber Schön", 3)
    assert second.unreadable == (tmp_path / "c" / "broken.dcm",)
    assert (struct.modality, struct.refusal) == (
        "RTSTRUCT",
        "its modality is RTSTRUCT, only CT is read; choose a CT series",
    )
    np.testing.assert_array_equal(read_series(first).image, phantom(4).transpose(2, 1, 0))
    with pytest.raises(ValueError, match=r"may be incomplete, 1 file beside it cannot be read, such as .*broken.dcm"):
        read_series(second)
    with pytest.raises(ValueError, match="must be a CT volume: its modality is RTSTRUCT"):
        read_series(struct)
    with pytest.raises(ValueError, match=r"looked for in a folder, .*none"):
        find_series(tmp_path / "nowhere")
