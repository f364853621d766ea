"""From a scan to the network's input."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.segmentation import flood

from tests.geometries import affines, asymmetric, ramp
from vox2vec.preprocessing.body import body_box, body_mask, with_cut_lungs
from vox2vec.preprocessing.intensity import scale_hu, scaled_hu
from vox2vec.preprocessing.orientation import canonical
from vox2vec.preprocessing.prepare import prepare, prepare_hu
from vox2vec.preprocessing.resampling import resample
from vox2vec.recipe import PAPER, Recipe
from vox2vec.volume import Volume


@pytest.fixture(scope="module")
def reference(original):
    with np.load(original / "reference.npz") as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith(("body/", "prep/", "int/"))}


def test_the_body_equals_the_original(reference):
    box = body_box(Volume(reference["body/x"], np.eye(4)))
    np.testing.assert_array_equal([box.start, box.stop], reference["body/bbox"])
    np.testing.assert_array_equal(body_mask(reference["body/x"]), reference["body/mask"])


def test_orientation_crop_and_shape_equal_the_original(reference):
    """Its resampling aligned corners, so the values are compared where there is no resampling."""
    scan = Volume(reference["body/x"], np.diag([-0.8, 0.9, 3, 1]))
    assert prepare(scan).shape == reference["prep/image"].shape
    same_spacing = Recipe(spacing_mm=(0.8, 0.9, 3))
    start, stop = reference["body/bbox"]
    expected = reference["body/x"][tuple(map(slice, start, stop))][::-1]
    np.testing.assert_allclose(prepare_hu(scan, same_spacing).image, expected, atol=1e-3)


@pytest.mark.parametrize("window", [(-1350, 1000), (-100.5, 300.25)])
def test_scaled_intensities_equal_the_original(reference, window):
    name = f"int/scale_hu_{window[0]}_{window[1]}"
    factor = 10 if window == (-1350, 1000) else 1
    np.testing.assert_allclose(scale_hu(reference["int/x"] * factor, window), reference[name], atol=1e-6)


@pytest.mark.parametrize("window", [(-1350, 1000), (-100.5, 300.25)])
def test_patches_are_scaled_to_the_same_numbers_as_scans_bit_for_bit(window):
    image = np.random.default_rng(0).integers(-1500, 1500, (7, 6, 5)).astype(np.int16)
    patches = torch.from_numpy(image)[None, None]
    np.testing.assert_array_equal(scaled_hu(patches, window)[0, 0].numpy(), scale_hu(image, window))
    np.testing.assert_array_equal(patches[0, 0].numpy(), image)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0.3, 0.95))
def test_the_body_mask_equals_a_flood_fill_from_outside(seed, density):
    image = np.where(np.random.default_rng(seed).random((9, 8, 5)) < density, 0, -1000)
    air = np.pad(image < -500, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    np.testing.assert_array_equal(body_mask(image), ~flood(air, (0, 0, 0))[1:-1, 1:-1])


def test_lungs_open_at_the_first_slice_are_body_and_air_outside_is_not():
    image = np.full((9, 9, 4), -1000)
    image[1:8, 1:8] = 0
    image[3:6, 3:6, :3] = -900
    mask = body_mask(image)
    assert mask[4, 4, 0]
    assert not mask[0, 0].any()
    assert mask.sum() == 7 * 7 * 4


def test_a_lung_that_a_crop_cuts_open_is_body_again_and_the_air_around_the_patient_is_not():
    whole = np.full((60, 40, 6), -1000)
    whole[6:54, 6:34] = 0  # the patient
    whole[10:28, 10:30] = whole[32:50, 10:30] = -900  # both lungs
    cropped = whole[:, :28].copy()
    cropped[15:28, 22:] = cropped[32:45, 22:] = 0  # the crop leaves narrow openings
    body = body_mask(cropped)
    assert not body[12:14, 12:20].any(), "the rim floods the lungs"
    told = with_cut_lungs(body)
    assert told[6:54, 6:].all()
    np.testing.assert_array_equal(told[:6], False)
    np.testing.assert_array_equal(told[54:], False)
    np.testing.assert_array_equal(told[:, :6], False)
    np.testing.assert_array_equal(with_cut_lungs(body_mask(whole)), body_mask(whole))


@given(affine=affines(oblique=True))
def test_canonical_axes_point_right_anterior_superior_and_voxels_keep_their_places(affine):
    volume = asymmetric((3, 4, 5), affine)
    turned = canonical(volume)
    assume(len(set(turned.axis_codes)) == 3)
    assert turned.axis_codes == "RAS"
    voxels = np.argwhere(turned.image >= 0)
    places = volume.to_voxels(turned.to_mm(voxels)).round().astype(int)
    np.testing.assert_array_equal(volume.image[tuple(places.T)], turned.image[tuple(voxels.T)])


@settings(deadline=None)
@given(affine=affines(oblique=False), spacing=st.tuples(*[st.sampled_from([0.6, 1.0, 1.5, 2.0])] * 3))
def test_the_prepared_grid_is_exact_and_every_point_keeps_its_value(affine, spacing):
    """In an image linear in millimetres, each prepared voxel says where it is."""
    scan = ramp((14, 12, 13), affine)
    prepared = resample(canonical(scan), spacing)
    np.testing.assert_allclose(prepared.affine[:3, :3], np.diag(spacing), atol=1e-12)
    places = prepared.to_mm(np.stack(np.indices(prepared.shape), axis=-1))
    inner = scan.to_voxels(places)
    between_centres = ((inner >= 0) & (inner <= np.array(scan.shape) - 1)).all(axis=-1)
    np.testing.assert_allclose(
        prepared.image[between_centres], (places @ [1.0, 10, 100])[between_centres], rtol=1e-6, atol=1e-2
    )
    outer = scan.to_voxels(places)
    assert (outer > -0.5 - 1e-6).all()
    assert (outer < np.array(scan.shape) - 0.5 + 1e-6).all()


@settings(deadline=None, max_examples=40)
@given(affine=affines(oblique=True))
def test_an_oblique_scan_is_turned_to_the_patients_axes(affine):
    scan = ramp((14, 12, 13), affine)
    low = float(scan.image.min())
    prepared = resample(canonical(scan), (1.0, 1.0, 2.0))
    np.testing.assert_array_equal(prepared.affine[:3, :3], np.diag([1, 1, 2]))
    places = prepared.to_mm(np.stack(np.indices(prepared.shape), axis=-1))
    inner = scan.to_voxels(places)
    sure = ((inner >= 0.01) & (inner <= np.array(scan.shape) - 1.01)).all(axis=-1)
    np.testing.assert_allclose(prepared.image[sure], (places @ [1.0, 10, 100])[sure], rtol=1e-6, atol=1e-2)
    outside = ((inner < -0.51) | (inner > np.array(scan.shape) - 0.49)).any(axis=-1)
    assert (prepared.image[outside] == low).all()


def test_preparation_equals_a_slow_interpolation_within_a_hundredth_hu():
    rng = np.random.default_rng(0)
    image = rng.integers(-1024, 1500, (40, 36, 15)).astype(np.int16)
    scan = Volume(image, np.diag([-0.7, -0.8, 2.5, 1]))
    prepared = prepare_hu(scan)
    places = scan.to_voxels(prepared.to_mm(np.stack(np.indices(prepared.shape), axis=0).reshape(3, -1).T))
    slow = map_coordinates(image.astype(np.float64), places.T, order=1, mode="nearest").reshape(prepared.shape)
    assert np.abs(prepared.image - slow).max() < 0.01
    assert prepared.image.dtype == np.float32


def test_the_window_maps_to_zero_and_one():
    image = np.full((4, 4, 4), 40, np.int16)
    image[0, 0, 0], image[3, 3, 3] = -3000, 3000
    image[1, 0, 0] = -1350
    prepared = prepare(Volume(image, np.diag([1, 1, 2, 1])))
    assert prepared.image.dtype == np.float32
    assert (prepared.image[0, 0, 0], prepared.image[3, 3, 3], prepared.image[1, 0, 0]) == (0, 1, 0)
    assert prepared.image[2, 2, 2] == pytest.approx((40 + 1350) / 2350)


def test_the_scan_is_cropped_to_the_body_and_its_affine_follows():
    image = np.full((20, 20, 10), -1000, np.int16)
    image[4:15, 6:12, 2:9] = 30
    prepared = prepare(Volume(image, np.diag([1, 1, 2, 1])))
    assert prepared.shape == (11, 6, 7)
    np.testing.assert_allclose(prepared.to_mm([0, 0, 0]), [4, 6, 4], atol=1e-6)


def test_an_oblique_scan_is_cropped_to_the_body_too():
    affine = np.diag([1.0, 1, 2, 1])
    turn = np.deg2rad(20)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    image = np.full((40, 40, 6), -1000, np.int16)
    image[10:30, 15:25] = 30
    prepared = prepare_hu(Volume(image, affine))
    for axis in range(3):
        faces = np.moveaxis(prepared.image, axis, 0)[[0, -1]]
        assert (faces >= PAPER.body_hu).reshape(2, -1).any(axis=1).all()


def test_a_scan_without_body_or_with_nan_is_refused():
    with pytest.raises(ValueError, match=r"voxels of at least -500 HU; the densest is -1000 HU. Is it in HU\?"):
        prepare(Volume(np.full((3, 3, 3), -1000), np.eye(4)))
    with pytest.raises(ValueError, match="finite HU, got NaN"):
        prepare(Volume(np.full((3, 3, 3), np.nan), np.eye(4)))


def test_preparation_leaves_the_scan_alone():
    image = np.random.default_rng(0).integers(-1024, 1500, (9, 9, 9)).astype(np.int16)
    scan = Volume(image, np.diag([-1.0, 1, 2, 1]))
    before = image.copy()
    prepare(scan)
    np.testing.assert_array_equal(image, before)
