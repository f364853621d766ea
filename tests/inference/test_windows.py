"""Windows over a volume."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vox2vec.inference.windows import Windows

sizes = st.tuples(*[st.integers(1, 90)] * 3)
patches = st.tuples(*[st.integers(1, 40)] * 3)


@given(shape=sizes, patch=patches, overlap=st.floats(0, 0.9))
def test_windows_cover_every_voxel_and_reach_beyond_the_volume_by_less_than_a_block(shape, patch, overlap):
    windows = Windows.over(shape, patch, overlap=overlap)
    for n, size, starts, block, p in zip(shape, windows.size, windows.starts, windows.block, patch, strict=True):
        covered = np.zeros(starts[-1] + size, int)
        for start in starts:
            covered[start : start + size] += 1
        assert covered[:n].all()
        assert len(covered) - n < block
        assert size == min(n, p)
        assert list(starts) == sorted(set(starts))
        assert starts[0] == 0
        assert all(start % block == 0 for start in starts)


@given(shape=sizes, patch=st.tuples(*[st.sampled_from([16, 32, 64])] * 3), overlap=st.sampled_from([0.25, 0.5, 0.75]))
def test_neighbours_overlap_as_asked(shape, patch, overlap):
    windows = Windows.over(shape, patch, overlap=overlap)
    for starts, p in zip(windows.starts, patch, strict=True):
        assert (np.diff(starts) <= p * (1 - overlap)).all()


def test_the_papers_volume_takes_240_windows():
    windows = Windows.over((350, 300, 200), (128, 128, 32))
    assert np.prod([len(s) for s in windows.starts]) == 240
    assert windows.block == (8, 8, 4)


def test_levels_stay_native_where_nothing_is_blended_and_are_refined_to_a_block_elsewhere():
    windows = Windows.over((100, 300, 200), (128, 128, 32))
    assert [windows.stride(i) for i in range(6)] == [
        (1, 1, 1), (2, 2, 2), (4, 4, 4), (8, 8, 4), (16, 8, 4), (32, 8, 4)
    ]  # fmt: skip


def test_the_weight_is_symmetric_and_falls_from_the_centre():
    weight = Windows.over((300, 300, 200), (128, 128, 32)).weight()
    np.testing.assert_allclose(weight, weight[::-1, ::-1, ::-1])
    assert (np.diff(weight[:8, 0, 0]) > 0).all()
    assert weight.min() > 0


@given(seed=st.integers(0, 99))
def test_exactly_the_windows_that_hold_a_body_voxel_are_taken(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((30, 25, 20), bool)
    mask[tuple(rng.integers(0, mask.shape, (2, 3)).T)] = True
    windows = Windows.over(mask.shape, (8, 8, 8))
    everywhere = {(x, y, z) for x in windows.starts[0] for y in windows.starts[1] for z in windows.starts[2]}
    holding = windows.holding(mask)
    slow = {s for s in everywhere if mask[tuple(slice(a, a + 8) for a in s)].any()}
    assert sorted(holding) == sorted(slow)
    assert [z for _, _, z in holding] == sorted(z for _, _, z in holding)


def test_an_impossible_overlap_is_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\), got 1"):
        Windows.over((9, 9, 9), (4, 4, 4), overlap=1)
