"""A registration to look at: before and after, in squares of both scans, and as a bent grid."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vox2vec.figures.matching import LUNG_HU
from vox2vec.figures.slices import SOFT_TISSUE_HU, VIEWS, View, draw_slice, figure_of_rows, middle_of_body, upright
from vox2vec.figures.style import INK, MARK, scale_bar, write_on
from vox2vec.volume import Volume

_SQUARE_MM = 30.0
_LINE_MM = 12.0  # from line to line of the grid
_AIR_HU, _LUNG_BELOW_HU = -970.0, -400.0
_LUNG_SHARE = 0.3  # of what is no air: then the lung's window is taken


def registration_figures(
    fixed: Volume, moving: Volume, moved: Volume, places: Callable[[np.ndarray], np.ndarray]
) -> dict[str, Figure]:
    """`before_and_after`, `checkerboard` and `grid`, three slices through the middle of the fixed scan's body each.

    Args:
        fixed, moving: HU, any orientation.
        moved: the moving scan on the fixed one's grid.
        places: takes points (v, 3) of the fixed scan to the moving one, RAS+ millimetres.
    """
    scan = upright(fixed)
    other, still = moved.onto(scan), moving.onto(scan, fill=-1024)
    point = middle_of_body(scan)
    inside = scan.image[scan.image > _AIR_HU]
    window = LUNG_HU if np.mean(inside < _LUNG_BELOW_HU) > _LUNG_SHARE else SOFT_TISSUE_HU
    title = "Where the two differ they are coloured: fixed orange, moving blue"
    colours = [_both(scan.image, one.image, window) for one in (still, other)]
    pair = _drawn(scan, point, title, [("before", colours[0]), ("after", colours[1])])
    squares = _checkered(scan, other)
    board = figure_of_rows(scan, 1, "Squares of the fixed scan and of the moved one")
    bent = figure_of_rows(
        scan, 1, "Where the lines of the fixed scan's grid lie in the moving scan, less the mean shift"
    )
    for axes, view in zip(board.axes, VIEWS, strict=True):
        draw_slice(axes, squares, view, point, grey=window)
    for axes, view in zip(bent.axes, VIEWS, strict=True):
        draw_slice(axes, scan, view, point, grey=window)
        for line in _lines(scan, view, point, places):
            axes.plot(line[:, 0], line[:, 1], color=MARK, linewidth=0.6)
    for fig in (board, bent):
        scale_bar(fig.axes[0])
    return {"before_and_after": pair, "checkerboard": board, "grid": bent}


def _drawn(
    scan: Volume, point: np.ndarray, title: str, rows: list[tuple[str, Float[np.ndarray, "x y z rgba"]]]
) -> Figure:
    fig = figure_of_rows(scan, len(rows), title)
    for i, axes in enumerate(fig.axes):
        name, colours = rows[i // 3]
        draw_slice(axes, scan, VIEWS[i % 3], point, grey=SOFT_TISSUE_HU)
        draw_slice(axes, scan, VIEWS[i % 3], point, rgba=colours)
        if i % 3 == 0:
            write_on(axes, 0.02, 0.98, name)
        if i < 3:
            axes.set_title(VIEWS[i].name, color=INK, fontsize=9)
    scale_bar(fig.axes[0])
    return fig


def _both(one: np.ndarray, other: np.ndarray, window: tuple[float, float]) -> Float[np.ndarray, "x y z rgba"]:
    """Grey where both are alike; orange where the first is brighter, blue where the other is."""
    low, high = window
    a, b = (np.clip((image - low) / (high - low), 0, 1).astype(np.float32) for image in (one, other))
    return np.stack([a, (a + b) / 2, b, np.ones_like(a)], axis=-1)


def _checkered(scan: Volume, other: Volume) -> Volume:
    """Cubes of both in turn."""
    numbers = [np.floor(np.arange(n) * s / _SQUARE_MM) for n, s in zip(scan.shape, scan.spacing_mm, strict=True)]
    x, y, z = np.meshgrid(*numbers, indexing="ij", sparse=True)
    return Volume(np.where((x + y + z) % 2 == 0, scan.image, other.image), scan.affine)


def _lines(
    scan: Volume, view: View, point: np.ndarray, places: Callable[[np.ndarray], np.ndarray]
) -> list[Float[np.ndarray, "n 2"]]:
    """Lines of a slice's grid, in the picture's two axes, where they lie after the map, the mean shift taken off."""
    h, v = view.horizontal, view.vertical
    ends = scan.to_mm([[0.0] * 3, np.array(scan.shape) - 1.0])
    steps = [np.arange(ends[0, a], ends[1, a], _LINE_MM) for a in (h, v)]
    grid = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1)
    points = np.tile(point, (*grid.shape[:2], 1))
    points[..., [h, v]] = grid
    moved = places(points.reshape(-1, 3)).reshape(points.shape)
    flat = (moved - (moved - points).mean(axis=(0, 1)))[..., [h, v]]
    return [*flat, *flat.swapaxes(0, 1)]
