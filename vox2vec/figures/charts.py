"""Numbers as charts: Dice of each structure, a loss as it falls, curves of several methods."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vox2vec.figures.style import GROUND, INK, PALETTE, figure, shade

_ROW_INCHES = 0.3


def dice_figure(scores: Mapping[str, Mapping[str, float]], *, title: str | None = None) -> Figure:
    """A row for each structure, a dot for each of the compared methods, joined by a line.

    Args:
        scores: method to structure to Dice in [0, 1]; a structure that a method lacks has no dot.
    """
    names = list(dict.fromkeys(name for table in scores.values() for name in table))
    fig = figure(7.0, _ROW_INCHES * len(names) + 1.2)
    axes = fig.add_subplot()
    table = np.array([[method.get(name, np.nan) for name in names] for method in scores.values()])
    rows = np.arange(len(names))
    for row, column in zip(rows, table.T, strict=True):
        known = column[np.isfinite(column)]
        if len(known):
            axes.plot([known.min(), known.max()], [row, row], color="0.4", linewidth=1.5, zorder=1)
    for i, (method, column) in enumerate(zip(scores, table, strict=True)):
        axes.scatter(column, rows, s=36, color=shade(i), label=method, zorder=2)
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("Dice", color=INK)
    _dark(fig, axes, title)
    return fig


def loss_figure(steps: Sequence[int], losses: Sequence[float], *, title: str | None = None) -> Figure:
    """The loss at each logged step."""
    fig = figure(7.0, 2.8)
    axes = fig.add_subplot()
    axes.plot(steps, losses, color=PALETTE[0], linewidth=1.5, label="training loss")
    axes.set_xlabel("step", color=INK)
    axes.set_ylabel("loss", color=INK)
    _dark(fig, axes, title)
    return fig


def curves_figure(
    curves: Mapping[str, Mapping[float, float]],
    x_label: str,
    y_label: str,
    *,
    spread: Mapping[str, Mapping[float, float]] | None = None,
    log: bool = False,
) -> Figure:
    """A line for each method over the places x where it has a value.

    Args:
        curves: method to x to y.
        spread: method to x to half the length of the bar drawn there; none where it has none.
        log: the x axis is logarithmic, with a tick at each x.
    """
    fig = figure(9.0, 4.2)
    axes = fig.add_subplot()
    for i, (method, curve) in enumerate(curves.items()):
        axes.plot(list(curve), list(curve.values()), color=shade(i), marker="o", linewidth=1.5, label=method)
        bars = (spread or {}).get(method, {})
        axes.errorbar(list(bars), [curve[x] for x in bars], list(bars.values()), fmt="none", ecolor=shade(i), capsize=3)
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    axes.set_ylim(bottom=0)
    if log:
        places = sorted({x for curve in curves.values() for x in curve})
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{x:g}" for x in places])
        axes.minorticks_off()
    _dark(fig, axes, None, legend={"loc": "center left", "bbox_to_anchor": (1.01, 0.5)})
    return fig


def _dark(fig: Figure, axes: Axes, title: str | None, *, legend: Mapping[str, Any] | None = None) -> None:
    axes.set_facecolor(GROUND)
    axes.tick_params(colors=INK)
    axes.grid(axis="both", color="0.25", linewidth=0.5)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color("0.5")
    axes.legend(facecolor=GROUND, edgecolor="0.5", labelcolor=INK, fontsize=8, **(legend or {}))
    if title:
        axes.set_title(title, color=INK, fontsize=11)
    fig.tight_layout()
