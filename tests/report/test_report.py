import csv
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from making import HOSTILE, make_run, make_study
from PIL import Image

from medpos.core.errors import InputError
from medpos.core.labels import ACDC, CLAVICLES, JSRT, labels_of
from medpos.metrics import METRICS
from medpos.report import build
from medpos.report.sources import read
from medpos.report.tables import tabulate_organs
from medpos.runs.text import PHANTOM_NOTE


@pytest.fixture(scope="module")
def html(report):
    return (report / "index.html").read_text(encoding="utf-8")


def text(html):
    """Return the text that a reader of the page sees."""
    parts = []

    class Reader(HTMLParser):
        def handle_data(self, data):
            if self.lasttag not in ("script", "style"):
                parts.append(data)

    Reader().feed(html)
    return " ".join(" ".join(parts).split())


def test_the_page_is_one_file_that_loads_nothing(html):
    assert re.findall(r'(?:src|href)="(?!data:|#|csv/)[^"]*"', html.replace('xlink:href="#', 'href="#')) == []
    assert "default-src 'none'" in unescape(html)
    assert len(html) < 1_500_000


def test_the_page_says_what_was_run(html):
    shown = text(html)
    assert PHANTOM_NOTE in shown
    assert "Some of the data are real" in shown
    assert "abc123" in shown
    assert "python -m monai.bundle run --config_file b.json" in shown
    assert "contradicted" in shown
    assert "third: out of memory" in shown
    assert "about 0.9" in shown
    assert "these runs have no cases.npz" in shown


def test_infinite_distances_rank_last_in_the_median():
    rows = [
        {**dict.fromkeys(METRICS, 0.5), "data": "acdc", "split": "test", "model": "CNN", "seed": 0, "case": f"c{n}"}
        | {"subject": f"s{n}", "degradation": "none", "severity": 0, "shift": "0", "organ": organ, "hd95_mm": hd95}
        for organ, distances in (("heart", (1.0, 3.0, np.inf)), ("lung", (1.0, np.inf, np.inf)))
        for n, hd95 in enumerate(distances)
    ]
    table = tabulate_organs(pd.DataFrame(rows))
    place = table.columns.index("median HD95 mm")
    assert [row[place].text for row in table.rows] == ["3.0", "inf", ""]
    assert [row[table.columns.index("inf")].text for row in table.rows] == ["1", "2", "-"]


def test_subgroups_are_compared(report, html):
    found = pd.read_csv(report / "csv/subgroups.csv")
    assert set(found["by"]) == {"phase", "level"}
    assert set(found["subgroup"]) == {"ED", "ES", "base", "mid", "apex"}
    cases = pd.read_csv(report / "csv/cases.csv")
    some = found[(found["subgroup"] == "ED") & (found["organ"] == "myocardium")].iloc[0]
    clean = cases[(cases["severity"] == 0) & (cases["shift"].astype(str) == "0") & cases["case"].str.endswith("_ED")]
    same = clean[(clean["model"] == some["model"]) & (clean["organ"] == "myocardium")]
    assert some["mean"] == pytest.approx(same["dice"].mean())
    assert "Dice by subgroup, clean images" in text(html)


def test_text_of_files_stays_text(html):
    assert html.count("<script") == 1
    assert HOSTILE not in html
    assert "onerror=alert(1)>" not in html


def test_no_banner_on_real_images(tmp_path):
    shown = text(build([make_run(tmp_path / "r/a/b", whole=False)], tmp_path / "out").read_text())
    assert "PHANTOM" not in shown
    assert "NOMINAL" not in shown


def test_the_page_says_that_spacing_is_nominal(tmp_path):
    study = make_study(tmp_path / "study", whole=False, nominal_spacing=True)
    assert "NOMINAL SPACING" in text(build([study], tmp_path / "out").read_text())


def test_the_page_lists_what_is_implausible_in_the_data(tmp_path):
    run = make_run(tmp_path / "r/a/b", whole=True)
    for part in ("", "robustness"):
        path = run / part / "summary.json"
        lines = ["s01: is <b>it</b> the mask?", "s02: is it a copy?"]
        path.write_text(json.dumps({**json.loads(path.read_text()), "warnings": lines}))
    page = build([run], tmp_path / "out").read_text()
    assert text(page).count("s02: is it a copy?") == 1
    assert "s01: is &lt;b&gt;it&lt;/b&gt; the mask?" in page


def test_tables_for_a_paper(report):
    organs = pd.read_csv(report / "csv/organs.csv")
    lungs = organs[(organs["data"] == "jsrt") & (organs["organ"] == "right_lung")].iloc[0]
    rows = pd.read_csv(report / "csv/cases.csv", dtype={"shift": str})
    clean = rows[(rows["severity"] == 0) & (rows["shift"] == "0") & (rows["organ"] == "right_lung")]
    # Robustness and shift measure the same clean images as the test; they count once.
    assert len(clean) == 6
    assert lungs["dice_mean"] == pytest.approx(clean["dice"].mean())
    assert lungs["subjects"] == 6
    with (report / "csv/comparisons.csv").open() as stream:
        assert "0.125" in [row["mean_difference"] for row in csv.DictReader(stream)]
    assert (report / "csv/clinical_cases.csv").is_file()


def test_figures_for_a_paper(report):
    names = {path.stem for path in (report / "figures").iterdir()}
    assert {"severity_jsrt", "shift_jsrt", "severity_acdc", "shift_acdc"} <= names
    for name in names:
        assert "</svg>" in (report / f"figures/{name}.svg").read_text()
        with Image.open(report / f"figures/{name}.png") as picture:
            assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    severity = (report / "figures/severity_jsrt.svg").read_text().lower()
    assert all(label.color.lower() in severity for label in JSRT[1:])


def test_two_runs_are_compared_on_their_common_cases(tmp_path):
    runs = [
        make_run(tmp_path / f"r/{name}/0", bundle=name, keep=keep, with_cases=False, whole=False)
        for name, keep in (("a", slice(8)), ("b", slice(4, 12)))
    ]
    build(runs, tmp_path / "out")
    found = pd.read_csv(tmp_path / "out/csv/comparisons.csv")
    assert set(found["n"]) == {4}
    assert set(found["subjects"]) == {2}
    assert found["mean_difference"].tolist() == [0, 0, 0, 0]
    # Of so few subjects no correlation is stated, and nothing was declared beforehand.
    shown = text((tmp_path / "out/index.html").read_text())
    assert "n < 8" in shown
    assert "No study declared any of these beforehand" in shown
    assert "4 exploratory comparisons" in shown


def test_limits_of_agreement_are_stated_of_eight_cases_or_more(report, tmp_path):
    few = pd.read_csv(report / "csv/clinical_agreement.csv")
    assert set(few["n"]) == {6}
    assert few["bias"].notna().all()
    assert few[["lower", "upper", "correlation", "ccc", "icc", "proportional_bias"]].isna().all(axis=None)
    words = "no limits of agreement: 6 cases, and they are stated from 8 on"
    assert text((report / "index.html").read_text()).count(words) == len(few)
    many = make_run(tmp_path / "r/a/b", "jsrt", whole=False, number=8)
    build([many], tmp_path / "out")
    stated = pd.read_csv(tmp_path / "out/csv/clinical_agreement.csv")
    assert stated[["lower", "upper"]].notna().all(axis=None)
    assert "stated from 8 on" not in text((tmp_path / "out/index.html").read_text()).replace(
        "are stated from 8 cases on", ""
    )


def test_runs_of_one_bundle_and_seed_are_told_apart(tmp_path):
    sources = read(
        [make_run(tmp_path / f"r/a/{name}", bundle="a", with_cases=False, whole=False) for name in ("x", "y")]
    )
    assert [run.model for run in sources.runs] == ["a (x)", "a (y)"]


def test_labels():
    assert labels_of(["rv_cavity", "myocardium", "lv_cavity", "rv_cavity"]) is ACDC
    assert labels_of(label.name for label in (*JSRT, *CLAVICLES)[1:]) == (*JSRT, *CLAVICLES)
    found = labels_of(["liver", "heart", "spleen"])
    assert [label.index for label in found] == [0, 1, 2, 3]
    assert found[2].color == JSRT[3].color
    assert len({label.color for label in found}) == 4


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: (r / "config.json").unlink(), r"neither config\.json .* nor study\.json"),
        (lambda r: [p.unlink() for p in r.rglob("metrics.csv")], r"has no metrics\.csv.*resume it"),
        (lambda r: (r / "summary.json").unlink(), r"no summary\.json, so it is not finished"),
        (lambda r: (r / "summary.json").write_text("{"), r"summary\.json: can't be read as JSON"),
        (lambda r: (r / "summary.json").write_text("[]"), r"summary\.json: expected a JSON object, got list"),
        (lambda r: (r / "summary.json").write_text("{}"), r"summary\.json: has no 'data'"),
        (lambda r: (r / "metrics.csv").write_text(""), r"metrics\.csv: can't be read as a table"),
        (lambda r: (r / "metrics.csv").write_text("case\na\n"), r"metrics\.csv: lacks the columns subject"),
        (lambda r: (r / "cases.npz").write_text("?"), r"cases\.npz: can't be read"),
        (shutil.rmtree, "neither"),
    ],
)
def test_bad_runs_are_refused(spoil, message, tmp_path):
    run = make_run(tmp_path / "r/a/b", whole=False)
    spoil(run)
    with pytest.raises(InputError, match=message):
        build([run], tmp_path / "out")


def test_text_in_a_column_of_numbers_is_refused(tmp_path):
    run = make_run(tmp_path / "r/a/b", with_cases=False)
    path = run / "metrics.csv"
    path.write_text(path.read_text().replace(",none,0,0,rv_cavity,", ",none,0,0,rv_cavity,many", 1))
    with pytest.raises(InputError, match=r"metrics\.csv.*expected numbers"):
        read([run])


def test_an_empty_list_of_runs_is_refused():
    with pytest.raises(InputError, match="nothing to report"):
        read([])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("models", {}, "models: expected entries"),
        ("models", [{"model": "a", "run": "nowhere"}], "nowhere: does not exist"),
        ("figures", [{"name": "../study"}], r"expected figures/\.\./study\.svg"),
    ],
)
def test_bad_studies_are_refused(key, value, message, tmp_path):
    study = make_study(tmp_path / "study", whole=False, **{key: value})
    with pytest.raises(InputError, match=message):
        build([study], tmp_path / "out")


def test_a_study_without_models_is_refused(tmp_path):
    study = make_study(tmp_path / "study", whole=False)
    content = json.loads((study / "study.json").read_text())
    del content["models"]
    (study / "study.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="has no 'models'"):
        read([study])


def test_the_page_says_what_was_not_measured(tmp_path):
    run = make_run(tmp_path / "r/a/b", with_cases=False, whole=False)
    table = pd.read_csv(run / "metrics.csv", dtype=str)
    table.loc[table["organ"] == "rv_cavity", ["dice", "hd95_mm"]] = "nan"
    table.loc[table["organ"] == "lv_cavity", "hd95_mm"] = "inf"
    table.to_csv(run / "metrics.csv", index=False)
    shown = text(build([run], tmp_path / "out").read_text())
    assert "none of these runs was evaluated on degraded or shifted images" in shown
    assert "a comparison needs two models" in shown
    assert not re.search(r"\bnan\b", shown)
    organs = pd.read_csv(tmp_path / "out/csv/organs.csv").set_index("organ")
    assert np.isnan(organs.loc["rv_cavity", "dice_mean"])
    assert organs.loc["rv_cavity", "dice_missing"] == 12
    assert organs.loc["lv_cavity", "hd95_mm_infinite"] == 12


def test_a_study_without_runs_has_a_page(tmp_path):
    content = {"name": "intensities", "title": "Images alone", "claim": "They are gray.", "verdict": "confirmed"}
    (tmp_path / "study.json").write_text(json.dumps({**content, "models": [], "phantom": True}))
    html = build([tmp_path], tmp_path / "out").read_text(encoding="utf-8")
    assert "They are gray." in html
    assert "PHANTOM DATA" in html
    assert 'id="organs"' not in html
    assert 'id="cases"' not in html


def test_the_page_of_a_study_names_family_p_power_and_what_was_not_measured(tmp_path):
    found = {"role": "primary", "text": "position helps", "margin": 0.05, "parts": [], "note": ""}
    criteria = [
        {
            **found,
            "data": "jsrt",
            "verdict": "confirmed",
            "value": 0.1,
            "ci95": [0.06, 0.14],
            "where": "clean",
            "p": 0.0002,
            "p_holm": 0.0123,
            "n": 9,
            "subjects": 8,
            "seeds": 3,
            "power": 0.456,
            "smallest_p": 2**-7,
            "left_out": {"only_a": 4, "only_b": 0, "infinite": 0, "seeds_a": 0, "seeds_b": 2},
            "mixed": {"value": 0.101, "ci95": [0.07, 0.13], "sd_subject": 0.02, "sd_seed": 0.01, "sd_rest": 0.03},
        },
        {**found, "data": "acdc", "verdict": "not measured", "value": None, "note": "the data set was not run"},
        {**found, "data": "jsrt", "verdict": "exploratory", "role": "exploratory", "value": 0.2, "ci95": None},
    ]
    design = {"family": 2, "measured": 1, "alpha": 0.05, "first_step": 0.025, "method": "t interval"}
    content = {"name": "n", "title": "t", "claim": "c", "verdict": "confirmed for JSRT", "models": []}
    (tmp_path / "study.json").write_text(json.dumps({**content, "criteria": criteria, "design": design}))
    shown = text(build([tmp_path], tmp_path / "out").read_text())
    for words in (
        "✓ confirmed for JSRT (1 of 2 criteria)",
        "found 0.100 (95 % interval 0.060 to 0.140) at clean, p < 0.001 (Holm = 0.012)",
        "n = 8 subjects (9 cases), 3 seeds",
        "Power 0.46 for a margin of 0.05.",
        "Smallest p of a rank test with 8 subjects: 0.0078.",
        "only the first side has 4, only the second 0, infinite 0; trainings without a partner 0 and 2",
        "Mixed model: 0.101 (95 % interval 0.070 to 0.130)",
        "not measured , acdc: position helps; the data set was not run",
        "Family: the 2 primary criteria on all data sets that the study declares, of which 1 were measured",
        "first step 0.025",
    ):
        assert words in shown, shown


def test_the_first_screen_says_what_was_run_found_and_to_beware_of(tmp_path):
    run = make_run(tmp_path / "r/a/b", "jsrt", phantom=True)
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps({**environment, "commit": "0123456789abcdef-dirty"}))
    (run / "config.json").write_text('{"max_epochs": 60}')
    html = build([run], tmp_path / "out").read_text()
    head = text(html[: html.index('id="training"')])
    rows = pd.read_csv(run / "metrics.csv")
    heart = rows.loc[rows["organ"] == "heart", "dice"].mean()
    failed = (rows["dice"] < 0.8).sum()
    for words in (
        "jsrt_small found the right lung with a Dice of 0.",
        f"and the heart with a Dice of {heart:.2f} (",
        f"on 6 cases of 6 subjects (jsrt). {failed} of 18 organs had a Dice below 0.8.",
        "(Gaussian noise, severity 5).",
        "PHANTOM DATA:",
        "Few subjects: jsrt has 6, fewer than 20",
        "One seed:",
        f"run python -m medpos calibrate {run}.",
        "Uncommitted changes:",
        "jsrt (PHANTOMS), split test: 6 cases of 6 subjects",
        "Epochs 60",
        "Commit 0123456789-dirty",
        "Metrics per organ, clean images; data: jsrt; model: jsrt_small; seeds: 1; subjects: 6",
    ):
        assert words in head, (words, head)
    assert html.index('id="table-organs"') < html.index('id="training"')


def test_of_many_models_the_best_and_the_worst_have_a_sentence(tmp_path):
    runs = [
        make_run(tmp_path / f"r/{name}/0", bundle=name, keep=slice(2 * n, 2 * n + 2), with_cases=False, whole=False)
        for n, name in enumerate("abcd")
    ]
    head = text(build(runs, tmp_path / "out").read_text())
    assert "The best of 4 models: a found" in head
    assert "The worst: d found" in head
    assert "b found" not in head
