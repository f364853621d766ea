"""Scans laid onto each other where the truth is known: a bent patient, another patient, half a patient."""

import numpy as np
import pytest
import SimpleITK

from vox2vec.data.phantom import phantom
from vox2vec.geometry import Box
from vox2vec.matching.deformation import draw_deformation
from vox2vec.matching.field import Field
from vox2vec.matching.registration import registered
from vox2vec.volume import Volume

SPACING_MM = 5.0


def _field(fixed, moving, fixed_mm, moving_mm):
    boxes = [np.sort(v.to_mm([[-0.5] * 3, np.array(v.shape) - 0.5]), axis=0) for v in (fixed, moving)]
    return Field(fixed_mm, moving_mm, np.eye(3), 40.0, *boxes)


@pytest.fixture(scope="module")
def patient():
    return phantom(0, spacing_mm=(SPACING_MM,) * 3, axis_codes="LPS")


@pytest.fixture(scope="module")
def bent(patient):
    """A bent copy laid onto the patient; the field was told 200 places, each 5 mm wrong along each axis."""
    deformation = draw_deformation(patient.volume, 1, rotation_deg=3, scale=(0.98, 1.02), elastic_mm=6)
    copy = deformation.bent(patient.volume)
    rng = np.random.default_rng(0)
    body = copy.to_mm(rng.permutation(np.argwhere(copy.image > -300)))
    pairs, points = body[:200], body[200:700]
    wrong = deformation.source_mm(pairs) + rng.normal(0, 5, pairs.shape)
    field = _field(copy, patient.volume, pairs, wrong)
    found = registered(copy, patient.volume, field, spacing_mm=SPACING_MM)
    return found, points, deformation.source_mm(points)


def test_the_same_patient_bent_is_found_again_nearer_than_by_the_field(bent):
    found, points, truth = bent
    error = np.linalg.norm(found.points(points) - truth, axis=1)
    field = np.linalg.norm(found.field.at(points).points_mm - truth, axis=1)
    assert np.median(error) < 2
    assert np.median(error) < 0.7 * np.median(field)
    assert found.folding == 0


def test_the_moved_scan_and_its_labels_lie_on_the_fixed_one(bent, patient):
    found, _, _ = bent
    moved = found.onto()
    assert moved.shape == found.fixed.shape
    np.testing.assert_array_equal(moved.affine, found.fixed.affine)
    before = np.abs(patient.volume.onto(found.fixed).image - found.fixed.image).mean()
    assert np.abs(moved.image - found.fixed.image).mean() < 0.6 * before
    labels = found.labels(patient.labels)
    assert labels.image.dtype == np.uint8
    liver = labels.image == 6
    hu = found.fixed.image[liver]
    assert liver.sum() > 1000
    assert np.mean(np.abs(hu - np.median(hu)) < 100) > 0.9


def test_simpleitk_moves_the_scan_as_we_do_by_the_saved_field(bent, tmp_path):
    found, _, _ = bent
    found.save(tmp_path / "field.nii.gz")
    field = SimpleITK.ReadImage(str(tmp_path / "field.nii.gz"), SimpleITK.sitkVectorFloat64)
    for name, volume in (("fixed", found.fixed), ("moving", found.moving)):
        Volume(volume.image.astype(np.float32), volume.affine).save(tmp_path / f"{name}.nii.gz")
    fixed, moving = (SimpleITK.ReadImage(str(tmp_path / f"{name}.nii.gz")) for name in ("fixed", "moving"))
    transform = SimpleITK.DisplacementFieldTransform(field)
    theirs = SimpleITK.Resample(moving, fixed, transform, SimpleITK.sitkLinear, -1024.0)
    image = SimpleITK.GetArrayFromImage(theirs).T
    off = np.abs(image - found.onto().image)
    assert np.mean(off < 2) > 0.98  # all but the half voxel at the border, where ITK and we both may fill


def test_another_patient_is_found_nearer_than_by_the_field_alone():
    one, other = (phantom(seed, spacing_mm=(SPACING_MM,) * 3) for seed in (0, 1))
    points, truth = (np.array(list(p.landmarks.values())) for p in (one, other))
    wrong = truth + np.random.default_rng(0).normal(0, 5, truth.shape)
    found = registered(one.volume, other.volume, _field(one.volume, other.volume, points, wrong), spacing_mm=SPACING_MM)
    error = np.linalg.norm(found.points(points) - truth, axis=1)
    field = np.linalg.norm(found.field.at(points).points_mm - truth, axis=1)
    assert np.median(error) < np.median(field)
    assert found.folding == 0


def test_what_the_moving_scan_does_not_show_has_a_place_but_no_support(patient):
    x, y, z = patient.volume.shape
    half = patient.volume.crop(Box((0, 0, 0), (x, y, z // 2)))
    rng = np.random.default_rng(0)
    pairs = half.to_mm(rng.permutation(np.argwhere(half.image > -300))[:200])
    field = _field(patient.volume, half, pairs, pairs + rng.normal(0, 2, pairs.shape))
    found = registered(patient.volume, half, field, spacing_mm=SPACING_MM)
    edge = half.to_mm([0, 0, z // 2 - 0.5])[2]
    points = patient.volume.to_mm(rng.permutation(np.argwhere(patient.volume.image > -300))[:500])
    shown, away = points[points[:, 2] < edge - 10], points[points[:, 2] > edge + 10]
    assert np.isfinite(found.points(away)).all()
    assert not found.supported(away).any()
    assert found.supported(shown).mean() > 0.9
    assert np.median(np.linalg.norm(found.points(shown) - shown, axis=1)) < 2
    assert (found.onto().image[:, :, z // 2 + 3 :] == -1024).all()


def test_lengths_that_are_not_positive_are_refused(bent):
    found, _, _ = bent
    with pytest.raises(ValueError, match=r"must be positive, got 0 and 0\.3"):
        registered(found.fixed, found.moving, found.field, spacing_mm=0)
