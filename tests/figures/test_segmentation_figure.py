"""The overlay of labels: the slices that say most, colours where the labels are, truth above."""

import numpy as np
import pytest

from vox2vec.data.phantom import phantom
from vox2vec.data.sources.structures import BTCV_ORGANS
from vox2vec.figures.segmentation import segmentation_figure
from vox2vec.figures.style import shade
from vox2vec.volume import Volume


@pytest.mark.parametrize("axis_codes", ["RAS", "LPI"])
def test_truth_is_above_what_was_found_below_each_in_its_colour(axis_codes):
    patient = phantom(0, spacing_mm=(6, 6, 6), axis_codes=axis_codes)
    found = Volume(np.where(patient.labels.image == 6, 6, 0).astype(np.uint8), patient.labels.affine)
    fig = segmentation_figure(patient.volume, patient.labels, found, BTCV_ORGANS, title="a patient")
    assert len(fig.axes) == 6
    liver, aorta = shade(5), shade(7)
    for row, wanted in ((0, (True, True)), (3, (True, False))):
        painted = np.concatenate([_colours(axes) for axes in fig.axes[row : row + 3]])
        for colour, is_there in zip((liver, aorta), wanted, strict=True):
            assert np.isclose(painted, colour).all(axis=1).any() == is_there
    axial = fig.axes[0]
    left, right = axial.get_xlim()
    overlay = np.asarray(axial.images[1].get_array())
    columns = np.nonzero(np.isclose(overlay[..., :3], liver).all(axis=2) & (overlay[..., 3] > 0))[1]
    x0, x1, _, _ = axial.images[1].get_extent()
    assert (x0 + (columns.mean() + 0.5) / overlay.shape[1] * (x1 - x0)) > (left + right) / 2  # on the patient's right
    legend = [text.get_text() for text in fig.texts]
    assert [name for name in BTCV_ORGANS.values() if f"■ {name}" not in legend] == []


def test_structures_have_colours_of_their_own():
    assert len({shade(i) for i in range(18)}) == 18


def _colours(axes) -> np.ndarray:
    overlay = np.asarray(axes.images[1].get_array())
    return overlay[overlay[..., 3] > 0][:, :3]
