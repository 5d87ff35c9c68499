"""Provide a run that was calibrated and measured once."""

import shutil

import pytest
from typer.testing import CliRunner

from medpos.cli.main import app


@pytest.fixture(scope="session")
def calibrated(trained, tmp_path_factory):
    """Return a run after ``medpos calibrate`` and all its measures under degradations; copy it, keep it as it is."""
    run = shutil.copytree(trained, tmp_path_factory.mktemp("calibrated") / "a")
    arguments = ["calibrate", str(run), "--device", "cpu", "--condition", "degradations", "--failures"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    for text in ("predict --calibrated", "what the lights notice", "which prediction is bad", "PHANTOM DATA"):
        assert text in shown.output
    return run
