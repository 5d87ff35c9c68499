"""Provide a run that was calibrated and measured once."""

import pytest
import running
from typer.testing import CliRunner

from medpos.cli.main import app


@pytest.fixture(scope="session")
def calibrated(prepared, tmp_path_factory):
    """Return a run after ``medpos calibrate`` and all its measures under degradations; copy it, keep it as it is.

    It is trained long enough to find every organ in every familiar image.
    """
    run = running.run_here(
        "jsrt_small_pe",
        dataset_dir=str(prepared["jsrt"]),
        runs_dir=str(tmp_path_factory.mktemp("calibrated")),
        run_name="a",
        image_size=32,
        batch_size=5,
        max_epochs=30,
        lr=0.01,
        fit_lights=False,
    )
    arguments = ["calibrate", str(run), "--device", "cpu", "--condition", "degradations", "--failures"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    for text in ("predict --calibrated", "what the lights notice", "which prediction is bad", "PHANTOM DATA"):
        assert text in shown.output
    return run
