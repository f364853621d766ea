"""The synthetic patient."""

import numpy as np
import pytest

from vox2vec.data.phantom import phantom
from vox2vec.data.sources.structures import BTCV_ORGANS

COARSE = (5.0, 5.0, 6.0)


@pytest.fixture(scope="module")
def patient():
    return phantom(0, spacing_mm=(3, 3, 4))


def test_the_same_seed_is_the_same_patient_and_another_seed_another():
    one, same, other = phantom(3, spacing_mm=COARSE), phantom(3, spacing_mm=COARSE), phantom(4, spacing_mm=COARSE)
    np.testing.assert_array_equal(one.volume.image, same.volume.image)
    np.testing.assert_array_equal(one.labels.image, same.labels.image)
    changed = (one.labels.image != other.labels.image)[(one.labels.image > 0) | (other.labels.image > 0)]
    assert changed.mean() > 0.1
    for name, place in one.landmarks.items():
        assert np.linalg.norm(place - other.landmarks[name]) > 0.5


@pytest.mark.parametrize("seed", range(4))
def test_all_thirteen_organs_are_there_in_plausible_sizes(seed):
    labels = phantom(seed, spacing_mm=(3, 3, 3)).labels.image
    assert labels.dtype == np.uint8
    millilitres = {name: (labels == number).sum() * 0.027 for number, name in BTCV_ORGANS.items()}
    assert all(volume > 1 for volume in millilitres.values()), millilitres
    assert 1000 < millilitres["liver"] < 2500
    assert 100 < millilitres["spleen"] < 350
    assert 90 < millilitres["left kidney"] < 250


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, number) for number, name in BTCV_ORGANS.items() if name in ("liver", "spleen", "gallbladder", "stomach")]
    + [("right kidney", 2), ("left kidney lower pole", 3), ("aorta at the diaphragm", 8), ("right adrenal gland", 12)],
)
def test_a_landmark_lies_in_the_organ_it_names(patient, name, number):
    voxel = patient.labels.to_voxels(patient.landmarks[name]).round().astype(int)
    around = patient.labels.image[tuple(slice(v - 1, v + 2) for v in voxel)]
    assert (around == number).mean() > 0.3


@pytest.mark.parametrize("axis_codes", ["RAS", "LPS", "PIR"])
def test_right_is_right_whatever_the_stored_axes(axis_codes):
    patient = phantom(1, spacing_mm=COARSE, axis_codes=axis_codes)
    assert patient.volume.axis_codes == axis_codes
    centres = {
        name: patient.labels.to_mm(np.argwhere(patient.labels.image == number)).mean(axis=0)
        for number, name in BTCV_ORGANS.items()
    }
    assert centres["liver"][0] > 30  # to the right
    assert centres["spleen"][0] < -30
    assert centres["right kidney"][0] > 30 > -30 > centres["left kidney"][0]
    assert centres["gallbladder"][1] > centres["aorta"][1] + 40  # in front
    assert centres["esophagus"][2] > centres["left kidney"][2] + 40  # towards the head
    image = patient.volume.image
    lungs = patient.volume.to_mm(np.argwhere((image < -780) & (image > -930))).mean(axis=0)
    assert lungs[2] > centres["liver"][2] + 50


@pytest.mark.parametrize("grid", [{"axis_codes": "LPS"}, {"axis_codes": "PIR"}, {"rotation_deg": 20.0}])
def test_another_grid_shows_the_same_patient(grid):
    plain = phantom(2, spacing_mm=COARSE)
    other = phantom(2, spacing_mm=COARSE, **grid)
    for name, place in plain.landmarks.items():
        np.testing.assert_allclose(other.landmarks[name], place)
    moved = other.labels.onto(plain.labels, order=0, fill=0).image
    both, either = (moved == 6) & (plain.labels.image == 6), (moved == 6) | (plain.labels.image == 6)
    assert both.sum() / either.sum() > (0.98 if "axis_codes" in grid else 0.85)


def test_impossible_grids_are_refused(unchecked_shapes):
    with pytest.raises(ValueError, match=r"three positive numbers of millimetres, got \(1, 0, 1\)"):
        phantom(0, spacing_mm=(1, 0, 1))
    with pytest.raises(ValueError, match="got 'RLS'"):
        phantom(0, axis_codes="RLS")
