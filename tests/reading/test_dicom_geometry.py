"""Where DICOM voxels lie in the patient."""

import numpy as np
import pytest

from tests.reading.dicom_files import AXIAL, phantom, slice_dataset, write, write_series
from vox2vec.reading.load import load_volume

GRADIENT = np.array([1.0, -2.0, 4.0])  # HU per mm to the left, posterior, superior
COS, SIN = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
ORIENTATIONS = {
    "head first supine": AXIAL,
    "head first prone": (-1, 0, 0, 0, -1, 0),
    "feet first supine": (-1, 0, 0, 0, 1, 0),
    "feet first prone": (1, 0, 0, 0, -1, 0),
    "decubitus right": (0, 1, 0, -1, 0, 0),
    "decubitus left": (0, -1, 0, 1, 0, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique by 20 degrees": (COS, 0, SIN, 0, 1, 0),
    "oblique twice": (COS, SIN * SIN, SIN * COS, 0, COS, -SIN),
}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_each_voxel_lies_where_the_standard_puts_it(orientation, backwards, tmp_path):
    normal = np.cross(orientation[:3], orientation[3:]) * (-1 if backwards else 1)
    _write_gradient(tmp_path, orientation, step=2.5 * normal)
    _assert_gradient(load_volume(tmp_path))


@pytest.mark.parametrize("tilt_mm", [-1.3, 1.3])
def test_a_tilted_gantry_gives_a_sheared_affine(tilt_mm, tmp_path):
    _write_gradient(tmp_path, AXIAL, step=(0, tilt_mm, 3))
    volume = load_volume(tmp_path)
    _assert_gradient(volume)
    np.testing.assert_allclose(volume.affine[:3, 2], [0, -tilt_mm, 3], atol=1e-9)


def test_axes_are_column_row_slice_and_spacing_follows_them(tmp_path):
    stack = phantom(5, 6, 4)
    write_series(tmp_path, stack, origin=(-10, 20, 30), PixelSpacing=[2, 0.75])
    volume = load_volume(tmp_path)
    np.testing.assert_array_equal(volume.image, stack.transpose(2, 1, 0))
    np.testing.assert_allclose(volume.affine, [[-0.75, 0, 0, 10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])
    assert volume.axis_codes == "LPS"
    assert volume.image.dtype == np.int16


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_regular(tmp_path):
    for k in range(40):
        z = round(k * 0.625 + 0.03, 1)
        write(tmp_path / f"{k}", slice_dataset(phantom(1)[0], position=(0, 0, z)))
    assert load_volume(tmp_path).spacing_mm[2] == pytest.approx(0.625, abs=0.005)


def test_directions_rounded_differently_in_each_slice_are_one_orientation(tmp_path):
    for k in range(5):
        turned = np.array(AXIAL) + (k % 2) * 1e-6
        write(tmp_path / f"{k}", slice_dataset(phantom(1)[0], position=(0, 0, k), orientation=turned))
    assert load_volume(tmp_path).shape == (4, 6, 5)


def _write_gradient(folder, orientation, step) -> None:
    """Pixels by the standard's formula (PS3.3, C.7.6.2.1.1), one by one, in hundredths of HU."""
    origin, (between_rows, between_columns) = np.array([-12.0, 7, 31]), (2, 0.75)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    stack = np.zeros((5, 6, 4), np.int16)
    for k, j, i in np.ndindex(stack.shape):
        place = origin + k * np.array(step) + row * between_columns * i + column * between_rows * j
        stack[k, j, i] = round(float(place @ GRADIENT) * 100)
    tags = {"PixelSpacing": [between_rows, between_columns], "RescaleSlope": 0.01}
    write_series(folder, stack, origin=origin, step=step, orientation=orientation, **tags)


def _assert_gradient(volume) -> None:
    ras = volume.to_mm(np.stack(np.indices(volume.shape), axis=-1))
    np.testing.assert_allclose(volume.image, ras @ (GRADIENT * [-1, -1, 1]), atol=0.0051)
