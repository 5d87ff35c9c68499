"""Run the studies of the paper from the command line, on phantoms, with the small CNN and its small files."""

import json
import re

import pandas as pd
import pytest
from running import BUNDLES, ROOT
from typer.testing import CliRunner

from medpos.__main__ import app
from medpos.study import declaration

SHORT = ["noticed"]  # the others are left to make torture


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(SHORT, id="one"),
        pytest.param(declaration.list_studies(BUNDLES / "studies"), id="all", marks=pytest.mark.torture),
    ],
)
def test_every_study_runs_with_the_tiny_profile(names, tmp_path, monkeypatch):
    """All studies share their models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    tiny = ["--profile", "tiny", "--network", "small", "--data", "jsrt"]
    for name in names:
        options = [*tiny, "--workers", "2"] if declaration.load(BUNDLES / "studies", name).variants else tiny[:2]
        shown = CliRunner().invoke(app, ["study", name, *options], catch_exceptions=False)
        assert shown.exit_code == 0, shown.output
        content = json.loads((tmp_path / f"studies/{name}/study.json").read_text())
        assert content["verdict"] in shown.output
        assert content["phantom"]
        assert content["figures"]
        page = (tmp_path / f"studies/{name}/index.html").read_text()
        assert "PHANTOM DATA" in page
        assert content["title"] in page
    if "trust" in names:
        check_probabilities(tmp_path / "studies/trust")
    if "noticed" in names:
        check_alarms(tmp_path / "studies/noticed", tmp_path / "runs")
    status = CliRunner().invoke(app, ["study", "status", names[0], *tiny]).output
    assert re.search(rf"{names[0]}: (\d+) of \1 models trained, \1 complete", status)


def check_probabilities(folder):
    """Check that criteria about probabilities are measured from the tables of the runs."""
    table = pd.read_csv(folder / "per_case.csv")
    trained = table[~table["model"].str.contains("moved")]
    found = trained["dice"] + trained["overconfidence"]  # the expected Dice
    assert found.dropna().between(-1e-9, 1 + 1e-9).all()
    assert trained.loc[trained["dice"].notna(), ["overconfidence", "brier"]].notna().all(axis=None)
    criteria = json.loads((folder / "study.json").read_text())["criteria"]
    assert {c["verdict"] for c in criteria if c["data"] == "acdc"} <= {"not measured", "exploratory"}
    measured = [c for c in criteria if c["data"] == "jsrt"]
    assert all(c["parts"] for c in measured)


def check_alarms(folder, runs):
    """Check that alarms are those of the tables of the runs, and that Dice lost is counted from the clean images."""
    table = pd.read_csv(folder / "per_case.csv")
    trained = table[~table["model"].str.contains("moved")]
    assert set(trained["alarm"]) <= {0, 1}
    assert (trained.loc[(trained["severity"] == 0) & (trained["shift"] == "0"), "dice_lost"].dropna() == 0).all()
    judged = pd.concat(pd.read_csv(path) for path in runs.glob("jsrt_small*/*/noticed_cases.csv"))
    assert (
        judged["alarm"].sum()
        == trained.groupby(["model", "case", "degradation", "severity", "shift"])["alarm"].max().sum()
    )
    assert (judged["alarm"] == (judged["score"] > 1)).all()
    content = json.loads((folder / "study.json").read_text())
    assert {f"noticed_{what}_jsrt" for what in ("severity", "shift")} <= {
        figure["name"] for figure in content["figures"]
    }
    clean = [c for c in content["criteria"] if c["data"] == "jsrt" and c["text"].startswith("clean")]
    assert all(0 <= c["value"] <= 1 and c["ci95"][0] < c["ci95"][1] and not c["organs"] for c in clean)
    [noticed] = [t for t in content["tables"] if "alarms and Dice lost" in t["title"]]
    assert [len(noticed["columns"]), len(noticed["rows"])] == [5, 48]
