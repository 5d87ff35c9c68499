"""Compare the files of the Ray engine with those of this process; skip bad files, resume, hold few tasks."""

import csv
import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from images import dicom, pictures, save
from PIL import Image
from running import ENVIRONMENT

from medpos.predict import cohort, inputs
from medpos.predict.engines import RayEngine

# Ray must not be loaded before medpos.
pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")]


def contents(folder):
    """Read all files without times, random numbers or paths of the results."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".dcm")
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "failed.txt"}
    ledger = json.loads(found.pop(".ledger.json"))
    for case in ledger["cases"]:
        case["failure"] = bool(case["failure"])  # its text names the image as the call did
    return {**found, ".ledger.json": ledger}


@pytest.mark.torture
def test_ray_does_what_this_process_does(chest, chest_run, predict, tmp_path):
    folder = pictures(tmp_path / "in", 4)
    (folder / "bad.png").write_text("nothing")
    with Image.open(folder / "case00.png") as image:
        save(dicom(np.asarray(image)), folder / "scan.dcm")
    here, local = predict(chest, folder, out=tmp_path / "local")
    # In a process of its own, by the command line and with relative paths, as a user does it.
    command = [sys.executable, "-m", "medpos", "predict", str(chest_run), "in", "--out", "ray", "--engine", "ray"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 3, done.stderr
    assert "failed: in/bad.png: expected PNG, JPEG, TIFF or BMP, got another format" in done.stderr
    assert "5 segmented, 0 kept from before, 1 failed" in done.stderr
    assert (here.done, len(here.failed)) == (5, 1)
    assert contents(tmp_path / "ray") == contents(local)
    (tmp_path / "ray/case01.png").unlink()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
    assert "1 segmented, 4 kept from before, 1 failed" in done.stderr
    assert contents(tmp_path / "ray") == contents(local)


@pytest.mark.torture
def test_few_tasks_are_held_and_a_signal_ends_the_call_cleanly(chest, tmp_path):
    sources = inputs.find_cases([str(pictures(tmp_path / "in", 12))], tmp_path / "out")
    asked, ended, most = [], [], []

    class Watched(RayEngine):
        def run(self, pipeline, sources, stopped):
            def counted():
                for source in sources:
                    asked.append(source)
                    most.append(len(asked) - len(ended))
                    yield source

            return super().run(pipeline, counted(), stopped)

    def kill(source):
        ended.append(source)
        if len(ended) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threads = os.cpu_count() or 1  # one task at a time
    summary = cohort.predict_cases(chest, sources, tmp_path / "out", watch=kill, engine=Watched(threads=threads))
    assert summary.signal == signal.SIGTERM
    assert 2 <= summary.done <= 4
    assert max(most) <= 3
    assert signal.getsignal(signal.SIGTERM) is before
    assert not list((tmp_path / "out").rglob("*.partial"))
    rows = list(csv.DictReader((tmp_path / "out/measurements.csv").open()))
    assert len({row["case"] for row in rows}) == summary.done
    rest = cohort.predict_cases(chest, sources, tmp_path / "out")
    assert (rest.done, rest.kept) == (12 - summary.done, summary.done)
