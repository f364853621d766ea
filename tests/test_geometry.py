"""Boxes and affines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vox2vec.geometry import Box, shifted, spacing_of, transformed


@given(arrays(bool, st.tuples(*[st.integers(1, 6)] * 3), fill=st.just(False)))
def test_the_box_of_a_mask_holds_every_true_voxel_and_touches_one_on_each_face(mask):
    if not mask.any():
        with pytest.raises(ValueError, match="at least one voxel"):
            Box.of(mask)
        return
    where = np.argwhere(mask)
    box = Box.of(mask)
    assert box.start == tuple(where.min(axis=0))
    assert box.stop == tuple(where.max(axis=0) + 1)
    assert mask[box.slices].shape == box.shape
    assert mask[box.slices].sum() == mask.sum()


def test_a_box_that_stops_before_it_starts_is_refused():
    with pytest.raises(ValueError, match=r"must not stop before it starts, got start \(0, 3, 0\)"):
        Box((0, 3, 0), (1, 2, 1))


def test_spacing_is_the_length_of_the_columns_of_an_oblique_affine():
    turn = np.deg2rad(30)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]) @ np.diag(
        [0.7, 0.8, -3]
    )
    np.testing.assert_allclose(spacing_of(affine), (0.7, 0.8, 3))


@given(arrays(float, (4, 3), elements=st.floats(-50, 50)), arrays(float, 3, elements=st.integers(-9, 9)))
def test_a_shifted_grid_counts_from_the_voxel_it_starts_at(voxels, start):
    affine = np.array([[0, -0.7, 0.1, 3], [1.5, 0, 0, -80], [0, 0.2, 4, 7], [0, 0, 0, 1.0]])
    np.testing.assert_allclose(
        transformed(shifted(affine, start), voxels), transformed(affine, voxels + start), atol=1e-9
    )
