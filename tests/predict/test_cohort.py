"""Segment many cases: resume, stop, write tables of all of them."""

import csv
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from images import labels_of, pictures
from PIL import Image
from running import ENVIRONMENT

from medpos.core.errors import InputError
from medpos.predict import cohort, inputs
from medpos.predict.case import Pipeline
from medpos.predict.measurements import find_label_warnings
from medpos.predict.model import Model


def table(path):
    return list(csv.DictReader(path.open()))


def test_second_call_does_what_is_left(chest, predict, tmp_path):
    folder = pictures(tmp_path / "in", 3)
    summary, out = predict(chest, folder)
    assert (summary.done, summary.kept) == (3, 0)
    first = table(out / "measurements.csv")
    kept = (out / "case00.png").stat().st_mtime_ns
    (out / "case01.png").unlink()
    summary, _ = predict(chest, folder)
    assert (summary.done, summary.kept) == (1, 2)
    assert (out / "case00.png").stat().st_mtime_ns == kept
    assert table(out / "measurements.csv") == first


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_call_cleanly_and_the_next_goes_on(chest, predict, tmp_path, number):
    sources = inputs.find_cases([str(pictures(tmp_path / "in", 6))], tmp_path / "out")
    before = signal.getsignal(number)

    def kill(source):
        if source.name == "case01":
            os.kill(os.getpid(), number)

    summary = cohort.predict_cases(chest, sources, tmp_path / "out", watch=kill)
    assert (summary.signal, summary.done) == (number, 2)
    assert signal.getsignal(number) is before
    assert {row["case"] for row in table(tmp_path / "out/measurements.csv")} == {"case00", "case01"}
    assert not list((tmp_path / "out").rglob("*.partial"))
    summary = cohort.predict_cases(chest, sources, tmp_path / "out")
    assert (summary.signal, summary.done, summary.kept) == (0, 4, 2)
    assert len({row["case"] for row in table(tmp_path / "out/measurements.csv")}) == 6


def test_few_cases_are_held_at_a_time(chest, tmp_path, monkeypatch):
    sources = inputs.find_cases([str(pictures(tmp_path / "in", 12))], tmp_path / "out")
    loaded, lock, most = [], threading.Lock(), []
    load = Pipeline.load

    def counted(self, source):
        with lock:
            loaded.append(source)
            most.append(len(loaded))
        return load(self, source)

    def done(source):
        with lock:
            loaded.remove(source)

    monkeypatch.setattr(Pipeline, "load", counted)
    assert cohort.predict_cases(chest, sources, tmp_path / "out", watch=done).done == 12
    assert max(most) <= 4


def command(run, *options):
    return [sys.executable, "-m", "medpos", "predict", str(run), "in", "--out", "out", *options]


@pytest.mark.torture
def test_disk_full_stops_the_call_and_the_next_goes_on(chest_run, tmp_path):
    """Stop at a full disk; a limit on the size of files gives the same error from the same call."""
    pictures(tmp_path / "in", 3)
    full = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *command(chest_run)]
    done = subprocess.run(full, cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 2, done.stderr
    assert "error: out/" in done.stderr
    assert "can't be written" in done.stderr
    assert "make room on the disk or choose another folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").rglob("*.partial"))
    done = subprocess.run(command(chest_run), cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert "0 failed" in done.stderr


def test_sigterm_ends_the_process_cleanly_and_the_next_goes_on(chest_run, tmp_path):
    pictures(tmp_path / "in", 60)
    process = subprocess.Popen(command(chest_run), cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    records = tmp_path / "out/.cases"
    while process.poll() is None and not (records.is_dir() and list(records.glob("*.json"))):
        time.sleep(0.01)
    process.terminate()
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, shown
    assert "stopped by SIGTERM; run the same command to resume" in shown
    assert "Traceback" not in shown
    assert not list((tmp_path / "out").rglob("*.partial"))
    first = len(list(records.glob("*.json")))
    assert 1 <= first < 60
    assert len({row["case"] for row in table(tmp_path / "out/measurements.csv")}) == first
    done = subprocess.run(command(chest_run), cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
    assert f"{60 - first} segmented, {first} kept from before, 0 failed" in done.stderr


def test_warnings_of_each_case_are_in_the_table(chest, predict, tmp_path):
    """Warn of dark images without spacing, and of whatever a network of few epochs predicts."""
    folder = pictures(tmp_path / "in", 2)
    summary, out = predict(chest, folder)
    assert summary.warned == 2
    found = {
        row["case"]: [r["warning"] for r in table(out / "warnings.csv") if r["case"] == row["case"]]
        for row in table(out / "warnings.csv")
    }
    for case in ("case00", "case01"):
        assert "spacing unknown: pixels are counted, give --spacing for mm" in found[case]
        with Image.open(out / f"{case}.png") as image:
            values = np.asarray(image).T[..., None]
        expected = find_label_warnings(values, None, chest.labels)
        assert [text for text in found[case] if "intensity" not in text] == expected


def test_ejection_fraction_of_both_phases(heart, stack, predict):
    folder = stack[0].parent
    summary, out = predict(heart, *sorted(folder.glob(stack[0].name.replace("_ED", "_E*"))), out=folder.parent / "ef")
    assert (summary.done, summary.failed) == (2, [])
    rows = {(r["case"], r["structure"], r["measure"]): r for r in table(out / "measurements.csv")}
    case = stack[0].name.removesuffix("_ED.nii.gz")
    size = np.prod(stack[1].header.get_zooms()) / 1000
    volumes = [(labels_of(out / f"{case}_{phase}.nii.gz") == 3).sum() * size for phase in ("ED", "ES")]
    assert volumes[0] > 0
    assert rows[f"{case}_ED", "lv_cavity", "volume"]["value"] == f"{volumes[0]:.6g}"
    assert rows["", "LV", "EF"]["value"] == f"{100 * (1 - volumes[1] / volumes[0]):.6g}"
    assert rows["", "LV", "EF"]["unit"] == "%"
    assert rows["", "LV", "EF"]["subject"] == case


def test_spacing_and_window_from_the_user(chest, heart, predict, tmp_path, xray):
    path = tmp_path / "a.png"
    Image.fromarray((xray[1].T / 4095 * 100).astype(np.uint8)).save(path)
    _, plain = predict(chest, path, out=tmp_path / "plain")
    _, mended = predict(chest, path, out=tmp_path / "mended", window=(0, 100), spacing_mm=(0.5, 0.5))
    warned = [row["warning"] for row in table(plain / "warnings.csv")]
    assert any(text.startswith("intensity is far from the training set") for text in warned)
    assert any(text.startswith("spacing unknown") for text in warned)
    assert not any("spacing" in row["warning"] or "far" in row["warning"] for row in table(mended / "warnings.csv"))
    assert {row["unit"] for row in table(plain / "measurements.csv")} == {"pixels", ""}
    with Image.open(mended / "a.png") as image:
        area = (np.asarray(image) == 1).sum() * 0.25
    assert table(mended / "measurements.csv")[0]["value"] == f"{area:.6g}"
    with pytest.raises(InputError, match="--window"):
        predict(heart, path, window=(0, 100))


def test_two_runs_vote(chest, chest_run, predict, tmp_path):
    from medpos.predict.ensemble import Ensemble

    folder = pictures(tmp_path / "in", 1)
    summary, out = predict(Ensemble([*chest.models, Model(chest_run)], tta=("flip",)), folder)
    assert (summary.done, summary.failed) == (1, [])
    assert (out / "case00.png").is_file()
