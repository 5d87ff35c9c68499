"""Calls of predict into one folder add up: nothing is lost, overwritten or mixed."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pydicom
import pytest
from PIL import Image
from running import ENVIRONMENT

from medpos.core.errors import InputError
from medpos.core.lock import BusyError, FolderLock
from medpos.predict import cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.ledger import FILE
from medpos.predict.model import Model


@pytest.fixture(scope="module")
def chest(trained):
    return Ensemble([Model(trained)])


@pytest.fixture(scope="module")
def heart(trained_heart):
    return Ensemble([Model(trained_heart)])


def picture(path, seed=0, size=40):
    """Write a picture of its own for each seed and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 4096, (size, size)).astype(np.uint16)
    Image.fromarray(values).save(path)
    return path


def scan(path, seed, uid):
    """Write a DICOM image of its own for each seed, with a UID, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pydicom.Dataset()
    content.file_meta = pydicom.dataset.FileMetaDataset()
    content.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID = uid
    content.StudyInstanceUID, content.SeriesInstanceUID = "1.2.3", f"{uid}.1"
    content.Modality, content.PatientID, content.PatientName = "CR", "1", "Somebody"
    content.Rows = content.Columns = 40
    content.BitsAllocated, content.BitsStored, content.HighBit, content.PixelRepresentation = 16, 12, 11, 0
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.PixelData = np.random.default_rng(seed).integers(0, 4096, (40, 40)).astype(np.uint16).tobytes()
    content.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def predict(chest, tmp_path):
    """Return a function that segments into one folder, and returns the summary."""

    def call(*given, keep_names=False, ensemble=chest, **options):
        out = tmp_path / "out"
        sources = inputs.find_cases([str(path) for path in given], out, keep_names=keep_names)
        return cohort.predict_cases(ensemble, sources, out, cohort.Options(**options))

    return call


def rows(out, name="measurements.csv"):
    return list(csv.DictReader((out / name).open(encoding="utf-8")))


def cases(out):
    return list(dict.fromkeys(row["case"] for row in rows(out)))


def state(out):
    """Return the content of every result that names a case."""
    files = [path for path in out.rglob("*") if path.is_file() and path.suffix in (".png", ".dcm", ".gz")]
    return {path.relative_to(out): path.read_bytes() for path in files}


def test_results_of_all_calls_add_up(predict, tmp_path):
    out = tmp_path / "out"
    predict(picture(tmp_path / "in/b.png", 1))
    first, table = state(out), rows(out)
    predict(picture(tmp_path / "in/a.png", 2))
    assert first.items() <= state(out).items()
    assert rows(out)[: len(table)] == table
    assert cases(out) == ["b", "a"]
    assert {row["case"]: row["file"] for row in rows(out, "names.csv")} == {
        name: str(tmp_path / f"in/{name}.png") for name in "ba"
    }
    assert {row["case"] for row in rows(out, "warnings.csv")} == {"a", "b"}


def test_failures_add_up_and_end_with_success(predict, tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / f"in/{name}.png").write_text("nothing")
        predict(tmp_path / f"in/{name}.png")
    lines = (tmp_path / "out/failed.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == [str(tmp_path / f"in/{name}.png") for name in "ab"]
    predict(picture(tmp_path / "in/a.png"))
    assert cases(tmp_path / "out") == ["a"]
    assert (tmp_path / "out/failed.txt").read_text().splitlines() == lines[1:]


def make_two(folder, kind):
    """Write two images that want the same name and return their paths, which may be the same."""
    first = picture(folder / "one/a.png", 1)
    if kind == "folder":
        return first, picture(folder / "two/a.png", 2)
    if kind == "suffix":
        return first, picture(folder / "one/a.tif", 2)
    if kind == "upper case":
        return first, picture(folder / "two/A.png", 2)
    if kind == "probabilities":
        return first, picture(folder / "two/a_probabilities.png", 2)
    return first, first


@pytest.mark.parametrize("kind", ["folder", "suffix", "upper case", "probabilities", "same path"])
def test_another_image_that_wants_the_name_gets_another(predict, tmp_path, kind):
    out = tmp_path / "out"
    first, second = make_two(tmp_path, kind)
    predict(first, probabilities=True)
    before, table = state(out), rows(out)
    if kind == "same path":
        picture(first, 3)
    assert predict(second, probabilities=True).done == 1
    assert before.items() <= state(out).items()
    assert len(state(out)) == 2 * len(before)
    assert rows(out)[: len(table)] == table
    assert len(cases(out)) == 2
    warned = [
        row["case"] for row in rows(out, "warnings.csv") if row["warning"].startswith("another image at this path")
    ]
    assert warned == (cases(out)[1:] if kind == "same path" else [])
    assert predict(first, second, probabilities=True).done == 0 if kind != "same path" else True


def touch(path):
    os.utime(path, (0, 0))
    return path


def move(path):
    (path.parent.parent / "moved").mkdir()
    return path.rename(path.parent.parent / "moved" / path.name)


def relink(path):
    link = path.with_name("link.png")
    link.symlink_to(path)
    return link


@pytest.mark.parametrize("change", [lambda path: path, touch, move, relink])
def test_the_same_image_is_the_same_case(predict, tmp_path, change):
    path = picture(tmp_path / "in/a.png")
    predict(path)
    before = state(tmp_path / "out")
    changed = change(path)
    for _ in range(2):
        summary = predict(changed)
        assert (summary.done, summary.kept) == (0, 1)
    assert cases(tmp_path / "out") == ["a"]
    assert state(tmp_path / "out") == before


def test_copies_at_two_places_are_two_cases(predict, tmp_path):
    path = picture(tmp_path / "one/a.png")
    predict(path)
    (tmp_path / "two").mkdir()
    predict(shutil.copy2(path, tmp_path / "two/a.png"))
    assert cases(tmp_path / "out") == ["a", "two-a"]


def test_a_dicom_image_is_known_by_its_uid_wherever_it_lies(predict, tmp_path):
    path = scan(tmp_path / "in/a.dcm", 1, "1.2.3.4")
    predict(path)
    for keep_names in (False, True):
        (tmp_path / str(keep_names)).mkdir()
        path = path.rename(tmp_path / str(keep_names) / "b.dcm")
        assert predict(path, keep_names=keep_names).kept == 1
    assert len(cases(tmp_path / "out")) == 1
    assert rows(tmp_path / "out", "names.csv") == [{"case": cases(tmp_path / "out")[0], "file": str(path)}]


def test_images_that_share_a_uid_are_not_mixed(predict, tmp_path):
    predict(scan(tmp_path / "in/a.dcm", 1, "1.2.3.4"))
    before = state(tmp_path / "out")
    predict(scan(tmp_path / "in/b.dcm", 2, "1.2.3.4"))
    assert before.items() <= state(tmp_path / "out").items()
    assert len(cases(tmp_path / "out")) == 2
    assert any(
        "another image with this UID is the case" in row["warning"] for row in rows(tmp_path / "out", "warnings.csv")
    )
    assert "Somebody" not in (tmp_path / "out" / FILE).read_text()


def test_a_source_or_another_file_in_the_folder_is_never_overwritten(predict, tmp_path):
    path = picture(tmp_path / "out/a.png")
    content = path.read_bytes()
    predict(path)
    assert path.read_bytes() == content
    assert cases(tmp_path / "out") == ["out-a"]


def test_phases_of_two_people_are_not_paired(heart, predict, prepared, tmp_path):
    entries = json.loads((prepared["acdc"] / "dataset.json").read_text())["training"]
    places = {entry["case"]: prepared["acdc"] / entry["image"] for entry in entries}
    one, two = sorted({entry["subject"] for entry in entries})[:2]
    for folder, subject, phases in (("A", one, ["ED"]), ("B", two, ["ED", "ES"])):
        (tmp_path / folder).mkdir()
        for phase in phases:
            shutil.copy(places[f"{subject}_{phase}"], tmp_path / folder / f"p_{phase}.nii.gz")
        predict(tmp_path / folder, ensemble=heart)
    assert cases(tmp_path / "out")[:3] == ["p_ED", "B-p_ED", "B-p_ES"]
    assert {row["subject"] for row in rows(tmp_path / "out") if row["measure"] == "EF"} <= {"B-p"}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({}, {"probabilities": True}, "expected no --probabilities, as for the predictions there, got --probabilities"),
        ({}, {"overlays": False}, "expected --overlays, as for the predictions there, got no --overlays"),
        ({"spacing_mm": (1.0, 2.5)}, {}, "expected --spacing 1,2.5, as for the predictions there, got no --spacing"),
        (
            {},
            {"window": (0.0, 9.0), "force": True},
            "expected no --force, no --window, as .*, got --force, --window 0,9",
        ),
    ],
)
def test_other_options_are_refused_by_name(predict, tmp_path, before, after, message):
    path = picture(tmp_path / "in/a.png")
    predict(path, **before)
    kept = state(tmp_path / "out")
    with pytest.raises(InputError, match=message) as error:
        predict(path, **after)
    assert "\n" not in str(error.value)
    assert state(tmp_path / "out") == kept


def test_another_model_is_refused_by_name(chest, trained, predict, tmp_path):
    path = picture(tmp_path / "in/a.png")
    predict(path)
    with pytest.raises(InputError, match="expected no --tta, as for the predictions there, got --tta flip"):
        predict(path, ensemble=Ensemble(chest.models, tta=("flip",)))
    with pytest.raises(InputError, match=r"expected jsrt_small_pe/a \(weights \w{8}\), as .*, got .* and .*"):
        predict(path, ensemble=Ensemble([*chest.models, Model(trained)]))


@pytest.mark.parametrize("damage", [None, "{", '{"settings": 1}'])
def test_predictions_of_unknown_options_are_not_added_to(predict, tmp_path, damage):
    path = picture(tmp_path / "in/a.png")
    predict(path)
    manifest = tmp_path / "out/predictions.json"
    manifest.unlink()
    if damage:
        manifest.write_text(damage)
    with pytest.raises(InputError, match="expected runs and options of the predictions, got"):
        predict(path)


@pytest.mark.parametrize("content", ["", "[]", '{"cases": [{"x": 1}]}', '{"cases": 1}'])
def test_a_damaged_ledger_is_named(predict, tmp_path, content):
    path = picture(tmp_path / "in/a.png")
    predict(path)
    (tmp_path / "out" / FILE).write_text(content)
    with pytest.raises(InputError, match=r"\.ledger\.json: expected the ledger of the predictions"):
        predict(path)


def test_a_folder_of_an_earlier_version_goes_on(predict, tmp_path):
    paths = [picture(tmp_path / f"in/{name}.png", number) for number, name in enumerate("ab")]
    paths.append(scan(tmp_path / "dicom/a.dcm", 1, "1.2.3.4"))
    for path in paths:
        predict(path)
    table = rows(tmp_path / "out")
    (tmp_path / "out" / FILE).unlink()
    for path in (tmp_path / "out/.cases").iterdir():
        record = json.loads(path.read_text())
        del record["content"]
        path.write_text(json.dumps(record))
    assert sum(predict(path).kept for path in paths) == 3
    assert sorted(map(str, rows(tmp_path / "out"))) == sorted(map(str, table))
    predict(picture(tmp_path / "two/a.png", 7))
    assert len(cases(tmp_path / "out")) == 4


def command(run, *options):
    return [sys.executable, "-m", "medpos", "predict", str(run), "in", "--out", "out", *options]


def call(run, folder, *options):
    return subprocess.run(command(run, *options), cwd=folder, capture_output=True, text=True, env=ENVIRONMENT)


@pytest.mark.torture
def test_two_calls_at_the_same_time_are_refused_and_a_killed_one_goes_on(trained, tmp_path):
    for number in range(60):
        picture(tmp_path / f"in/case{number:02d}.png", number)
    process = subprocess.Popen(command(trained), cwd=tmp_path, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    while process.poll() is None and not list(tmp_path.glob("out/.cases/*.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    try:
        second = call(trained, tmp_path, "--probabilities")
        assert second.returncode == 2
        assert f"error: out is being written by process {process.pid} on " in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        process.kill()
        process.wait()
    other = call(trained, tmp_path, "--probabilities")
    assert other.returncode == 2
    assert "got --probabilities; choose another --out" in other.stderr
    leftover = tmp_path / f"out/.0123456789abcdef.{process.pid}.partial"
    leftover.write_text("half")
    assert call(trained, tmp_path).returncode == 0
    assert cases(tmp_path / "out") == [f"case{number:02d}" for number in range(60)]
    assert not leftover.exists()
    assert not (tmp_path / "out/.lock").exists()


@pytest.mark.torture
def test_a_zip_file_that_was_moved_with_its_results_is_the_same(trained, tmp_path):
    picture(tmp_path / "a/x.png")
    (tmp_path / "a/in").mkdir()
    with zipfile.ZipFile(tmp_path / "a/in/x.zip", "w") as archive:
        archive.write(tmp_path / "a/x.png", "x.png")
    options = [str(trained), "in/x.zip", "--out", "out"]
    for place in ("a", "b"):
        done = subprocess.run(
            [sys.executable, "-m", "medpos", "predict", *options],
            cwd=tmp_path / place, capture_output=True, text=True, env=ENVIRONMENT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        if place == "a":
            (tmp_path / "a").rename(tmp_path / "b")
    assert "0 segmented, 1 kept from before" in done.stderr
    assert cases(tmp_path / "b/out") == ["x"]


def test_nothing_remains_of_a_call_that_can_do_nothing(trained, tmp_path):
    done = call(trained, tmp_path)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_lock_held_elsewhere_refuses_the_library_too(predict, tmp_path):
    path = picture(tmp_path / "in/a.png")
    (tmp_path / "out").mkdir()
    lock = FolderLock(tmp_path / "out", inside=True)
    lock.path.write_text(json.dumps({"process": 1, "host": "elsewhere", "started": 1.0}))
    with pytest.raises(BusyError, match="choose another --out"):
        predict(path)
