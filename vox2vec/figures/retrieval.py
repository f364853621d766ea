"""A place that was asked about, and the most similar places of other scans, as axial crops."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vox2vec.figures.slices import SOFT_TISSUE_HU, VIEWS, draw_slice, upright
from vox2vec.figures.style import INK, MARK, figure, scale_bar, write_on
from vox2vec.volume import Volume

_AXIAL = VIEWS[0]
_INCHES = 2.6
_COLUMNS = 4


def retrieval_figure(
    places: Sequence[tuple[Volume, Any, str]],
    *,
    radius_mm: float = 75.0,
    window_hu: tuple[float, float] = SOFT_TISSUE_HU,
    title: str | None = None,
) -> Figure:
    """Axial slices through each place, all of one size; the one that was asked about comes first.

    Args:
        places: scan in HU, RAS+ millimetres (3,), and what to write on it.
        radius_mm: half the width of each crop.
    """
    rows = -(-len(places) // _COLUMNS)
    columns = min(_COLUMNS, len(places))
    head = 0.35 if title else 0.0
    height = _INCHES * rows + head
    fig = figure(_INCHES * columns, height)
    for i, (volume, point_mm, text) in enumerate(places):
        row, column = divmod(i, _COLUMNS)
        place = (column / columns, (rows - 1 - row) * _INCHES / height, 0.985 / columns, 0.985 * _INCHES / height)
        axes = fig.add_axes(place)
        point = np.asarray(point_mm, dtype=np.float64)
        draw_slice(axes, upright(volume), _AXIAL, point, grey=window_hu)
        axes.set_xlim(point[0] + radius_mm, point[0] - radius_mm)
        axes.set_ylim(point[1] - radius_mm, point[1] + radius_mm)
        axes.plot(point[0], point[1], "+", color=MARK, markersize=12, markeredgewidth=2)
        write_on(axes, 0.03, 0.97, text)
        if i == 0:
            scale_bar(axes)
    if title:
        fig.suptitle(title, color=INK, fontsize=11, y=1 - 0.06 / height)
    return fig
