"""Charts show the numbers they were given."""

import numpy as np

from vox2vec.figures.charts import curves_figure, dice_figure, loss_figure


def test_each_method_has_a_dot_at_its_dice_and_none_where_it_has_none():
    fig = dice_figure({"one": {"liver": 0.9, "spleen": 0.4}, "two": {"spleen": 0.7}}, title="Dice")
    (axes,) = fig.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["liver", "spleen"]
    one, two = (np.ma.filled(dots.get_offsets(), np.nan) for dots in axes.collections)
    np.testing.assert_allclose(one, [[0.9, 0], [0.4, 1]])
    assert np.isnan(two[0]).any()
    np.testing.assert_allclose(two[1], [0.7, 1])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first structure on top


def test_no_method_is_dropped_for_lack_of_colours():
    (axes,) = dice_figure({f"run {i}": {"liver": i / 10} for i in range(9)}).axes
    colours = {tuple(dots.get_facecolors()[0]) for dots in axes.collections}
    assert len(colours) == len(axes.collections) == 9


def test_the_loss_is_drawn_over_its_steps():
    (axes,) = loss_figure([10, 20, 30], [3.0, 2.0, 1.5]).axes
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xydata(), [[10, 3], [20, 2], [30, 1.5]])


def test_a_curve_passes_through_its_values_and_the_axis_names_each_place():
    curves = {"probe": {1.0: 0.2, 4.0: 0.4, 16.0: 0.5}, "from scratch": {4.0: 0.1, 40.0: 0.6}}
    (axes,) = curves_figure(curves, "scans", "Dice", log=True).axes
    assert {line.get_label(): dict(zip(*line.get_data(), strict=True)) for line in axes.lines} == curves
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "4", "16", "40"]
    assert (axes.get_xscale(), axes.get_ylim()[0]) == ("log", 0)


def test_a_curve_has_bars_where_a_spread_is_known():
    curves = {"probe": {1.0: 0.2, 4.0: 0.4}, "from scratch": {4.0: 0.1}}
    (axes,) = curves_figure(curves, "scans", "Dice", spread={"probe": {4.0: 0.05}}).axes
    (bars,) = (bar for bar in axes.collections if len(bar.get_segments()))
    np.testing.assert_allclose(bars.get_segments(), [[[4, 0.35], [4, 0.45]]])
