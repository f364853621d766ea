"""Structures as they are and as they were found, in colours over the slices of a CT."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Integer
from matplotlib.figure import Figure

from vox2vec.figures.slices import SOFT_TISSUE_HU, VIEWS, draw_slice, figure_of_rows, upright
from vox2vec.figures.style import scale_bar, shade, write_on
from vox2vec.volume import Volume

_OPACITY = 0.6
_LEGEND_INCHES = 2.2


def segmentation_figure(
    volume: Volume,
    truth: Volume,
    found: Volume,
    names: Mapping[int, str],
    *,
    title: str | None = None,
) -> Figure:
    """The true structures above, the found ones below, on the slices that cross most of the true structures.

    Args:
        volume: a CT in HU, any orientation.
        truth, found: labels on any grid.
        names: number to structure; other numbers are not drawn.
    """
    scan = upright(volume)
    true, marked = (labels.onto(scan, order=0, fill=0).image for labels in (truth, found))
    point = scan.to_mm(_busiest(np.where(np.isin(true, list(names)), true, 0)))
    fig = figure_of_rows(scan, 2, title, margin_inches=_LEGEND_INCHES)
    colours = {number: shade(i) for i, number in enumerate(names)}
    for i, axes in enumerate(fig.axes):
        view = VIEWS[i % 3]
        draw_slice(axes, scan, view, point, grey=SOFT_TISSUE_HU)
        draw_slice(axes, scan, view, point, rgba=_coloured(true if i < 3 else marked, colours))
        if i % 3 == 0:
            write_on(axes, 0.02, 0.98, "true" if i < 3 else "found")
    scale_bar(fig.axes[0])
    step = min(0.05, 0.9 / max(len(names), 1))
    left = 1 - (_LEGEND_INCHES - 0.15) / fig.get_size_inches()[0]
    for row, (number, name) in enumerate(names.items()):
        fig.text(left, 0.92 - row * step, f"■ {name}", color=colours[number], fontsize=8, va="top")
    return fig


def _coloured(
    labels: Integer[np.ndarray, "x y z"], colours: Mapping[int, tuple[float, float, float]]
) -> Float[np.ndarray, "x y z 4"]:
    painted = np.zeros((*labels.shape, 4))
    for number, colour in colours.items():
        painted[labels == number] = (*colour, _OPACITY)
    return painted


def _busiest(labels: Integer[np.ndarray, "x y z"]) -> list[int]:
    """Along each axis the slice with most structures, of those the one with most of their voxels."""
    voxel = []
    for axis in range(3):
        slices = np.moveaxis(labels, axis, 0).reshape(labels.shape[axis], -1)
        counts = [(len(np.unique(plane[plane > 0])), int((plane > 0).sum())) for plane in slices]
        voxel.append(max(range(len(counts)), key=counts.__getitem__))
    return voxel
