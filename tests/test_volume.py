"""Volumes: places in the patient, crops, and the way back onto another grid."""

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

from tests.geometries import affines, asymmetric, boxes, ramp
from vox2vec.geometry import Box
from vox2vec.volume import Volume

SHAPE = (5, 6, 4)


def test_a_volume_shows_itself_in_a_line():
    volume = Volume(np.zeros((3, 4, 5), np.int16), np.diag([-0.703125, -0.703125, 2.5, 1]))
    assert repr(volume) == "Volume(3x4x5 voxels of 0.7031x0.7031x2.5 mm, axes LPS, int16)"


@given(affine=affines(oblique=True), voxel=st.tuples(*[st.floats(-9, 9)] * 3))
def test_millimetres_and_voxels_are_inverse(affine, voxel):
    volume = asymmetric(SHAPE, affine)
    np.testing.assert_allclose(volume.to_voxels(volume.to_mm(voxel)), voxel, atol=1e-6)


@given(affine=affines(oblique=True), box=boxes(SHAPE))
def test_a_crop_returns_to_where_it_was_cut(affine, box):
    scan = asymmetric(SHAPE, affine)
    back = scan.crop(box).onto(scan, order=0, fill=-7)
    np.testing.assert_array_equal(back.image[box.slices], scan.image[box.slices])
    assert (back.image == -7).sum() == scan.image.size - np.prod(box.shape)
    np.testing.assert_array_equal(back.affine, scan.affine)


@given(affine=affines(oblique=False), box=boxes(SHAPE))
def test_a_crop_keeps_each_voxel_in_its_place(affine, box):
    scan = asymmetric(SHAPE, affine)
    crop = scan.crop(box)
    np.testing.assert_allclose(crop.to_mm([0, 0, 0]), scan.to_mm(box.start))


@given(source=affines(oblique=False), target=affines(oblique=False))
def test_labels_survive_a_change_of_orientation_exactly(source, target):
    """Between grids of the same voxels, whatever their axes, nothing is lost."""
    labels = asymmetric(SHAPE, source, np.uint8)
    turned = _same_voxels_with_axes_of(labels, target)
    back = turned.onto(labels, order=0)
    np.testing.assert_array_equal(back.image, labels.image)
    assert back.image.dtype == np.uint8


@given(affine=affines(oblique=False), factor=st.integers(1, 3))
def test_labels_survive_a_finer_grid_exactly(affine, factor):
    labels = asymmetric(SHAPE, affine, np.uint8)
    finer_affine = affine @ np.diag([1 / factor] * 3 + [1])
    finer_affine[:3, 3] = labels.to_mm(np.full(3, (1 / factor - 1) / 2))  # the same outer faces
    finer = labels.onto(Volume(np.zeros([n * factor for n in SHAPE]), finer_affine), order=0)
    expected = labels.image.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    np.testing.assert_array_equal(finer.image, expected)
    if factor % 2:
        np.testing.assert_array_equal(finer.onto(labels, order=0).image, labels.image)


@settings(deadline=None)
@given(source=affines(oblique=True), target=affines(oblique=True))
def test_linear_interpolation_reproduces_a_linear_image(source, target):
    scan = ramp((7, 8, 6), source)
    other = ramp((7, 5, 7), target)
    # Move the other grid to where it overlaps the scan.
    moved = target.copy()
    moved[:3, 3] += scan.to_mm([3, 3.5, 2.5]) - other.to_mm([3, 2, 3])
    other = ramp((7, 5, 7), moved)
    back = scan.onto(other, fill=np.nan)
    places = scan.to_voxels(other.to_mm(np.stack(np.indices(other.shape), axis=-1)))
    between_centres = ((places >= 0) & (places <= np.array(scan.shape) - 1)).all(axis=-1)
    assert between_centres.any()
    np.testing.assert_allclose(back.image[between_centres], other.image[between_centres], rtol=1e-7, atol=1e-4)


@settings(deadline=None)
@given(source=affines(oblique=True), target=affines(oblique=True), order=st.sampled_from([0, 1]))
def test_onto_equals_a_slow_loop_over_voxels(source, target, order):
    scan = asymmetric((4, 3, 5), source, np.float32)
    moved = target.copy()
    moved[:3, 3] = scan.to_mm([1, 0.3, 2.2])
    other = Volume(np.zeros((3, 4, 3)), moved)
    matrix = (np.linalg.inv(source) @ moved).round(9)
    slow = np.empty(other.shape)
    ambiguous = np.zeros(other.shape, bool)
    for index in np.ndindex(other.shape):
        place = matrix[:3, :3] @ index + matrix[:3, 3]
        slow[index] = _value_at(scan.image, place, order)
        edge = np.abs(np.concatenate([place + 0.5, place + 0.5 - scan.shape])).min()
        tie = np.abs(place - np.floor(place) - 0.5).min() if order == 0 else 1
        ambiguous[index] = min(edge, tie) < 1e-5
    fast = scan.onto(other, order=order, fill=-1).image
    np.testing.assert_allclose(fast[~ambiguous], slow[~ambiguous], atol=1e-3)


def test_a_voxel_fills_its_cell_and_beyond_it_is_fill():
    line = Volume(np.array([3.0, 5.0], np.float32).reshape(2, 1, 1), np.eye(4))
    places = np.array([-0.6, -0.4, 0.0, 0.25, 1.4, 1.6])
    for x, expected in zip(places, [-9, 3, 3, 3.5, 5, -9], strict=True):
        affine = np.eye(4)
        affine[0, 3] = x
        assert line.onto(Volume(np.zeros((1, 1, 1)), affine), fill=-9).image.item() == pytest.approx(expected)


def test_by_default_what_lies_beyond_takes_the_lowest_value():
    scan = Volume(np.array([-1000, 40], np.int16).reshape(2, 1, 1), np.eye(4))
    wide = Volume(np.zeros((4, 1, 1)), np.eye(4))
    assert scan.onto(wide).image.ravel().tolist() == [-1000, 40, -1000, -1000]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "float32", "float64", ">i2", "bool"])
def test_every_type_can_be_moved_and_labels_keep_theirs(dtype):
    volume = Volume((np.arange(24).reshape(2, 3, 4) % 2).astype(dtype), np.diag([1.0, 1, 1, 1]))
    flipped = Volume(volume.image, np.diag([-1.0, 1, 1, 1]) @ _shift(-1, 0, 0))
    moved = flipped.onto(volume, order=0)
    np.testing.assert_array_equal(moved.image, volume.image[::-1])
    assert moved.image.dtype == volume.image.dtype
    assert flipped.onto(volume).image.dtype == (np.float64 if dtype == "float64" else np.float32)


def test_onto_leaves_its_inputs_alone_even_when_read_only():
    image = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    image.flags.writeable = False
    volume = Volume(image, np.eye(4))
    moved = volume.onto(Volume(np.zeros((4, 3, 4)), np.eye(4)), fill=-5)
    assert (moved.image[2:] == -5).all()
    np.testing.assert_array_equal(volume.image, np.arange(24).reshape(2, 3, 4))
    same = volume.onto(volume)
    assert not np.shares_memory(same.image, volume.image)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_saved_volume_is_read_by_nibabel_with_the_same_places(name, tmp_path):
    affine = np.array([[0, -0.7, 0.1, 3], [1.5, 0, 0, -80], [0, 0.2, 4, 7], [0, 0, 0, 1.0]])
    asymmetric((2, 3, 4), affine).save(tmp_path / name)
    read = nibabel.load(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(read.dataobj), np.arange(24).reshape(2, 3, 4))
    np.testing.assert_allclose(read.affine, affine, atol=1e-5)
    assert read.header.get_xyzt_units()[0] == "mm"


def test_a_mask_is_saved_as_zeros_and_ones(tmp_path):
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 1, 0] = True
    Volume(mask, np.eye(4)).save(tmp_path / "mask.nii")
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "mask.nii").dataobj), mask.astype(np.uint8))


@pytest.mark.parametrize("number", [2**31 - 1, -(2**31)])
def test_labels_of_64_bits_keep_their_numbers(number, tmp_path):
    Volume(np.full((2, 2, 2), number, np.int64), np.eye(4)).save(tmp_path / "labels.nii")
    assert (np.asarray(nibabel.load(tmp_path / "labels.nii").dataobj) == number).all()


@pytest.mark.parametrize(("number", "dtype"), [(2**31, np.int64), (-(2**31) - 1, np.int64), (2**63, np.uint64)])
def test_labels_beyond_int32_are_refused_not_wrapped(number, dtype, tmp_path):
    image = np.zeros((2, 2, 2), dtype)
    image[1, 0, 1] = number
    with pytest.raises(ValueError, match=rf"from -2147483648 to 2147483647, got {number}; give the labels smaller"):
        Volume(image, np.eye(4)).save(tmp_path / "labels.nii")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("image", "affine", "message"),
    [
        (np.zeros((2, 2)), np.eye(4), r"three axes \(x, y, z\), got shape \(2, 2\)"),
        (np.zeros((2, 2, 2, 3)), np.eye(4), r"three axes \(x, y, z\), got shape \(2, 2, 2, 3\)"),
        (np.zeros((2, 0, 2)), np.eye(4), r"at least one voxel, got shape \(2, 0, 2\)"),
        (np.zeros((2, 2, 2)), np.eye(3), r"must be 4x4, got shape \(3, 3\)"),
        (np.zeros((2, 2, 2)), np.diag([1, 1, np.nan, 1]), "must be finite"),
        (np.zeros((2, 2, 2)), np.diag([1, 1, 0, 1]), "must be invertible"),
        (np.zeros((2, 2, 2)), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "invertible"),
    ],
)
def test_a_volume_that_cannot_be_is_refused(image, affine, message):
    with pytest.raises(ValueError, match=message):
        Volume(image, affine)


def test_other_mistakes_at_the_door_are_refused():
    volume = asymmetric((2, 2, 2), np.eye(4))
    with pytest.raises(ValueError, match=r"inside the volume of shape \(2, 2, 2\), got Box"):
        volume.crop(Box((0, 0, 0), (3, 1, 1)))
    with pytest.raises(ValueError, match=r"order must be 0 .* got 3"):
        volume.onto(volume, order=3)
    with pytest.raises(ValueError, match=r"saved as .nii or .nii.gz, got scan.dcm"):
        volume.save("scan.dcm")


def test_axis_codes_and_spacing_name_the_axes():
    volume = asymmetric((2, 2, 2), np.array([[0, 0, -2, 0], [0.5, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]]))
    assert volume.axis_codes == "AIL"
    assert volume.spacing_mm == (0.5, 1.0, 2.0)


def _shift(*offset: float) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 3] = offset
    return affine


def _same_voxels_with_axes_of(volume: Volume, target: np.ndarray) -> Volume:
    """The volume's voxels in an array whose axes run as those of the affine `target`."""
    turn = ornt_transform(io_orientation(volume.affine), io_orientation(target))
    image = apply_orientation(volume.image, turn)
    return Volume(image, volume.affine @ inv_ornt_aff(turn, volume.shape))


def _value_at(image: np.ndarray, place: np.ndarray, order: int) -> float:
    if (place < -0.5).any() or (place > np.array(image.shape) - 0.5).any():
        return -1
    place = place.clip(0, np.array(image.shape) - 1)
    if order == 0:
        return image[tuple(np.floor(place + 0.5).astype(int).clip(0, np.array(image.shape) - 1))]
    total = 0.0
    for corner in np.ndindex(2, 2, 2):
        low = np.floor(place).astype(int)
        weight = np.prod([f if c else 1 - f for f, c in zip(place - low, corner, strict=True)])
        index = (low + corner).clip(0, np.array(image.shape) - 1)
        total += weight * image[tuple(index)]
    return total
