"""How the figures look: dark ground, letters of orientation, a scale bar, colours safe for the colour-blind."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

GROUND = "black"
INK = "white"
MARK = "#E69F00"  # orange of Okabe and Ito, "Color Universal Design", 2008
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00")  # the same source
MAP = "magma"
DPI = 120
_OUTLINE = [withStroke(linewidth=2, foreground=GROUND)]


def figure(width: float, height: float) -> Figure:
    """An empty figure in inches, outside pyplot's global state."""
    fig = Figure(figsize=(width, height), dpi=DPI, facecolor=GROUND)
    FigureCanvasAgg(fig)
    return fig


def save_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write figures as NAME.png into `folder`, which is made; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in figures]
    for path, drawn in zip(paths, figures.values(), strict=True):
        drawn.savefig(path)
    return paths


def shade(index: int) -> tuple[float, float, float]:
    """The colour of the i-th structure or method: the palette's, then lighter and darker ones."""
    colour = np.array(to_rgb(PALETTE[index % len(PALETTE)]))
    turn = index // len(PALETTE) % 3
    red, green, blue = colour if turn == 0 else (colour + 1) / 2 if turn == 1 else colour / 2
    return float(red), float(green), float(blue)


def letter_the_borders(axes: Axes, letters: str) -> None:
    """Write the patient's directions at the left, right, lower and upper border, in this order."""
    places = [(0.01, 0.5, "left", "center"), (0.99, 0.5, "right", "center")]
    places += [(0.5, 0.01, "center", "bottom"), (0.5, 0.99, "center", "top")]
    for letter, (x, y, horizontal, vertical) in zip(letters, places, strict=True):
        write_on(axes, x, y, letter, ha=horizontal, va=vertical)


def write_on(axes: Axes, x: float, y: float, text: str, *, ha: str = "left", va: str = "top") -> None:
    """Text over a slice, at a place between 0 and 1, outlined so that it is read on bright tissue."""
    axes.text(x, y, text, transform=axes.transAxes, color=INK, fontsize=9, ha=ha, va=va, path_effects=_OUTLINE)


def scale_bar(axes: Axes, length_mm: float = 50) -> None:
    """A bar of `length_mm` in the lower corner, on axes whose unit is the millimetre."""
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    direction = 1 if x1 > x0 else -1
    start = x0 + 0.04 * (x1 - x0)
    height = y0 + 0.05 * (y1 - y0)
    axes.plot(
        [start, start + direction * length_mm], [height, height],
        color=INK, linewidth=2, solid_capstyle="butt", path_effects=[withStroke(linewidth=4, foreground=GROUND)],
    )  # fmt: skip
    axes.text(
        start + direction * length_mm / 2, height + 0.015 * (y1 - y0), f"{length_mm:g} mm",
        color=INK, fontsize=8, ha="center", va="bottom", path_effects=_OUTLINE,
    )  # fmt: skip
