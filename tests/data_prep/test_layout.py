import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import raw

from data_prep import files
from data_prep.datasets import acdc, jsrt
from data_prep.layout import Dataset, prepare_dataset
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.data import schema
from medpos.data.schema import SPLITS as PARTS
from medpos.data.split import apportion, apportion_groups, split_subjects

PARTIAL = "*.partial"


@pytest.fixture
def source(tmp_path):
    return raw.acdc(tmp_path / "raw", 6)


def manifest(out):
    return json.loads((out / "dataset.json").read_text())


def counts(parts, subjects=None):
    return [sum(part == name for s, part in parts.items() if subjects is None or s in subjects) for name in PARTS]


def test_split_of_the_study():
    x_rays = split_subjects({f"JPC{number}": "" for number in range(247)}, jsrt.WEIGHTS, 0)
    assert counts(x_rays) == [156, 23, 68]
    groups = {f"patient{number}": acdc.GROUPS[number % 5] for number in range(100)}
    hearts = split_subjects(groups, acdc.WEIGHTS, 0)
    assert counts(hearts) == [70, 10, 20]
    for group in acdc.GROUPS:
        assert counts(hearts, {s for s in groups if groups[s] == group}) == [14, 2, 4]


def test_split_follows_the_seed_only():
    groups = {f"patient{number}": acdc.GROUPS[number % 5] for number in range(50)}
    assert split_subjects(groups, acdc.WEIGHTS, 3) == split_subjects(dict(reversed(groups.items())), acdc.WEIGHTS, 3)
    assert split_subjects(groups, acdc.WEIGHTS, 3) != split_subjects(groups, acdc.WEIGHTS, 4)
    # Golden: it must stay the same on every machine and version.
    golden = ["patient0", "patient2", "patient23", "patient41", "patient49"]
    assert sorted(s for s, part in split_subjects(groups, acdc.WEIGHTS, 0).items() if part == "validation") == golden


@pytest.mark.parametrize("total", range(1, 60))
def test_apportion(total):
    found = apportion(total, jsrt.WEIGHTS)
    assert sum(found) == total
    assert total < 3 or min(found) >= 1
    if total > 20:
        assert all(abs(count - total * weight / 247) < 1 for count, weight in zip(found, jsrt.WEIGHTS, strict=True))


@pytest.mark.parametrize("sizes", [[16] * 5, [1, 2, 3, 4, 5], [3], [1, 1, 1], [7, 0, 13], [1], [40, 1, 1]])
def test_apportion_groups_keeps_both_sums(sizes):
    table = np.array(apportion_groups(sizes, acdc.WEIGHTS))
    assert table.sum(axis=1).tolist() == sizes
    assert table.sum(axis=0).tolist() == apportion(sum(sizes), acdc.WEIGHTS)
    assert table.min() >= 0


def test_a_weight_of_0_gives_nothing():
    assert apportion(20, (16, 4, 0)) == [16, 4, 0]
    assert apportion(2, (16, 4, 0)) == [1, 1, 0]
    assert counts(split_subjects({f"{n}": "" for n in range(7)}, (16, 4, 0), 0)) == [6, 1, 0]
    assert apportion(4, (0, 0, 9)) == [0, 0, 4]


def test_a_published_part_holds_for_any_seed(source, tmp_path):
    cases = [replace(case, part="test" if case.subject > "patient004" else "") for case in acdc.find_cases(source)]
    dataset = Dataset("acdc", "", labels.ACDC, (3, 1, 0), None, phantom=False)
    for seed in range(4):
        prepare_dataset(dataset, cases, tmp_path / "out", seed)
        made = manifest(tmp_path / "out")
        assert {entry["subject"] for entry in made["test"]} == {"patient005", "patient006"}
        assert made["split"]["subjects"] == {"training": 3, "validation": 1, "test": 2}
        assert made["split"]["published"] == ["test"]
    acdc.prepare(source, tmp_path / "free")
    assert "published" not in manifest(tmp_path / "free")["split"]


def test_nifti_is_deterministic(monkeypatch):
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    first = files.encode_nifti(data, np.eye(4))
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert files.encode_nifti(np.asfortranarray(data), np.eye(4)) == first


def test_second_run_changes_nothing_and_says_so(source, tmp_path):
    out = tmp_path / "out"
    assert "12 cases written" in acdc.prepare(source, out)
    before = raw.times(out)
    assert acdc.prepare(source, out, workers=2).startswith("unchanged: 12 cases")
    assert raw.times(out) == before


def test_workers_give_the_same_tree(source, tmp_path):
    acdc.prepare(source, tmp_path / "one", workers=1)
    acdc.prepare(source, tmp_path / "two", workers=2)
    assert raw.tree(tmp_path / "one") == raw.tree(tmp_path / "two")


def test_only_a_changed_source_is_read_again(source, tmp_path):
    out = tmp_path / "out"
    acdc.prepare(source, out)
    label = source / "patient003/patient003_frame01_gt.nii.gz"
    raw.nifti(label, np.where(raw.label() == 1, 0, raw.label()))
    assert "1 cases written, 11 up to date" in acdc.prepare(source, out)
    acdc.prepare(source, tmp_path / "fresh")
    assert raw.tree(out) == raw.tree(tmp_path / "fresh")


def test_another_group_or_seed_is_noticed(source, tmp_path):
    out = tmp_path / "out"
    acdc.prepare(source, out)
    before = manifest(out)
    assert "0 cases written" in acdc.prepare(source, out, seed=1)
    assert {part: manifest(out)[part] for part in PARTS} != {part: before[part] for part in PARTS}
    (source / "patient001/Info.cfg").write_text("ED: 1\nES: 7\nGroup: RV\n")
    assert "2 cases written" in acdc.prepare(source, out)
    assert {e["group"] for part in PARTS for e in manifest(out)[part] if e["subject"] == "patient001"} == {"RV"}


def test_another_size_is_noticed(tmp_path):
    images, masks = raw.jsrt(tmp_path / "raw")
    jsrt.prepare(images, masks, tmp_path / "out", size=128)
    assert "1 cases written" in jsrt.prepare(images, masks, tmp_path / "out", size=256)
    assert manifest(tmp_path / "out")["training"][0]["shape"] == [256, 256, 1]


@pytest.mark.parametrize(
    "name", ["images/patient002_ED.nii.gz", "labels/patient002_ED.nii.gz", ".cases/patient002_ED.json"]
)
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"{}")])
def test_a_damaged_output_is_rewritten(source, tmp_path, name, damage):
    out = tmp_path / "out"
    acdc.prepare(source, out)
    before = raw.tree(out)
    damage(out / name.format("patient002_ED"))
    assert "1 cases written" in acdc.prepare(source, out)
    assert raw.tree(out) == before


def test_cases_of_earlier_runs_are_removed(source, tmp_path):
    out = tmp_path / "out"
    acdc.prepare(source, out)
    (source / "patient006").rename(tmp_path / "patient006")
    assert "2 removed" in acdc.prepare(source, out)
    acdc.prepare(source, tmp_path / "fresh")
    assert raw.tree(out) == raw.tree(tmp_path / "fresh")


def test_another_data_set_is_not_overwritten(source, tmp_path):
    out = tmp_path / "out"
    acdc.prepare(source, out)
    before = raw.tree(out)
    with pytest.raises(InputError, match="out: expected a folder of jsrt, got one of acdc; choose another --out"):
        jsrt.prepare(*raw.jsrt(tmp_path / "x"), out, size=128)
    assert raw.tree(out) == before


def test_a_bad_source_leaves_the_finished_folder_unchanged(source, tmp_path):
    out = tmp_path / "out"
    acdc.prepare(source, out)
    before = raw.tree(out)
    (source / "patient002/patient002_frame01.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match="expected a complete gzip"):
        acdc.prepare(source, out)
    assert raw.tree(out) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_stops_at_a_bad_case_and_continues_after_its_repair(source, tmp_path, workers):
    out, bad = tmp_path / "out", source / "patient006/patient006_frame07.nii.gz"
    good = bad.read_bytes()
    bad.write_bytes(good[:100])
    with pytest.raises(InputError, match=r"patient006_frame07.nii.gz: expected a complete gzip"):
        acdc.prepare(source, out, workers=workers)
    assert not (out / "dataset.json").exists()
    bad.write_bytes(good)
    message = acdc.prepare(source, out)
    assert int(message.split(": ")[1].split()[0]) < 12
    acdc.prepare(source, tmp_path / "fresh")
    assert raw.tree(out) == raw.tree(tmp_path / "fresh")


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from data_prep.datasets import acdc
from medpos.core import files
write, calls = files.write_atomically, []
def die(path, put):
    calls.append(path)
    if len(calls) == int(sys.argv[3]):
        path.with_name(f".{path.name}.1.partial").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, put)
files.write_atomically = die
acdc.prepare(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("call", [1, 8, 9, 37])  # an image, a label, a record, dataset.json
def test_a_killed_run_continues_where_it_stopped(source, tmp_path, call):
    out = tmp_path / "out"
    code = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, source, out, str(call)], check=False).returncode
    assert code == -signal.SIGKILL
    assert len(list(out.rglob(PARTIAL))) == 1
    assert not (out / "dataset.json").exists()
    done = (call - 1) // 3
    assert f"{12 - done} cases written, {done} up to date" in acdc.prepare(source, out)
    acdc.prepare(source, tmp_path / "fresh")
    assert raw.tree(out) == raw.tree(tmp_path / "fresh")


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
from data_prep.__main__ import main
main()
"""


def test_full_disk(source, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", FULL_DISK, "acdc", "--source", source, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "patient001_ED.nii.gz: can't be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not raw.tree(out)


def test_out_that_is_not_a_folder(source, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"can't be created or written.*choose another --out"):
            acdc.prepare(source, out)


def test_odd_names_are_refused(source, tmp_path):
    case = replace(acdc.find_cases(source)[0], case="../patient")
    with pytest.raises(InputError, match="can't be called"):
        prepare_dataset(None, [case], tmp_path / "out")


def test_manifest_is_read_by_monai(source, tmp_path):
    data = pytest.importorskip("monai.data")
    acdc.prepare(source, tmp_path / "out")
    items = data.load_decathlon_datalist(tmp_path / "out/dataset.json", True, "validation")
    assert Path(items[0]["image"]).is_file()
    assert Path(items[0]["label"]).is_file()


def test_manifests_hold_the_keys_of_the_schema(prepared):
    for folder in prepared.values():
        content = manifest(folder)
        assert schema.KEYS.keys() <= content.keys() <= schema.KEYS.keys() | schema.OPTIONAL_KEYS.keys()
        assert content["intensity"].keys() == set(schema.INTENSITY_KEYS)
        assert all(label.keys() == schema.LABEL_KEYS.keys() for label in content["labels"])
        cases = [case for split in PARTS for case in content[split]]
        assert all(schema.CASE_KEYS.keys() <= case.keys() for case in cases)
        assert all(schema.INSTANCE_KEYS.keys() <= case.keys() for case in cases if "instances" in case)
