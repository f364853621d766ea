"""Figures: the patient upright, unmirrored and in true proportion; colours that mean what they say."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.inference.scans import blob, tiny_backbone
from vox2vec.data.phantom import phantom
from vox2vec.figures.pca import pca_figure, principal_components
from vox2vec.figures.similarity import similarity_figure
from vox2vec.figures.slices import slices_figure
from vox2vec.inference.embed import embed


@pytest.fixture(scope="module")
def scan():
    return blob((30, 26, 20), 0)


@pytest.fixture(scope="module")
def embedding(scan):
    return embed(scan, tiny_backbone((16, 16, 8)), precision="32", device="cpu", progress=False)


@pytest.mark.parametrize("axis_codes", ["RAS", "LPS", "PIR", "SLA"])
def test_slices_show_right_on_the_left_and_true_millimetres(axis_codes):
    """The phantom's liver is on its right, its spine behind, its lungs above."""
    patient = phantom(0, spacing_mm=(5, 5, 6), axis_codes=axis_codes)
    fig = slices_figure(patient.volume, point_mm=patient.landmarks["liver"])
    axial, coronal, sagittal = fig.axes
    for axes in fig.axes:
        assert axes.get_aspect() in ("equal", 1.0)
    extent_mm = np.ptp(np.abs(patient.volume.to_mm([[-0.5] * 3, np.array(patient.volume.shape) - 0.5])), axis=0)
    assert extent_mm.shape == (3,)
    (left, right), (below, above) = axial.get_xlim(), axial.get_ylim()
    assert left > right  # right is +x in RAS+
    assert (left - right, above - below) == pytest.approx((360, 250))
    assert np.ptp(coronal.get_ylim()) == pytest.approx(420)
    assert np.ptp(sagittal.get_xlim()) == pytest.approx(-250) or sagittal.get_xlim()[0] > sagittal.get_xlim()[1]
    for axes, letters in ((axial, "RLPA"), (coronal, "RLIS"), (sagittal, "APIS")):
        assert "".join(t.get_text() for t in axes.texts)[:4] == letters
    assert _value(axial, patient.landmarks["liver"][:2]) > 60  # enhanced liver, where it is drawn
    mirrored = patient.landmarks["liver"][:2] * [-1, 1]
    assert _value(axial, mirrored) < _value(axial, patient.landmarks["liver"][:2])


def test_an_oblique_scan_is_drawn_upright():
    patient = phantom(0, spacing_mm=(5, 5, 6), rotation_deg=20.0)
    fig = slices_figure(patient.volume, point_mm=patient.landmarks["spleen"])
    upright = phantom(0, spacing_mm=(5, 5, 6))
    expected = slices_figure(upright.volume, point_mm=patient.landmarks["spleen"])
    for place in ([50, 20], [-60, -50], [0, -62]):
        assert abs(_value(fig.axes[0], place) - _value(expected.axes[0], place)) < 150


def test_principal_components_level_by_level_equal_those_of_the_whole_vectors(embedding):
    components, body = principal_components(embedding, sample=10**9), embedding.body
    places = embedding.grid.to_mm(np.argwhere(body))
    vectors = embedding.at(places).double()
    centred = vectors - vectors.mean(dim=0)
    parts = centred.split([level.shape[0] for level in embedding.pyramid], dim=1)
    scaled = torch.cat([part / part.square().sum(dim=1).mean().sqrt() for part in parts], dim=1)
    _, singular, axes = torch.linalg.svd(scaled, full_matrices=False)
    for k in range(3):
        expected = (scaled @ axes[k]).numpy()
        found = components[k][body]
        sign = np.sign((expected * found).sum())
        np.testing.assert_allclose(found, sign * expected, atol=2e-3 * float(singular[k]) / len(vectors) ** 0.5 + 1e-3)


def test_the_pca_figure_colours_the_body_and_only_it(scan, embedding):
    fig = pca_figure(embedding, scan)
    assert len(fig.axes) == 6
    overlay = fig.axes[3].images[1].get_array()
    assert overlay.shape[-1] == 4
    assert np.unique(overlay[..., 3]).tolist() == pytest.approx([0, 0.8])
    drawn = overlay[..., 3] > 0
    assert any(np.array_equal(drawn, embedding.body[:, :, z].T) for z in range(embedding.shape[2]))
    coloured = overlay[overlay[..., 3] > 0][:, :3]
    assert coloured.min() < 0.1
    assert coloured.max() > 0.9


def test_the_similarity_figure_is_brightest_at_the_marked_point(scan, embedding):
    column, row, z = np.argwhere(embedding.body)[3000]
    point = embedding.grid.to_mm([column, row, z])
    fig = similarity_figure(embedding, scan, point)
    overlay = np.asarray(fig.axes[3].images[1].get_array())
    assert overlay[row, column, :3].sum() == pytest.approx(overlay[..., :3].sum(axis=-1).max())
    (cross,) = (line for line in fig.axes[3].lines if line.get_marker() == "+")
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == tuple(point[:2])


def test_the_colour_bar_lies_beside_the_slices(scan, embedding):
    fig = similarity_figure(embedding, scan, embedding.grid.to_mm([14, 12, 9]))
    fig.canvas.draw()
    *slices, bar = (axes.get_window_extent() for axes in fig.axes)
    assert all(axes.x1 < bar.x0 for axes in slices)


def test_points_outside_are_refused(scan, embedding):
    with pytest.raises(ValueError, match=r"must lie inside the scan, .* got \[999.0, 0.0, 0.0\]"):
        slices_figure(scan, point_mm=[999.0, 0, 0])
    with pytest.raises(ValueError, match="all points must lie in the body"):
        similarity_figure(embedding, scan, [999.0, 0, 0])


def test_figures_leave_pyplot_alone():
    code = (
        "import sys, numpy as np; from vox2vec import Volume; from vox2vec.figures.slices import slices_figure\n"
        "slices_figure(Volume(np.zeros((4, 4, 4)), np.eye(4))); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _value(axes, place) -> float:
    """What is drawn at a place in millimetres."""
    (x0, x1, y0, y1), image = axes.images[0].get_extent(), np.asarray(axes.images[0].get_array())
    column = int((place[0] - x0) / (x1 - x0) * image.shape[1])
    row = int((place[1] - y0) / (y1 - y0) * image.shape[0])
    return float(image[row, column])
