"""A point of one scan and where it was found in another, with the map of what is alike."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vox2vec.figures.slices import SOFT_TISSUE_HU, VIEWS, draw_slice, figure_of_rows, upright
from vox2vec.figures.style import INK, MAP, MARK, scale_bar, write_on
from vox2vec.inference.embedding import Embedding
from vox2vec.volume import Volume

LUNG_HU = (-1350.0, 150.0)
_LUNG_BELOW_HU = -400.0
_LOWEST = 0.0  # similarity drawn transparent
_BAR_INCHES = 0.7
_ROWS = ("source", "target", "similarity")


def draw_matches(
    folder: Path,
    scans: tuple[Volume, Volume],
    embeddings: tuple[Embedding, Embedding],
    names: Sequence[str],
    points_mm: Float64[np.ndarray, "v 3"],
    found_mm: Float64[np.ndarray, "v 3"],
    score: Float64[np.ndarray, " v"],
) -> Iterator[Path]:
    """Write a `match_figure` for each point of the first scan, `match_001.png` and on; yield each file."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (name, point, found, alike) in enumerate(zip(names, points_mm, found_mm, score, strict=True)):
        similarity = embeddings[1].similarity(embeddings[0].at([point])[0])
        path = folder / f"match_{i + 1:03d}.png"
        title = f"{name}: similarity {alike:.2f}"
        match_figure(scans[0], point, scans[1], found, similarity, title=title).savefig(path)
        yield path


def match_figure(
    source: Volume,
    point_mm: Any,
    target: Volume,
    found_mm: Any,
    similarity: Volume,
    *,
    window_hu: tuple[float, float] | None = None,
    title: str | None = None,
) -> Figure:
    """Slices of the source through the point, of the target through its match, and of the target under the map.

    Args:
        source, target: HU, any orientation.
        point_mm, found_mm: (3,), RAS+ millimetres, each inside its scan.
        similarity: of the target's voxels with the point's vector, as `Embedding.similarity` gives it.
        window_hu: shown black and white; by default soft tissue's, or lung's where the point lies in air or lung.

    Raises:
        ValueError: a point lies outside its scan.
    """
    scans = upright(source), upright(target)
    points = np.asarray(point_mm, dtype=np.float64), np.asarray(found_mm, dtype=np.float64)
    fig = figure_of_rows(max(scans, key=lambda scan: _extent(scan)[0]), 3, title, margin_inches=_BAR_INCHES)
    if window_hu is None:
        voxel = np.floor(scans[0].to_voxels(points[0]) + 0.5).astype(int).clip(0, np.array(scans[0].shape) - 1)
        window_hu = LUNG_HU if scans[0].image[tuple(voxel)] < _LUNG_BELOW_HU else SOFT_TISSUE_HU
    norm = Normalize(_LOWEST, 1)
    values = np.nan_to_num(similarity.image, nan=_LOWEST)
    colours = colormaps[MAP](norm(values))
    colours[..., 3] = np.clip(norm(values), 0, 1) * 0.8
    for i, axes in enumerate(fig.axes):
        row, view = i // 3, VIEWS[i % 3]
        scan, point = scans[min(row, 1)], points[min(row, 1)]
        draw_slice(axes, scan, view, point, grey=window_hu)
        if row == 2:
            draw_slice(axes, similarity, view, point, rgba=colours)
        axes.plot(point[view.horizontal], point[view.vertical], "+", color=MARK, markersize=12, markeredgewidth=2)
        if i % 3 == 0:
            write_on(axes, 0.02, 0.98, _ROWS[row])
        if i < 3:
            axes.set_title(view.name, color=INK, fontsize=9)
    scale_bar(fig.axes[0])
    right = 1 - _BAR_INCHES / fig.get_size_inches()[0]
    bar = fig.colorbar(ScalarMappable(norm, MAP), cax=fig.add_axes((right + 0.01, 0.05, 0.015, 0.25)))
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.set_label("cosine similarity", color=INK, fontsize=8)
    return fig


def _extent(scan: Volume) -> tuple[float, float, float]:
    x, y, z = (float(n * s) for n, s in zip(scan.shape, scan.spacing_mm, strict=True))
    return x, y, z
