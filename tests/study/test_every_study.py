"""Run the studies of the paper from the command line, on phantoms, with the small CNN and its small files."""

import json
import re

import pytest
from running import BUNDLES, ROOT
from typer.testing import CliRunner

from medpos.__main__ import app
from medpos.study import declaration

SHORT = ["figure5"]  # the others are left to make torture


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
    status = CliRunner().invoke(app, ["study", "status", names[0], *tiny]).output
    assert re.search(rf"{names[0]}: (\d+) of \1 models trained, \1 complete", status)
