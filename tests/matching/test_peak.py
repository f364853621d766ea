"""The top of a parabola, from three voxels along each axis."""

import numpy as np
import pytest

from vox2vec.matching.peak import below_the_voxel


@pytest.mark.parametrize("top", [(3.2, 2.9, 3.4), (3.0, 2.6, 2.8)])
def test_the_top_of_a_paraboloid_is_exact(top):
    places = np.moveaxis(np.indices((7, 6, 7)), 0, -1)
    values = -((places - top) ** 2).sum(axis=-1)
    np.testing.assert_allclose(3 + below_the_voxel(values, (3, 3, 3)), top, atol=1e-9)


def test_at_the_border_beside_what_is_unknown_and_on_a_plain_the_voxel_stays():
    values = -((np.moveaxis(np.indices((4, 4, 4)), 0, -1) - 0.3) ** 2).sum(axis=-1)
    np.testing.assert_array_equal(below_the_voxel(values, (0, 0, 0)), 0)
    values[2, 1, 1] = -np.inf
    assert below_the_voxel(values, (1, 1, 1))[0] == 0
    np.testing.assert_array_equal(below_the_voxel(np.zeros((3, 3, 3)), (1, 1, 1)), 0)
