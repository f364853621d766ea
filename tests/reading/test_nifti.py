"""NIfTI scans."""

import gzip
import struct
import tracemalloc
import warnings

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.geometries import affines
from vox2vec.reading.load import load_volume
from vox2vec.reading.nifti import nifti_volume

AFFINE = np.array([[0, -0.7, 0.1, 3], [1.5, 0, 0, -80], [0, 0.2, 4, 7], [0, 0, 0, 1.0]])
HU = (np.arange(24).reshape(2, 3, 4) * 100 - 1000).astype(np.int16)


def write(path, image, affine=AFFINE, *, scale=(1.0, 0.0)):
    """By nibabel, with `scale` put into the header's scl_slope and scl_inter afterwards."""
    header = nibabel.Nifti1Header(endianness="<" if image.dtype.isnative else ">")
    header.set_data_dtype(image.dtype)
    content = bytearray(nibabel.Nifti1Image(image, affine, header, dtype=image.dtype).to_bytes())
    struct.pack_into(f"{header.endianness}ff", content, 112, *scale)
    path.write_bytes(gzip.compress(bytes(content)) if path.name.lower().endswith(".gz") else content)
    return path


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "SCAN.NII.GZ"])
@pytest.mark.parametrize("dtype", ["int16", ">i2", "int32", "float32", "float64", "int64"])
def test_whole_hu_become_int16_whatever_they_are_stored_as(name, dtype, tmp_path):
    volume = load_volume(write(tmp_path / name, HU.astype(dtype)))
    assert volume.image.dtype == np.int16
    assert volume.image.dtype.isnative
    np.testing.assert_array_equal(volume.image, HU)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(affine=affines(oblique=True))
def test_a_saved_volume_comes_back_from_any_grid(affine, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("nifti") / "scan.nii", HU, affine)
    volume = load_volume(path)
    np.testing.assert_array_equal(volume.image, HU)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)


@pytest.mark.parametrize(("slope", "intercept"), [(2.0, -1024.0), (0.5, -1024.0), (0.1, 3.25), (-1.0, 2.0)])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32"])
def test_the_header_s_scale_is_honoured_as_nibabel_does(slope, intercept, dtype, tmp_path):
    stored = np.arange(24).reshape(2, 3, 4).astype(dtype) * 5
    path = write(tmp_path / "scan.nii", stored, scale=(slope, intercept))
    read = nibabel.load(path)
    assert read.dataobj.slope == pytest.approx(slope)
    expected = read.get_fdata()
    image = load_volume(path).image
    assert image.dtype == (np.int16 if slope in (2, -1) else np.float32)
    np.testing.assert_allclose(image, np.maximum(expected, -1024), rtol=1e-6)


def test_fractions_and_values_beyond_int16_stay_float32(tmp_path):
    image = load_volume(write(tmp_path / "a.nii", HU + 0.25)).image
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, HU + np.float32(0.25))
    big = HU.astype(np.int32)
    big[1, 2, 3] = 40000
    with pytest.warns(UserWarning, match="cannot be Hounsfield units, values reach 40000"):
        assert load_volume(write(tmp_path / "b.nii", big)).image[1, 2, 3] == 40000


def test_padding_is_clipped_to_air(tmp_path):
    for dtype in ["int16", "float64", "int32"]:
        padded = HU.astype(dtype)
        padded[0, 0] = [-2000, -3024, -32768, -1024]
        image = load_volume(write(tmp_path / "scan.nii", padded)).image
        assert image[0, 0].tolist() == [-1024] * 4
        assert image.dtype == np.int16


def test_an_int16_scan_is_read_into_its_own_memory_alone(tmp_path):
    path = write(tmp_path / "scan.nii", np.zeros((100, 100, 100), np.int16) - np.int16(1000), np.diag([-1, 1, 2, 1.0]))
    tracemalloc.start()
    image = load_volume(path).image
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.6 * image.nbytes


def test_an_image_in_memory_is_read_and_left_as_it_was():
    padded = HU.copy()
    padded[0, 0, 0] = -3000
    volume = nifti_volume(nibabel.Nifti1Image(padded, AFFINE), name="scan")
    assert volume.image[0, 0, 0] == -1024
    assert padded[0, 0, 0] == -3000


def test_a_trailing_axis_of_one_is_dropped_and_phases_are_refused(tmp_path):
    np.testing.assert_array_equal(load_volume(write(tmp_path / "a.nii", HU[..., None])).image, HU)
    path = write(tmp_path / "b.nii", np.stack([HU, HU], axis=-1))
    with pytest.raises(ValueError, match=r"must have three axes, got shape \(2, 3, 4, 2\) .*save the wanted one alone"):
        load_volume(path)


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_an_affine_in_other_units_becomes_millimetres(unit, mm, tmp_path):
    nifti = nibabel.Nifti1Image(HU, AFFINE)
    nifti.header.set_xyzt_units(unit)
    nibabel.save(nifti, tmp_path / "scan.nii")
    np.testing.assert_allclose(load_volume(tmp_path / "scan.nii").affine[:3], AFFINE[:3] * mm, rtol=1e-5)


def test_the_qform_counts_where_there_is_no_sform(tmp_path):
    affine = np.diag([-2.0, 1, 3, 1])
    affine[:3, 3] = 5, 6, 7
    nifti = nibabel.Nifti1Image(HU, None)
    nifti.set_qform(affine, code=1)
    nibabel.save(nifti, tmp_path / "scan.nii")
    np.testing.assert_allclose(load_volume(tmp_path / "scan.nii").affine, affine, atol=1e-6)


def test_an_orientation_that_is_not_stated_is_warned_of(tmp_path):
    nifti = nibabel.Nifti1Image(HU, None)
    nifti.set_sform(None, code=0)
    nifti.set_qform(None, code=0)
    nibabel.save(nifti, tmp_path / "scan.nii")
    with pytest.warns(UserWarning, match="orientation is not stated .* assumed axes LAS"):
        load_volume(tmp_path / "scan.nii")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4), "all values lie between 0 and 1"),
        ((HU > 0).astype(np.uint8), "all values lie between 0 and 1"),
        (np.arange(24, dtype=np.uint8).reshape(2, 3, 4) * 11, "all values are whole numbers between 0 and 255"),
    ],
)
def test_values_that_cannot_be_hu_are_warned_of(image, message, tmp_path):
    path = write(tmp_path / "scan.nii", image)
    with pytest.warns(UserWarning, match=f"{message}.*Load the original CT, or convert it back to HU"):
        np.testing.assert_array_equal(load_volume(path).image, image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.where(HU == 0, np.nan, HU), "must hold finite HU, got NaN or infinity; replace them"),
        (np.where(HU == 0, np.inf, HU), "must hold finite HU"),
        (np.where(HU == 0, -np.inf, HU).astype(np.float32), "must hold finite HU"),
        (np.where(HU == 0, 1e300, HU), "must hold finite HU"),
        (HU.astype(np.complex64), r"one number a voxel, got complex64"),
        (np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), r"one number a voxel, got .*RGB"),
        (HU[:, :, :1], r"several slices, got a single slice of shape \(2, 3, 1\)"),
        (HU[0], r"several slices, got a single slice of shape \(3, 4\)"),
    ],
)
def test_images_that_are_no_ct_volume_are_refused(image, message, tmp_path):
    path = write(tmp_path / "scan.nii.gz", image)
    with pytest.raises(ValueError, match=message) as caught:
        load_volume(path)
    assert str(path) in str(caught.value)


def test_a_singular_affine_is_refused(tmp_path):
    nifti = nibabel.Nifti1Image(HU, AFFINE)
    nifti.header["srow_z"] = 0
    nifti.header["sform_code"] = 1
    nifti = nibabel.Nifti1Image(HU, None, nifti.header)
    nifti.header["srow_z"] = 0
    nibabel.save(nifti, tmp_path / "scan.nii")
    with pytest.raises(ValueError, match=r"scan.nii: an affine must be invertible .* convert it again"):
        load_volume(tmp_path / "scan.nii")


@pytest.mark.parametrize("keep", [0.97, 0.5, 0.01])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_file_cut_short_is_refused(name, keep, tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path / name, rng.integers(-1000, 1000, (20, 20, 20)).astype(np.int16))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ValueError, match=r"scan.nii.* (is truncated or corrupt|header cannot be read)"):
        load_volume(path)


def test_a_damaged_byte_in_gzip_is_noticed(tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "scan.nii.gz", rng.integers(-1000, 1000, (20, 20, 20)).astype(np.int16))
    packed = bytearray(path.read_bytes())
    packed[-6] ^= 0xFF  # the check sum
    path.write_bytes(packed)
    with pytest.raises(ValueError, match="is truncated or corrupt"):
        load_volume(path)


def test_what_is_no_nifti_is_refused(tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(b"not gzip at all" * 100)
    with pytest.raises(ValueError, match=r"must be NIfTI, but its header cannot be read .*; copy it again"):
        load_volume(tmp_path / "scan.nii.gz")


@given(st.integers(-(2**31), 2**31 - 1))
@settings(max_examples=50, deadline=None)
def test_no_int32_wraps_around(value):
    image = np.full((2, 2, 2), -1000, np.int32)
    image[0, 0, 0] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = nifti_volume(nibabel.Nifti1Image(image, AFFINE), name="scan").image
    assert read[0, 0, 0] == pytest.approx(max(value, -1024), rel=1e-6)
