import pandas as pd
import pytest
from making import ROBUST, SHIFTED, rows, views
from matplotlib.backends.backend_agg import FigureCanvasAgg

from medpos.core.labels import ACDC
from medpos.plotting.style import inline_svg
from medpos.report.figures import bland_altman, probe_curves, severity_curves, shift_curves
from medpos.transforms.position.probe import DISTANCES


def table(conditions, model="a", seed=0):
    found = pd.DataFrame(rows(views(ACDC, (48, 40, 8), ("ED",)), ACDC, conditions))
    return found.assign(model=model, seed=seed)


def test_one_model_has_a_line_with_a_band_for_each_organ():
    long = table(ROBUST)
    [axes] = severity_curves(long).axes
    assert [line.get_color() for line in axes.lines] == [label.color for label in ACDC[1:]]
    x, y = axes.lines[0].get_data()
    assert list(x) == [0, 1, 2, 3, 4, 5]
    means = long[long["organ"] == "rv_cavity"].groupby("severity")["dice"].mean()
    assert list(y) == pytest.approx(list(means))
    low, high = axes.collections[0].get_paths()[0].get_extents().intervaly
    assert low < min(y) < max(y) < high


def test_several_models_have_a_row_for_each_organ():
    figure = severity_curves(pd.concat([table(ROBUST, "a"), table(ROBUST, "b")]))
    assert [axes.get_ylabel() for axes in figure.axes] == [f"Dice, {label.title}" for label in ACDC[1:]]
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2]
    assert figure.axes[0].get_title() == "Gaussian noise"
    assert figure.axes[-1].get_xlabel() == "severity"


def test_only_models_tested_on_degraded_images_are_drawn():
    other_seed = table(ROBUST[:1], "a", seed=1).assign(dice=0.0)
    figure = severity_curves(pd.concat([table(ROBUST, "a"), other_seed, table(ROBUST[:1], "b")]))
    [axes] = figure.axes
    assert axes.lines[0].get_ydata()[0] == severity_curves(table(ROBUST)).axes[0].lines[0].get_ydata()[0]


def test_shifts_have_a_panel_for_each_axis():
    right, down = shift_curves(table(SHIFTED)).axes
    assert (right.get_xlabel(), down.get_xlabel()) == ("shift to the right, px", "shift down, px")
    assert list(right.lines[0].get_xdata()) == [-8, 0, 8]


def test_probes_of_position_have_their_own_figure_in_px():
    probes = [("none", 0, "0"), ("position_zeroed", 1, "0"), *(("position_shifted_x", s, "0") for s in range(1, 5))]
    [axes] = probe_curves(table(probes)).axes
    assert axes.get_title() == "position shifted x"
    assert list(axes.lines[0].get_xdata()) == [0, *DISTANCES]
    assert severity_curves(table(probes)) is None
    assert probe_curves(table(probes[:2])) is None


def test_nothing_to_draw():
    assert severity_curves(table(SHIFTED)) is None
    assert shift_curves(table(ROBUST)) is None


def test_bland_altman():
    figure = bland_altman(
        [10, 20, 30], [11, 22, 36], {"bias": 3.0, "lower": -2.0, "upper": None}, "mL", ["a", "b", "c"]
    )
    [axes] = figure.axes
    assert axes.collections[0].get_offsets().tolist() == [[10.5, 1], [21, 2], [33, 6]]
    assert [line.get_ydata()[0] for line in axes.lines] == [3, -2]
    assert {"a", "b", "c", "bias 3", "lower -2"} == {text.get_text() for text in axes.texts}


def test_inline_figures_have_the_text_color_of_the_page_and_a_label():
    svg = inline_svg(severity_curves(table(ROBUST)), "Own name", 'a "quoted" <b> \\1')
    assert svg.startswith("<svg viewBox=")
    assert 'aria-label="a &#34;quoted&#34; &lt;b&gt; \\1"' in svg
    assert "currentColor" in svg
    assert "1a1a1b" not in svg.lower()
    assert 'id="own-name-figure_1"' in svg


@pytest.mark.parametrize("predicted", [[1.1, 1.8, 3.3], [1, 2, 3], [0.2, 2.2, 1.0], [3.0, 2.9, 2.8]])
def test_labels_stay_inside_the_frame(predicted):
    names = ["a_long_name_of_a_case", "W" * 80, "a_third_long_name"]
    found = {"bias": 0.07, "lower": -0.42, "upper": 0.56}
    figure = bland_altman([1, 2, 3], predicted, found, "ml", names)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    [axes] = figure.axes
    frame = axes.get_window_extent(renderer)
    drawn = [text.get_window_extent(renderer) for text in axes.texts]
    assert len(drawn) == 6
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in drawn)
    assert all(frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in drawn)
