"""A bent scan: every point of it comes from where the map says."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vox2vec.matching.deformation import draw_deformation, other_scanner
from vox2vec.volume import Volume

AFFINE = np.array([[0, -2.0, 0, 40], [3, 0, 0, -70], [0, 0, -2.5, 9], [0, 0, 0, 1]])  # axes not canonical


def _smooth():
    image = gaussian_filter(np.random.default_rng(0).normal(0, 3000, (50, 60, 40)), 4).astype(np.float32)
    return Volume(image, AFFINE)


def test_each_voxel_of_the_bent_scan_shows_the_point_it_comes_from():
    volume = _smooth()
    drawn = draw_deformation(volume, 1, elastic_mm=5, spacing_mm=30)
    bent = drawn.bent(volume)
    rng = np.random.default_rng(1)
    checked = 0
    for voxel in rng.integers(0, volume.shape, (300, 3)):
        x, y, z = volume.to_voxels(drawn.source_mm(bent.to_mm(voxel)))
        if not all(0 <= c < n - 1 for c, n in zip((x, y, z), volume.shape, strict=True)):
            continue
        i, j, k = int(x), int(y), int(z)
        cube = volume.image[i : i + 2, j : j + 2, k : k + 2]
        for share in (x - i, y - j, z - k):  # trilinear, by hand
            cube = cube[0] * (1 - share) + cube[1] * share
        assert bent.image[tuple(voxel)] == pytest.approx(cube, abs=0.05)
        checked += 1
    assert checked > 100


def test_a_spline_by_its_formula():
    """Sum over the control points of the product of cubic B-splines, at points inside the lattice."""
    volume = _smooth()
    drawn = draw_deformation(volume, 3, rotation_deg=0, scale=(1, 1), elastic_mm=5, spacing_mm=30)

    def spline(t):
        t = abs(t)
        return 2 / 3 - t**2 + t**3 / 2 if t < 1 else max(2 - t, 0) ** 3 / 6

    point = volume.to_mm([20, 31, 18])
    place = (point - drawn.lattice[:3, 3]) / 30
    shape = drawn.displacement_mm.shape[1:]
    slow = sum(
        drawn.displacement_mm[:, i, j, k] * spline(place[0] - i) * spline(place[1] - j) * spline(place[2] - k)
        for i, j, k in np.ndindex(shape)
    )
    np.testing.assert_allclose(drawn.source_mm(point) - point, slow, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_map_does_not_fold(seed):
    volume = Volume(np.zeros((40, 40, 40), np.float32), np.diag([8.0, 8, 8, 1]))
    drawn = draw_deformation(volume, seed)
    points, h = volume.to_mm(np.random.default_rng(0).uniform(0, 39, (2000, 3))), 0.01
    columns = [(drawn.source_mm(points + h * e) - drawn.source_mm(points - h * e)) / (2 * h) for e in np.eye(3)]
    assert np.linalg.det(np.stack(columns, axis=-1)).min() > 0.1
    assert np.linalg.norm(drawn.source_mm(points) - points, axis=1).max() > 5


def test_other_hu_leave_air_as_it_is_but_for_noise():
    image = np.full((30, 30, 30), -1000, np.float32)
    image[10:20] = 100
    changed = other_scanner(Volume(image, AFFINE), 0)
    assert changed.image[:10].mean() == pytest.approx(-1000, abs=1)
    assert abs(changed.image[10:20].mean() - 100) > 2
    assert changed.image[:10].std() == pytest.approx(20, rel=0.05)


def test_a_lattice_that_would_fold_is_refused():
    with pytest.raises(ValueError, match="spacing_mm must be at least 6 times elastic_mm, got 20 and 10"):
        draw_deformation(_smooth(), 0, elastic_mm=10, spacing_mm=20)
