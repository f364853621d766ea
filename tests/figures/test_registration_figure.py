"""The pictures of a registration: alike is grey, squares are of both scans, a still grid is straight."""

import numpy as np

from tests.inference.scans import blob
from vox2vec.figures.registration import registration_figures
from vox2vec.volume import Volume


def test_alike_is_grey_and_a_still_grid_is_straight():
    scan = blob((60, 50, 40), 0)
    other = blob((60, 50, 40), 1)
    drawn = registration_figures(scan, other, scan, lambda points: points + np.array([3.0, 0, 0]))
    assert list(drawn) == ["before_and_after", "checkerboard", "grid"]
    before, after = (np.asarray(drawn["before_and_after"].axes[i].images[1].get_array()) for i in (0, 3))
    assert np.ptp(after[..., :3], axis=-1).max() == 0
    assert np.ptp(before[..., :3], axis=-1).max() > 0.5
    lines = drawn["grid"].axes[0].lines
    assert sum(np.ptp(line.get_xdata()) < 1e-9 or np.ptp(line.get_ydata()) < 1e-9 for line in lines) >= 6


def test_squares_alternate_between_the_scans():
    one, other = (Volume(np.full((60, 60, 30), hu, np.int16), np.diag([1.0, 1, 2, 1])) for hu in (0, 100))
    shown = registration_figures(one, one, other, lambda points: points)["checkerboard"].axes[0].images[0].get_array()
    assert sorted(np.unique(np.asarray(shown)).tolist()) == [0, 100]
    assert shown[10, 10] != shown[10, 40]
