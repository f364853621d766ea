"""Folds are seen where space is turned inside out, and smoothed away."""

from itertools import product

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vox2vec.matching.jacobian import LEAST, corner_jacobians, folding, unfolded

SPACING = (2.0, 3.0, 4.0)


def _rough(amplitude_mm):
    noise = np.random.default_rng(0).normal(size=(3, 9, 8, 7))
    smooth = gaussian_filter(noise, (0, 1, 1, 1))
    return np.moveaxis(smooth / smooth.std() * amplitude_mm, 0, -1)


def test_determinants_are_those_of_the_trilinear_map_by_finite_differences():
    vectors = _rough(1.0)
    cell, h = np.array([3, 2, 4]), 1e-6

    def goes_to(place):
        share = place - cell
        total = np.zeros(3)
        for corner in product((0, 1), repeat=3):
            weight = np.prod([s if c else 1 - s for s, c in zip(share, corner, strict=True)])
            total += weight * vectors[tuple(cell + corner)]
        return place * SPACING + total

    found = corner_jacobians(vectors, SPACING)[:, 3, 2, 4]
    for i, corner in enumerate(product((0, 1), repeat=3)):
        place = cell + np.array(corner, dtype=float)
        columns = [
            (goes_to(place + h * e) - goes_to(place - h * e)) / (2 * h * s)
            for e, s in zip(np.eye(3), SPACING, strict=True)
        ]
        assert found[i] == pytest.approx(np.linalg.det(np.stack(columns, axis=-1)), abs=1e-6)


def test_an_affine_map_has_its_own_determinant_everywhere():
    matrix = np.array([[0.1, 0.2, 0], [0, -0.1, 0.3], [0.1, 0, 0.2]])
    places = np.moveaxis(np.indices((4, 5, 6)), 0, -1) * SPACING
    found = corner_jacobians(places @ matrix.T, SPACING)
    np.testing.assert_allclose(found, np.linalg.det(np.eye(3) + matrix), atol=1e-12)


def test_one_node_beyond_its_neighbour_folds_the_cells_around_it():
    vectors = np.zeros((7, 7, 7, 3))
    vectors[3, 3, 3, 0] = 2.5  # its neighbour is 2 mm away
    assert folding(vectors, SPACING) == pytest.approx(4 / 6**3)
    vectors[3, 3, 3, 0] = 1.5
    assert folding(vectors, SPACING) == 0


@pytest.mark.parametrize("amplitude_mm", [3.0, 30.0, 3000.0])
def test_no_fold_is_left_whatever_comes(amplitude_mm):
    folded = _rough(amplitude_mm)
    assert folding(folded, SPACING) > 0
    assert corner_jacobians(unfolded(folded, SPACING), SPACING).min() >= LEAST


def test_what_does_not_fold_stays_and_far_from_folds_too():
    vectors = _rough(0.2)
    assert unfolded(vectors, SPACING) is vectors
    still = np.zeros((15, 7, 7, 3))
    still[3, 3, 3, 0] = 2.5
    still[12, 3, 3, 0] = 0.7
    changed = unfolded(still, SPACING)
    assert changed[3, 3, 3, 0] < 2.5
    np.testing.assert_array_equal(changed[9:], still[9:])
