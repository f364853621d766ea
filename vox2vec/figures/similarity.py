"""How alike every voxel is to one chosen voxel, as colours over the CT."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vox2vec.figures.slices import overlay_figure
from vox2vec.figures.style import INK, MAP
from vox2vec.inference.embedding import Embedding
from vox2vec.volume import Volume

_OPACITY = 0.75
_BAR_INCHES = 1.0


def similarity_figure(embedding: Embedding, volume: Volume, point_mm: Any, *, title: str | None = None) -> Figure:
    """Slices of the scan through a point, and below them the cosine similarity of every body voxel with the one there.

    Args:
        volume: the scan that was embedded, HU.
        point_mm: RAS+ millimetres (3,).

    Raises:
        ValueError: the point lies outside the body.
    """
    point = np.asarray(point_mm, dtype=np.float64)
    similarity = embedding.similarity(embedding.at(point[None], outside="raise")[0]).image
    known = np.isfinite(similarity) & embedding.body
    lowest = float(np.percentile(similarity[known], 5))
    scale = Normalize(lowest, 1.0)
    colours = colormaps[MAP](scale(np.where(known, similarity, lowest))).astype(np.float32)
    colours[..., 3] = _OPACITY * known
    fig = overlay_figure(
        volume, colours, embedding.grid, point_mm=point, title=title, mark=True, margin_inches=_BAR_INCHES
    )
    place = (1 - 0.92 * _BAR_INCHES / fig.get_figwidth(), 0.06, 0.012, 0.36)
    bar = fig.colorbar(ScalarMappable(scale, MAP), cax=fig.add_axes(place), format="%.3f")
    bar.set_label("cosine similarity", color=INK, fontsize=8)
    bar.ax.tick_params(colors=INK, labelsize=7)
    return fig
