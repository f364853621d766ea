"""What DICOM pixels mean in HU."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.reading.dicom_files import change, compress, phantom, slice_dataset, write, write_series
from vox2vec.reading.load import load_volume


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1])
@pytest.mark.parametrize("signed", [True, False])
def test_a_compressed_series_equals_the_plain_one(syntax, signed, tmp_path, capfd):
    stack = phantom(3, 20, 18) if signed else (phantom(3, 20, 18) + 1024).astype(np.uint16)
    for path in write_series(tmp_path, stack, RescaleIntercept=0 if signed else -1024):
        compress(path, syntax)
    volume = load_volume(tmp_path)
    np.testing.assert_array_equal(volume.image, phantom(3, 20, 18).transpose(2, 1, 0))
    assert volume.image.dtype == np.int16
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_uncompressed_encoding_is_read(syntax, tmp_path):
    stack = phantom(3)
    for path in write_series(tmp_path, stack, PixelPaddingValue=-1000):
        dataset = pydicom.dcmread(path)
        little = syntax != ExplicitVRBigEndian
        if not little:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        copy = pydicom.Dataset({element.tag: element for element in dataset})
        copy.file_meta = dataset.file_meta
        copy.save_as(path, enforce_file_format=True)
    np.testing.assert_array_equal(load_volume(tmp_path).image[1:], stack.transpose(2, 1, 0)[1:])


def test_each_slice_is_scaled_by_its_own_slope_and_intercept(tmp_path):
    for k, (slope, intercept) in enumerate([(1, -1024), (2, -1000), (0.5, 7)]):
        stored = np.array([[0, 1], [2, 300]], np.uint16)
        tags = {"RescaleSlope": slope, "RescaleIntercept": intercept}
        write(tmp_path / f"{k}", slice_dataset(stored, position=(0, 0, k), **tags))
    image = load_volume(tmp_path).image
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[0, :, 0], [-1024, -1022])
    np.testing.assert_array_equal(image[1, :, 1], [-998, -400])
    np.testing.assert_array_equal(image[:, 1, 2], [8, 157])


@pytest.mark.parametrize(
    ("stored", "tags", "hu"),
    [
        # what the scanner writes, with which tags, what it is
        (np.array([-2000, -3024, 40], np.int16), {}, [-1024, -1024, 40]),
        (np.array([-32768, 32767, 0], np.int16), {"RescaleIntercept": -1024}, [-1024, 31743, -1024]),
        (np.array([63536, 1064, 4095], np.uint16), {"BitsStored": 12, "RescaleIntercept": -1024}, [-1024, 40, 3071]),
        (
            np.array([63536, 1064, 0], np.uint16),
            {"PixelPaddingValue": 63536, "RescaleIntercept": -1024},
            [-1024, 40, -1024],
        ),
        (
            np.array([-1500, 40, -990], np.int16),
            {"PixelPaddingValue": -1500, "PixelPaddingRangeLimit": -995},
            [-1024, 40, -990],
        ),
        (np.array([0x0FFF, 0x0800, 40], np.int16), {"BitsStored": 12}, [-1, -1024, 40]),
        (np.array([-1, -1000, -2000], np.int16), {"BitsStored": 12}, [-1, -1000, -1024]),
        (np.array([0, 2, 4], np.uint16), {"RescaleSlope": 500, "RescaleIntercept": -1000}, [-1000, 0, 1000]),
        (np.array([0, 40, 4], np.int16), {"RescaleSlope": 0}, [0, 40, 4]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*cannot be Hounsfield units")
@pytest.mark.filterwarnings("ignore:A value of type.*:UserWarning")
def test_stored_values_become_hu_without_wrapping_around(stored, tags, hu, tmp_path):
    stored = np.tile(stored[None], (4, 1))
    stored[1:3] = stored[1:3, ::-1]  # so that the corners are not all alike
    write_series(tmp_path, [stored, stored], **tags)
    image = load_volume(tmp_path).image
    assert image.dtype == np.int16
    np.testing.assert_array_equal(image[:, 0, 0], hu)
    np.testing.assert_array_equal(image[:, 1, 1], hu[::-1])


def test_a_padding_value_among_tissue_is_believed_only_where_it_fills_the_corners(tmp_path):
    stored = phantom(2, 5, 5)
    stored[0, 2, 2] = stored[1, 2, 2] = 0
    stored[0, [0, 0, -1, -1], [0, -1, 0, -1]] = 0
    write_series(tmp_path, stored, PixelPaddingValue=0)
    image = load_volume(tmp_path).image
    assert image[2, 2].tolist() == [-1024, 0]
    assert image[0, 0, 0] == -1024


def test_values_beyond_int16_stay_as_float32_and_are_named(tmp_path):
    stored = np.array([[0, 65535], [1000, 7]], np.uint16)
    write_series(tmp_path, [stored, stored], RescaleIntercept=-1024)
    with pytest.warns(UserWarning, match="cannot be Hounsfield units, values reach 64511"):
        image = load_volume(tmp_path).image
    assert image.dtype == np.float32
    assert image[1, 0, 0] == 64511


def test_a_series_without_rescale_tags_is_read_with_a_warning(tmp_path):
    for path in write_series(tmp_path, phantom()):
        change(path, RescaleSlope=None, RescaleIntercept=None)
    with pytest.warns(UserWarning, match=r"no RescaleSlope or RescaleIntercept is stated, assumed 1 and 0"):
        assert load_volume(tmp_path).image.min() == -1000


def test_pixels_that_share_their_bits_with_an_overlay_are_unpacked(tmp_path):
    hu = phantom(2, 4, 4, low=0)
    stored = (hu | 0x4000).astype(np.uint16)
    for path in write_series(tmp_path, stored, BitsStored=12, RescaleIntercept=-1024):
        dataset = pydicom.dcmread(path)
        dataset.add_new(0x60000010, "US", 4)
        dataset.add_new(0x60000011, "US", 4)
        dataset.add_new(0x60000040, "CS", "G")
        dataset.add_new(0x60000050, "SS", [1, 1])
        dataset.add_new(0x60000100, "US", 16)
        dataset.add_new(0x60000102, "US", 14)
        dataset.save_as(path)
    np.testing.assert_array_equal(load_volume(tmp_path).image, hu.transpose(2, 1, 0) - 1024)
