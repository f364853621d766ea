"""The picture of a match: each cross in its own scan, the map bright where it is."""

import numpy as np
import pytest

from tests.inference.scans import blob, tiny_backbone
from vox2vec.figures.matching import LUNG_HU, match_figure
from vox2vec.inference.embed import embed


@pytest.fixture(scope="module")
def pair():
    scans = blob((30, 26, 20), 0), blob((26, 30, 22), 1)
    target = embed(scans[1], tiny_backbone((16, 16, 8)), precision="32", device="cpu", progress=False)
    return scans, target


def test_crosses_lie_at_the_point_and_at_its_match(pair):
    (source, target), embedding = pair
    found = embedding.grid.to_mm([11, 14, 9])
    point = source.to_mm([20, 5, 12])
    similarity = embedding.similarity(embedding.at([found])[0])
    fig = match_figure(source, point, target, found, similarity, title="a match")
    assert len(fig.axes) == 10  # three rows, and the colour bar
    for row, place in enumerate((point, found, found)):
        (cross,) = (line for line in fig.axes[3 * row].lines if line.get_marker() == "+")
        assert (cross.get_xdata()[0], cross.get_ydata()[0]) == tuple(place[:2])
    overlay = np.asarray(fig.axes[6].images[1].get_array())
    assert overlay[14, 11, :3].sum() == pytest.approx(overlay[..., :3].sum(axis=-1).max())


def test_a_point_in_the_lung_is_shown_in_the_lungs_window(pair):
    (source, target), embedding = pair
    dark = source.to_mm(np.argwhere(source.image < -900)[0])
    found = embedding.grid.to_mm([11, 14, 9])
    similarity = embedding.similarity(embedding.at([found])[0])
    shown = match_figure(source, dark, target, found, similarity).axes[0].images[0].get_clim()
    assert shown == LUNG_HU


def test_a_point_outside_is_refused(pair):
    (source, target), embedding = pair
    found = embedding.grid.to_mm([11, 14, 9])
    similarity = embedding.similarity(embedding.at([found])[0])
    with pytest.raises(ValueError, match="must lie inside the scan"):
        match_figure(source, [999.0, 0, 0], target, found, similarity)
