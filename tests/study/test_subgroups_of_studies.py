"""Collect and compare subgroups in a study."""

import json

import pandas as pd
import pytest

from medpos.core.files import read_csv
from medpos.study.models import Model
from medpos.study.subgroups import collect_subgroups, summarize_subgroups, tabulate_subgroups


def test_subgroups_of_a_real_run_are_found(trained_heart):
    """The model is that of the finished run, found in its folder of runs by its configuration."""
    config = json.loads((trained_heart / "config.json").read_text())
    config["runs_dir"] = str(trained_heart.parents[1])
    model = Model("acdc", "small CNN + position", 0, trained_heart, {}, config, {})
    table = collect_subgroups([model])
    rows = read_csv(trained_heart / "subgroups.csv")
    assert {"phase", "level"} <= set(table["by"])
    assert len(table) == sum(row["by"] in set(table["by"]) for row in rows)
    found = summarize_subgroups(table, [])
    expected = [float(row["dice"]) for row in rows if (row["subgroup"], row["organ"]) == ("apex", "lv_cavity")]
    apex = found[(found["subgroup"] == "apex") & (found["organ"] == "lv_cavity")]
    assert apex["mean"].tolist() == pytest.approx([pd.Series(expected).mean()])


def constructed():
    """Two models, two seeds, four subjects: b is 0.1 better than a in men, 0.3 in women."""
    rows = []
    for model, gains in (("a", {"M": 0.0, "F": 0.0}), ("b", {"M": 0.1, "F": 0.3})):
        for seed in (0, 1):
            for n, sex in enumerate("MMFF"):
                about = {"data": "acdc", "model": model, "seed": seed, "case": f"c{n}", "subject": f"s{n}"}
                place = {"split": "test", "degradation": "none", "severity": 0, "shift": "0", "organ": "heart"}
                dice = 0.5 + 0.01 * n + 0.02 * seed + gains[sex]
                rows.append({**about, **place, "by": "sex", "subgroup": sex, "dice": dice})
    return pd.DataFrame(rows)


def test_models_and_their_differences_are_compared_within_each_subgroup():
    found = summarize_subgroups(constructed(), [("b", "a"), ("b", "unknown")])
    mean = found[found["organ"] == "mean of organs"].set_index(["model", "subgroup"])
    assert mean["mean"].to_dict() == pytest.approx(
        {
            ("a", "M"): 0.515,
            ("b", "M"): 0.615,
            ("b - a", "M"): 0.1,
            ("a", "F"): 0.535,
            ("b", "F"): 0.835,
            ("b - a", "F"): 0.3,
        }
    )
    assert mean.loc[("b - a", "F"), ["ci95_low", "ci95_high"]].tolist() == pytest.approx([0.3, 0.3])
    [table] = tabulate_subgroups(found)
    assert table["title"] == "acdc: mean Dice of organs by sex"
    assert ["b - a", "F", "0.300", "0.300 to 0.300", 2, 2, 2] in table["rows"]


def test_one_subgroup_is_none(trained):
    """Chest X-rays have neither phase nor group."""
    config = json.loads((trained / "config.json").read_text())
    config["runs_dir"] = str(trained.parents[1])
    assert collect_subgroups([Model("jsrt", "small CNN", 0, trained, {}, config, {})]).empty
    assert summarize_subgroups(collect_subgroups([]), []).empty
    assert tabulate_subgroups(summarize_subgroups(collect_subgroups([]), [])) == []
