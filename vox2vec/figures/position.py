"""Where in a reference each slice of a scan lies: the curve between coronal slices of both."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vox2vec.figures.slices import SOFT_TISSUE_HU, VIEWS, draw_slice, middle_of_body, upright
from vox2vec.figures.style import GROUND, INK, PALETTE, figure, scale_bar
from vox2vec.volume import Volume

_CORONAL = VIEWS[1]
_INCHES = 4.2


def position_figure(
    scan: Volume,
    reference: Volume,
    slices_mm: Float[np.ndarray, " s"],
    reference_mm: Float[np.ndarray, " s"],
    spread_mm: Float[np.ndarray, " s"],
    fitted_mm: Float[np.ndarray, " s"],
    *,
    title: str | None = None,
) -> Figure:
    """The reference at the left, the curve in the middle, the scan at the right, lying down along the curve's axis.

    Args:
        scan, reference: HU, any orientation.
        slices_mm, reference_mm, spread_mm, fitted_mm: of an `AxialPosition`.
    """
    scans = upright(reference), upright(scan)
    extents = [np.array(one.shape) * one.spacing_mm for one in scans]
    widths = [_INCHES * extent[0] / extent[2] for extent in extents]
    widths = [min(max(width, 1.5), 6.0) for width in widths]
    fig = figure(sum(widths) + _INCHES + 2.2, _INCHES + 1.1)
    layout = fig.add_gridspec(
        1, 3, width_ratios=[widths[0], _INCHES, widths[1]], left=0.01, right=0.99, bottom=0.12, top=0.88, wspace=0.25
    )
    left, middle, right = (fig.add_subplot(layout[0, i]) for i in range(3))
    for axes, one, name in ((left, scans[0], "reference"), (right, scans[1], "scan")):
        draw_slice(axes, one, _CORONAL, middle_of_body(one), grey=SOFT_TISSUE_HU)
        axes.set_title(name, color=INK, fontsize=10)
        scale_bar(axes)
    middle.set_facecolor(GROUND)
    middle.errorbar(
        slices_mm, reference_mm, yerr=spread_mm, fmt="o", markersize=4, color=PALETTE[1], elinewidth=1,
        label="median of the slice's voxels, middle half",
    )  # fmt: skip
    middle.plot(slices_mm, fitted_mm, color=PALETTE[0], linewidth=2, label="nearest curve that does not turn back")
    middle.set_xlabel("slice of the scan, z in mm", color=INK)
    middle.set_ylabel("place in the reference, z in mm", color=INK)
    middle.tick_params(colors=INK)
    middle.grid(color="0.25", linewidth=0.5)
    for spine in middle.spines.values():
        spine.set_color("0.5")
    middle.legend(facecolor=GROUND, edgecolor="0.5", labelcolor=INK, fontsize=7, loc="upper left")
    if title:
        fig.suptitle(title, color=INK, fontsize=11)
    return fig
