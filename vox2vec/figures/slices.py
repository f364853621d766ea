"""Axial, coronal and sagittal slices through a point, in true proportion, whatever the scan's axes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vox2vec.figures.style import GROUND, INK, MARK, figure, letter_the_borders, scale_bar
from vox2vec.geometry import Box
from vox2vec.preprocessing.orientation import canonical
from vox2vec.preprocessing.resampling import is_along_axes, resample
from vox2vec.recipe import PAPER
from vox2vec.volume import Volume

SOFT_TISSUE_HU = (-160.0, 240.0)
_INCHES = 3.6  # height of a row


@dataclass(frozen=True)
class View:
    name: str
    horizontal: int  # the patient's axis from left to right of the picture, drawn from its far end
    vertical: int
    letters: str  # left, right, below, above


# Radiological: the patient's right is on the left, and one looks from the feet; sagittal slices face left.
VIEWS = (View("axial", 0, 1, "RLPA"), View("coronal", 0, 2, "RLIS"), View("sagittal", 1, 2, "APIS"))


def slices_figure(
    volume: Volume,
    *,
    point_mm: Any = None,
    window_hu: tuple[float, float] = SOFT_TISSUE_HU,
    title: str | None = None,
) -> Figure:
    """Three slices of a CT through `point_mm` (3,), RAS+ millimetres; by default the middle of the body.

    Args:
        volume: HU, any orientation; oblique scans are turned to the patient's axes.
        window_hu: HU shown black and white.

    Raises:
        ValueError: the point lies outside the volume.
    """
    scan = upright(volume)
    point = middle_of_body(scan) if point_mm is None else np.asarray(point_mm, dtype=np.float64)
    fig = figure_of_rows(scan, 1, title)
    for axes, view in zip(fig.axes, VIEWS, strict=True):
        draw_slice(axes, scan, view, point, grey=window_hu)
        axes.set_title(f"{view.name}, {_position(view, point)}", color=INK, fontsize=9)
    scale_bar(fig.axes[0])
    return fig


def overlay_figure(
    volume: Volume,
    colours: Shaped[np.ndarray, "x y z rgba"],
    grid: Volume,
    *,
    point_mm: Any,
    title: str | None = None,
    mark: bool = False,
    margin_inches: float = 0.0,
) -> Figure:
    """The slices of a CT above, and below them the same with `colours` on the voxels of `grid` laid over.

    Args:
        colours: red, green, blue and opacity in [0, 1].
        point_mm: RAS+ millimetres (3,).
        mark: draw a cross at the point.
        margin_inches: left free at the right, for a colour bar.
    """
    scan = upright(volume).onto(grid)
    point = np.asarray(point_mm, dtype=np.float64)
    fig = figure_of_rows(scan, 2, title, margin_inches=margin_inches)
    for i, axes in enumerate(fig.axes):
        view = VIEWS[i % 3]
        draw_slice(axes, scan, view, point, grey=SOFT_TISSUE_HU)
        if i < 3:
            axes.set_title(f"{view.name}, {_position(view, point)}", color=INK, fontsize=9)
        else:
            draw_slice(axes, scan, view, point, rgba=colours)
        if mark:
            place = point[view.horizontal], point[view.vertical]
            axes.plot(*place, "+", color=MARK, markersize=11, markeredgewidth=2)
    scale_bar(fig.axes[0])
    return fig


def upright(volume: Volume) -> Volume:
    """The volume with its axes along right, anterior, superior; interpolated only where it is oblique."""
    turned = canonical(volume)
    return turned if is_along_axes(turned) else resample(turned, turned.spacing_mm)


def middle_of_body(scan: Volume, *, body_hu: float = PAPER.body_hu) -> np.ndarray:
    """The centre (3,) of the bounding box of the body, in millimetres; of the volume where there is no body."""
    return middle_of(scan.image >= body_hu, scan)


def middle_of(mask: Bool[np.ndarray, "x y z"], grid: Volume) -> np.ndarray:
    """The centre (3,) of a mask's bounding box on a grid, in millimetres; of the grid where the mask is empty."""
    box = Box.of(mask) if mask.any() else Box((0, 0, 0), grid.shape)
    return grid.to_mm((np.array(box.start) + np.array(box.stop) - 1) / 2)


def figure_of_rows(scan: Volume, rows: int, title: str | None, *, margin_inches: float = 0.0) -> Figure:
    """Empty axes for the three views in each row, wide as the patient."""
    extent = np.array(scan.shape) * scan.spacing_mm
    widths = [extent[view.horizontal] / max(extent[1], extent[2]) for view in VIEWS]
    width = _INCHES * sum(widths) + 0.6
    share = width / (width + margin_inches)
    height = (_INCHES + 0.3) * rows + (0.4 if title else 0.1)
    fig = figure(width + margin_inches, height)
    layout = fig.add_gridspec(
        rows, 3, width_ratios=widths, left=0.01 * share, right=0.99 * share, bottom=0.01,
        top=1 - (0.56 if title else 0.28) / height, wspace=0.03, hspace=0.04,
    )  # fmt: skip
    for row in range(rows):
        for column in range(3):
            fig.add_subplot(layout[row, column])
    if title:
        fig.suptitle(title, color=INK, fontsize=11, y=1 - 0.06 / height)
    return fig


def draw_slice(
    axes: Axes,
    scan: Volume,
    view: View,
    point_mm: np.ndarray,
    *,
    grey: tuple[float, float] | None = None,
    rgba: Shaped[np.ndarray, "x y z rgba"] | None = None,
) -> None:
    """The slice of an upright volume that holds the point, in millimetres; grey between two values, or colours."""
    voxel = np.floor(scan.to_voxels(point_mm) + 0.5).astype(int)
    if (voxel < 0).any() or (voxel >= scan.shape).any():
        ends = scan.to_mm([[-0.5] * 3, np.array(scan.shape) - 0.5]).round(1).tolist()
        raise ValueError(
            f"the point must lie inside the scan, {ends[0]} to {ends[1]} mm (RAS+), got {point_mm.tolist()}"
        )
    depth = ({0, 1, 2} - {view.horizontal, view.vertical}).pop()
    plane = np.take(scan.image if rgba is None else rgba, voxel[depth], axis=depth).swapaxes(0, 1)
    low, high = scan.to_mm([-0.5] * 3), scan.to_mm(np.array(scan.shape) - 0.5)
    h, v = view.horizontal, view.vertical
    axes.imshow(
        plane, origin="lower", extent=(low[h], high[h], low[v], high[v]), cmap="gray", interpolation="nearest",
        vmin=grey[0] if grey else None, vmax=grey[1] if grey else None,
    )  # fmt: skip
    axes.set_xlim(high[h], low[h])  # from the patient's right, or front, at the left of the picture
    axes.set_ylim(low[v], high[v])
    if rgba is None:
        axes.set_facecolor(GROUND)
        axes.set_axis_off()
        letter_the_borders(axes, view.letters)


def _position(view: View, point: np.ndarray) -> str:
    depth = ({0, 1, 2} - {view.horizontal, view.vertical}).pop()
    return f"{'xyz'[depth]} = {point[depth]:.0f} mm"
