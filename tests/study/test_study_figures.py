"""Draw the figures of a study."""

import numpy as np
import pandas as pd
import pytest
from running import BUNDLES, kept_state

from medpos.metrics.intervals import Estimate
from medpos.statistics.criteria import Criterion
from medpos.statistics.effects import compare_models, summarize_over_seeds
from medpos.statistics.judging import Part
from medpos.statistics.verdict import Finding
from medpos.study import forest, variance
from medpos.study.figures import draw_differences, draw_images, draw_noticed, histogram
from medpos.study.images import Intensities, degrade_images
from medpos.study.tables import noticed_tables


def test_a_histogram_has_readable_ticks():
    edges = np.linspace(-2, 2, 5)
    found = Intensities("jsrt", False, 1, edges, np.array([0.001, 0.1, 0.5, 0.02]), np.array([[-1.0, 1.0]]))
    figure = histogram([found], [1.0, 100.0]).figure
    figure.draw_without_rendering()
    [axes] = figure.axes
    texts = [label.get_text() for label in axes.get_yticklabels()]
    assert "0.01" in texts
    assert not [text for text in texts if "$" in text]
    assert len(axes.lines) == 2  # -1 and 1; 100 lies outside


def degraded(data, folder, **overrides):
    with kept_state():
        return degrade_images(
            data, BUNDLES / f"{data}.json", {"dataset_dir": str(folder), "image_size": 32, **overrides}
        )


def test_figure_1_shows_every_kind_and_severity_of_both_data_sets(prepared):
    found = [degraded(data, prepared[data]) for data in ("jsrt", "acdc")]
    drawn = draw_images(found, [])
    assert [drawing.name for drawing in drawn] == ["degraded_jsrt", "degraded_acdc"]
    for drawing, measures in zip(drawn, found, strict=True):
        shown = [axes.images[0].get_array() for axes in drawing.figure.axes]
        assert len(shown) == 3 * 6
        assert all(np.array_equal(shown[0], shown[row]) for row in (6, 12))  # each row begins with the clean image
        assert len({image.tobytes() for image in shown}) == 1 + 3 * 5
        assert [axes.get_title() for axes in drawing.figure.axes[12:]] == ["clean", "250", "100", "50", "30", "15"]
        assert "PHANTOMS" in drawing.title
        assert (measures.quantities["growth"] > 0).all()
        assert measures.changes.shape == (len(measures.quantities["growth"]), 3, 5)


def test_strengths_out_of_order_do_not_grow(prepared):
    found = degraded("jsrt", prepared["jsrt"], degradation_table={"gaussian_blur": [1, 2, 0.5, 3, 4]})
    assert found.examples.shape == (1, 6, 32, 32)
    assert (found.quantities["growth"] < 0).all()


def estimate(value):
    return Estimate(value, 0.01, 10.0, 11, 3)


def texts(figure):
    [axes] = figure.axes
    return [label.get_text().strip() for label in axes.get_yticklabels()], [text.get_text() for text in axes.texts]


def test_the_forest_says_where_an_organ_has_no_value():
    about = Criterion("a less b above zero", model="a", minus="b", low=0.0)
    organs = (("heart", Estimate(None, None, None, 0, 0)),)
    [drawn] = forest.draw([Finding("jsrt", about, "confirmed", (Part("clean", estimate(0.04), 11),), organs=organs)])
    assert texts(drawn.figure) == (
        ["a less b above zero", "mean of organs", "heart"],
        ["0.040 (0.018 to 0.062), n = 11", "no value"],
    )
    assert "heart no value" in drawn.alt


def test_the_forest_shows_each_difference_with_interval_range_margin_and_n():
    about = Criterion("a less b above zero", model="a", minus="b", low=0.0, margin=0.05)
    organs = (("heart", estimate(0.1)), ("rv_cavity", estimate(-0.02)))
    single = Finding("jsrt", about, "confirmed", (Part("clean", estimate(0.04), 11),), organs=organs)
    parts = (Part("shift 8 px", estimate(0.2), 9), Part("shift 16 px", estimate(0.3), 8))
    several = Finding(
        "jsrt",
        Criterion("b loses", model="b", minus_conditions="clean", high=0.0),
        "mixed",
        parts,
        1,
        organs=organs[:1],
    )
    level = Finding(
        "jsrt", Criterion("a is good", model="a", low=0.5), "confirmed", (Part("clean", estimate(0.9), 11),)
    )
    missing = Finding("acdc", about, "not measured")
    [drawn] = forest.draw([single, several, level, missing])
    assert drawn.name == "forest_jsrt"
    labels, numbers = texts(drawn.figure)
    assert labels == [
        *("a less b above zero", "mean of organs", "heart", "RV cavity"),
        *("b loses", "shift 8 px", "shift 16 px", "heart, shift 16 px"),
    ]
    assert numbers[0] == "0.040 (0.018 to 0.062), n = 11"
    assert len(numbers) == 6
    [axes] = drawn.figure.axes
    assert sum(line.get_linestyle() == "--" and set(line.get_xdata()) == {0.05} for line in axes.lines) == 3
    assert axes.get_xlim()[1] < 0.5  # the level of 0.9 is no difference
    assert "RV cavity -0.020" in drawn.alt


def test_curves_of_differences_stand_beside_the_levels():
    rng = np.random.default_rng(0)
    rows = [
        {
            "data": "jsrt", "model": model, "seed": 0, "case": f"c{n}", "subject": f"c{n}", "organ": "heart",
            "degradation": "gaussian_blur" if severity else "none", "severity": severity, "shift": "0",
            "dice": (0.9 if model == "a" else 0.8) - severity * 0.1 * (model == "a") + rng.normal(0, 0.01),
        }
        for model in "ab" for severity in range(3) for n in range(6)
    ]  # fmt: skip
    comparisons = compare_models(pd.DataFrame(rows), "a", "b").assign(a="a", b="b")
    [drawn] = draw_differences(["severity", "bars", "shift"], comparisons)
    assert drawn.name == "differences_severity_jsrt"
    [axes] = drawn.figure.axes
    assert axes.lines[0].get_ydata() == pytest.approx([0.1, 0.0, -0.1], abs=0.02)
    assert axes.get_ylim()[0] < -0.05


def test_dice_lost_stands_below_the_alarms():
    rng = np.random.default_rng(0)
    rows = [
        {
            "data": "jsrt", "model": model, "seed": 0, "case": f"c{n}", "subject": f"c{n}", "organ": "heart",
            "degradation": "none", "severity": 0, "shift": f"x{pixels:+d}" if pixels else "0",
            "alarm": float(pixels >= 16), "dice_lost": pixels / 100 + (rng.normal(0, 0.01) if pixels else 0),
        }
        for model in "ab" for pixels in (0, 8, 16) for n in range(6)
    ]  # fmt: skip
    alarms, lost = (summarize_over_seeds(pd.DataFrame(rows), what) for what in ("alarm", "dice_lost"))
    [drawn] = draw_noticed(["noticed_severity", "noticed_shift", "bars"], alarms, lost)
    assert drawn.name == "noticed_shift_jsrt"
    above, below = drawn.figure.axes
    assert (above.get_ylabel(), below.get_ylabel()) == ("share of alarms", "Dice lost")
    assert above.lines[0].get_ydata().tolist() == [0, 0, 1]
    assert below.lines[0].get_ydata() == pytest.approx([0, 0.08, 0.16], abs=0.02)
    assert "a 0.000 clean, at most 1.000" in drawn.alt
    [table] = noticed_tables(alarms, lost)
    assert table["columns"] == ["condition", "a: alarms", "a: Dice lost", "b: alarms", "b: Dice lost"]
    assert [row[1] for row in table["rows"]] == ["0.000", "0.000", "1.000"]


def test_the_parts_of_the_variance_fill_the_bar_of_each_kind_of_condition():
    terms, shares = ["position", "rest"], {"clean": [0.25, 0.75], "gaussian noise": [0.6, 0.4]}
    rows = [
        {"data": "jsrt", "conditions": kind, "term": term, "share": share}
        for kind, parts in shares.items()
        for term, share in zip(terms, parts, strict=True)
    ]
    [drawn] = variance.draw(pd.DataFrame(rows))
    [axes] = drawn.figure.axes
    assert [round(bar.get_width(), 3) for bar in axes.patches] == [0.25, 0.6, 0.75, 0.4]
    assert drawn.alt.endswith("clean: position 0.250, rest 0.750; gaussian noise: position 0.600, rest 0.400")
    assert variance.draw(pd.DataFrame()) == []
