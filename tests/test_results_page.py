"""Check that every measured number of the pages comes from a committed table."""

import json
import re

import pandas as pd
import pytest
from running import load_docs_script


@pytest.fixture
def results():
    return load_docs_script("results")


def test_every_table_and_number_comes_from_a_file(results):
    assert results.find_faults() == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("| 0.557 ± 0.019 |", "| 0.575 ± 0.019 |", "a table is stale"),
        ("# Results on real images\n", "# Results on real images\n\nThe Dice is 0.999.\n", "0.999 is in no table"),
        ("## Nuclei\n", "## Nuclei\n\n| network | Dice |\n|---|---|\n", "not from a file of docs/results: | network"),
    ],
)
def test_a_changed_number_is_found(old, new, fault, results, tmp_path, monkeypatch):
    text = results.PAGE.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "results.md").write_text(text.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    assert any(fault in found for found in results.find_faults())


def test_a_changed_number_of_a_bundle_is_found(results, tmp_path, monkeypatch):
    page = tmp_path / "bundles.md"
    page.write_text("| NAME | the paper | ours |\n|---|---|---|\n| `jsrt` | Dice 0.999 | Dice 7.777¹ |\n")
    monkeypatch.setattr(results, "OURS", (page,))
    assert results.find_faults() == ["bundles.md: 7.777 is in no table of docs/results"]


def test_numbers_of_papers_and_commands_are_not_ours(results):
    text = 'We got 0.123. The paper reports "about 0.551" and 0.158 for it. `--lr 0.001` was used.\n\n    --lr 0.002\n'
    assert results.find_numbers(text) == ["0.123"]


def test_every_file_is_shown(results):
    names = {path.stem for path in results.FOLDER.glob("*.csv")}
    pages = "".join(page.read_text(encoding="utf-8") for page in results.list_pages())
    shown = set(re.findall(r"<!-- table: ([\w-]+) -->", pages))
    # The verdicts make up the tables of claims.
    made = {"claims", "lights", *(f"verdicts_{name}" for name in results.CLAIMS)}
    assert made <= shown
    assert shown - made == {name for name in names if not name.endswith("_verdict")}


def test_a_claim_has_a_page_that_says_its_limits_and_what_would_change_its_verdict(results):
    assert {page.stem for page in results.CLAIM_PAGES.glob("*.md")} == set(results.CLAIMS)
    head, *rows = results.make("claims")
    assert len(rows) == len(results.CLAIMS)
    for row in rows:
        cells = dict(zip(head, row, strict=True))
        assert len(cells["what would change the verdict"]) > 40
    for page in results.CLAIM_PAGES.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert all(f"\n## {title}\n" in text for title in ("Criteria", "Limits", "What would change the verdict"))


def test_every_file_has_its_origin(results):
    names = {path.stem for path in results.FOLDER.glob("*.csv")}
    listed = re.findall(r"`([\w*]+)`", (results.FOLDER / "README.md").read_text(encoding="utf-8"))
    patterns = [re.compile(name.replace("*", r"\w*")) for name in listed]
    assert [name for name in names if not any(pattern.fullmatch(name) for pattern in patterns)] == []


def test_the_criteria_of_figure_2_are_those_of_its_table(results):
    """Compute the differences from the means by condition and organ, as the study does."""
    table = pd.read_csv(results.FOLDER / "acdc_unet_figure2.csv")
    means = table.groupby(["model", "degradation", "severity"])["dice"].mean().reset_index()
    is_noise = means["degradation"].isin(["gaussian_noise", "shot_noise"])
    conditions = {
        "noise": is_noise,
        "strong": is_noise & (means["severity"] >= 4),
        "blur": means["degradation"] == "gaussian_blur",
        "clean": means["severity"] == 0,
    }

    def dice(alpha, condition):
        model = f"U-Net + position, alpha {alpha}" if alpha else "U-Net"
        return means[(means["model"] == model) & conditions[condition]]["dice"].mean()

    computed = [
        dice("10.0", "noise") - dice("", "noise"),
        dice("", "noise") - dice("", "clean"),
        dice("", "blur") - dice("", "clean"),
        dice("100.0", "strong") - dice("1.0", "strong"),
        dice("100.0", "clean") - dice("1.0", "clean"),
    ]
    stated = [float(row[1]) for row in results.read("acdc_unet_figure2_criteria")[1:]]
    assert stated == pytest.approx(computed, abs=0.001)


def test_the_tables_of_a_study_are_taken(results, tmp_path, monkeypatch):
    finding = {"data": "jsrt", "text": "position helps", "where": "clean", "subjects": 8, "power": None, "note": ""}
    parts = [{"label": f"blur {n}", "value": n / 10, "ci95": [0.0, 0.5], "subjects": 8} for n in (1, 2)]
    measured = {
        **finding,
        "value": 0.4014,
        "ci95": [0.3305, 0.4722],
        "p_holm": 0.00101,
        "verdict": "confirmed",
        "parts": parts,
    }
    other = {**finding, "parts": [], "value": None, "ci95": None, "p_holm": None, "verdict": "not measured"}
    about = dict.fromkeys(("title", "command", "commit", "created"), "?")
    about |= {"paper": "Table 9", "claim": "Position helps.", "verdict_text": "confirmed on phantoms"}
    organs = {"title": "jsrt: Dice on clean test images", "columns": ["model", "heart"], "rows": [["CNN", "0.367"]]}
    (tmp_path / "study.json").write_text(json.dumps({**about, "criteria": [measured, other], "tables": [organs]}))
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(results, "SOURCES", {"old": "U-Net, hearts", "new": "CNN, hearts"})
    monkeypatch.setattr(results, "CLAIMS", ("table1",))
    names = [path.name for path in results.take(tmp_path, "new_table1")]
    assert names == [f"new_table1_{kind}.csv" for kind in ("verdict", "criteria", "parts", "organs")]
    [[link, claim, verdicts, _]] = results.make("claims")[1:]
    assert (link, claim) == ("[Table 9](claims/table1.md)", "Position helps.")
    assert verdicts == "**confirmed on phantoms**: CNN, hearts"
    assert results.tabulate_verdicts("table1")[1:] == [["CNN, hearts", "**confirmed on phantoms**", "`?`", "?"]]
    assert [row[2:] for row in results.read("new_table1_parts")[1:]] == [
        ["blur 1", "0.100", "0.000 to 0.500", "8"],
        ["blur 2", "0.200", "0.000 to 0.500", "8"],
    ]
    assert results.read("new_table1_organs") == [["model", "heart"], ["CNN", "0.367"]]
    head, row = results.read("new_table1_criteria")
    assert dict(zip(head, row, strict=True)) == {
        "data": "jsrt",
        "criterion": "position helps",
        "where": "clean",
        "value": "0.401",
        "95 % interval": "0.331 to 0.472",
        "n": "8",
        "p (Holm)": "0.001",
        "power": "",
        "verdict": "confirmed",
    }
