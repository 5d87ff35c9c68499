import json
import re

import numpy as np
import pandas as pd
import pytest
from making import CLEAN, make_run
from test_report import text
from test_report_scores import NOISY, cells

from medpos.core.errors import InputError
from medpos.core.files import write_csv
from medpos.plotting.confusion import draw_confusion
from medpos.report import build
from medpos.runs.tables import CONFUSION_COLUMNS, Confusions

NAMES = ("background", "right_lung", "left_lung", "heart")
# The heart is never there, and often predicted in place of the left lung.
COUNTS = np.array([[9000, 3, 0, 0], [200, 700, 0, 100], [0, 0, 250, 750], [0, 0, 0, 0]])


def write_confusion(folder, *conditions, counts=COUNTS, names=NAMES):
    found = Confusions(names, dict.fromkeys(conditions or (CLEAN,), counts))
    write_csv(folder / "confusion.csv", CONFUSION_COLUMNS, found.rows)


@pytest.fixture
def run(tmp_path):
    run = make_run(tmp_path / "r/jsrt/a", "jsrt", phantom=True, with_cases=False)
    write_confusion(run)
    write_confusion(run / "robustness", CLEAN, NOISY)
    return run


def test_the_page_has_a_section_of_classes(run, tmp_path):
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    assert '<li><a href="#classes">Classes</a></li>' in html
    assert "PHANTOM" in text(re.search(r'<section id="classes">(.*?)</section>', html, re.S)[1])
    rows = cells(html, "classes")
    # IoU: hits over true or predicted pixels; accuracy: over true ones; then both numbers of pixels.
    assert rows == [
        [name, "jsrt", "jsrt_small", *numbers, "1"]
        for name, numbers in (
            ("background", ["0.978", "1.000", "9003", "9200"]),
            ("right lung", [f"{700 / 1003:.3f}", "0.700", "1000", "703"]),
            ("left lung", ["0.250", "0.250", "1000", "250"]),
            ("heart", ["0.000", "-", "0", "850"]),
        )
    ]
    [label] = re.findall(r'aria-label="(Confusion matrix of [^"]*)"', html)
    assert "left lung: 25.0% right, 75.0% taken for heart" in label
    assert "heart:" not in label


def test_files_beside_the_page(run, tmp_path):
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    assert 'href="csv/confusion.csv"' in html
    rows = pd.read_csv(tmp_path / "out/csv/confusion.csv", dtype={"shift": str})
    assert len(rows) == 2 * 16  # the clean images of the robustness evaluation are those of the test
    assert rows["pixels"].tolist() == [*COUNTS.ravel(), *COUNTS.ravel()]
    lost = rows[(rows["true"] == "left_lung") & (rows["predicted"] == "heart")]
    assert lost["pixels"].tolist() == [750, 750]
    for suffix in ("svg", "png"):
        assert (tmp_path / f"out/figures/confusion_01_jsrt_small.{suffix}").is_file()
    assert pd.read_csv(tmp_path / "out/csv/classes.csv")["iou_mean"].tolist()[2] == 0.25


def test_seeds_are_pooled(tmp_path):
    runs = []
    for seed, right in ((0, 60), (1, 80)):
        run = make_run(tmp_path / f"r/a/{seed}", "jsrt", with_cases=False, whole=False)
        (run / "environment.json").write_text(json.dumps({"seed": seed}))
        write_confusion(run, counts=np.array([[100, 0], [100 - right, right]]), names=("background", "heart"))
        runs.append(run)
    html = build(runs, tmp_path / "out").read_text(encoding="utf-8")
    heart = cells(html, "classes")[1]
    assert heart[3:] == ["0.700 ± 0.141", "0.700 ± 0.141", "100", "70", "2"]
    assert "heart: 70.0% right, 30.0% taken for background" in html


def test_a_matrix_that_cannot_be_read_is_not_drawn(tmp_path):
    run = make_run(tmp_path / "r/a/b", whole=False, with_cases=False)
    names = ("background", *(f"part_{n}" for n in range(40)))
    write_confusion(run, counts=np.eye(41, dtype=int), names=names)
    html = build([run], tmp_path / "out").read_text(encoding="utf-8")
    assert "Confusion matrix of" not in html
    assert "the numbers of so many classes can't be read: acdc_small on acdc" in html
    assert len(cells(html, "classes")) == 41


def test_runs_of_earlier_versions_have_no_section(tmp_path):
    out = build([make_run(tmp_path / "r/a/b", whole=False, with_cases=False)], tmp_path / "out")
    assert not re.search(r"#classes|confusion", out.read_text(encoding="utf-8"))
    assert not (out.parent / "csv/confusion.csv").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("9000", "many", "pixels: expected numbers"),
        (",9000", ",-9000", "pixels: expected whole numbers from 0 upward"),
        (",9000", ",0.5", "pixels: expected whole numbers from 0 upward"),
        (",9000", ",1e300", "pixels: expected whole numbers from 0 upward"),
        (",9000", ",inf", "pixels: expected whole numbers from 0 upward"),
        (",9000", ",nan", "pixels: expected whole numbers from 0 upward"),
        ("none,0,0,left_lung,heart,750\n", "", "expected a line for every pair of classes"),
        ("left_lung,heart", "left_lung,spleen", "expected a line for every pair of classes"),
        ("predicted", "found", "lacks the columns predicted"),
    ],
)
def test_bad_files_are_refused(old, new, message, run, tmp_path):
    path = run / "confusion.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=rf"confusion\.csv: .*{message}.*evaluate again"):
        build([run], tmp_path / "out")


def shown(figure, size):
    """Return the texts of the cells, from top to bottom and left to right, as they are seen."""
    [axes] = figure.axes
    places = [(*axes.transData.transform(cell.get_position()).round(), cell.get_text()) for cell in axes.texts]
    places.sort(key=lambda place: (-place[1], place[0]))
    return np.array([place[2] for place in places]).reshape(size, size).tolist()


def test_numbers_of_the_figure():
    figure = draw_confusion(COUNTS, ["background", "right lung", "left lung", "heart"])
    assert shown(figure, 4) == [
        [">99.9", "<0.1", "", ""],
        ["20.0", "70.0", "", "10.0"],
        ["", "", "25.0", "75.0"],
        ["-", "-", "-", "-"],
    ]
    [axes] = figure.axes
    names = [[tick.get_text() for tick in ticks] for ticks in (axes.get_xticklabels(), axes.get_yticklabels())]
    assert names == [["background", "right lung", "left lung", "heart"]] * 2
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    [mesh] = axes.collections
    assert mesh.get_array().reshape(4, 4)[2, 3] == pytest.approx(0.75)


def test_many_classes_have_whole_percents_and_short_names():
    counts = np.diag(np.arange(1, 13)) + np.eye(12, k=1, dtype=int)
    figure = draw_confusion(counts, ["a" * 40, *"bcdefghijkl"])
    cells_shown = shown(figure, 12)
    assert cells_shown[1][:4] == ["", "67", "33", ""]
    assert cells_shown[11][11] == "100"
    assert len(figure.axes[0].get_xticklabels()[0].get_text()) == 30
