"""A displacement field: points of it, and its file as SimpleITK takes it."""

import numpy as np
import pytest
import SimpleITK
from scipy.ndimage import gaussian_filter

from vox2vec.matching.displacement import Displacement

AFFINE = np.diag([4.0, 3, 5, 1])
AFFINE[:3, 3] = [-30, 12, -100]


def _bent():
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(9, 10, 8, 3)), (1.5, 1.5, 1.5, 0))
    return Displacement(noise / noise.std() * 3 + [5.0, -20, 9], AFFINE)


def test_simpleitk_moves_points_as_we_do(tmp_path):
    bent = _bent()
    bent.save(tmp_path / "field.nii.gz")
    image = SimpleITK.ReadImage(str(tmp_path / "field.nii.gz"), SimpleITK.sitkVectorFloat64)
    transform = SimpleITK.DisplacementFieldTransform(image)
    places = np.random.default_rng(1).uniform(0.05, 0.95, (50, 3)) * (np.array(bent.vectors_mm.shape[:3]) - 1)
    points = places @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    lps = np.array([-1.0, -1, 1])
    theirs = np.array([transform.TransformPoint((p * lps).tolist()) for p in points]) * lps
    np.testing.assert_allclose(theirs, bent.at(points), atol=1e-4)
    assert np.abs(theirs - points).max() > 10


def test_nodes_move_by_their_vectors_and_nan_stays_nan():
    bent = _bent()
    node = AFFINE[:3, :3] @ [3, 4, 2] + AFFINE[:3, 3]
    moved = bent.at([node, [np.nan, 0, 0]])
    np.testing.assert_allclose(moved[0], node + bent.vectors_mm[3, 4, 2])
    assert np.isnan(moved[1]).all()


def test_beyond_the_lattice_points_move_as_its_border_does():
    bent = _bent()
    corner = AFFINE[:3, 3]
    np.testing.assert_allclose(bent.at([corner - 50])[0], corner - 50 + bent.vectors_mm[0, 0, 0])


def test_other_files_and_other_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"saved as \.nii or \.nii\.gz, got field\.txt"):
        _bent().save(tmp_path / "field.txt")
    with pytest.raises(ValueError, match="one point is"):
        _bent().at([1.0, 2, 3])
