"""Share decoded cases by files: read by later processes, rebuilt where damaged, with the same values and weights."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from running import parser, run_here

from medpos.core.errors import InputError
from medpos.data.cached import CachedDataset
from medpos.data.shared import share_in


def build(prepared, bundle="jsrt_small", part="train::", **overrides):
    config = parser(bundle, dataset_dir=str(prepared["jsrt"]), **{"image_size": 32, **overrides})
    return config.get_parsed_content(f"{part}dataset")


def items(dataset):
    dataset.fill()
    return [dataset.decoded(place) for place in range(len(dataset.places))]


def assert_equal(found, wanted):
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        assert list(one) == list(other)
        for key, value in other.items():
            assert torch.equal(one[key], value) if isinstance(value, torch.Tensor) else one[key] == value, key


@pytest.fixture
def first(prepared, tmp_path):
    """Decode cases that others then find, and return the file."""
    with share_in(tmp_path):
        items(build(prepared))
    [file] = tmp_path.iterdir()
    return file


def test_models_of_other_seeds_and_alphas_decode_nothing(prepared, first, monkeypatch):
    wanted = items(build(prepared))
    monkeypatch.setattr(CachedDataset, "_decode", lambda *_: pytest.fail("decoded again"))
    with share_in(first.parent):
        for bundle, overrides in (("jsrt_small", {"seed": 1}), ("jsrt_small_pe", {"pe_alpha": 9.0, "seed": 2})):
            assert_equal(items(build(prepared, bundle, **overrides)), wanted)
    assert list(first.parent.iterdir()) == [first]


@pytest.mark.parametrize(
    "change", [{"image_size": 48}, {"part": ""}, {"memory_gb": 1e-9}, {"steps::scale::b_max": 0.5}], ids=str
)
def test_other_cases_or_another_decoding_are_another_file(change, prepared, first):
    wanted = items(build(prepared, **change))
    with share_in(first.parent):
        assert_equal(items(build(prepared, **change)), wanted)
    assert len(list(first.parent.iterdir())) == 2


def test_a_changed_file_is_decoded_again(prepared, first, monkeypatch):
    dataset = build(prepared)
    image = dataset.data[0]["image"]
    before = Path(image).stat()
    try:
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        with share_in(first.parent):
            items(dataset)
    finally:
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(list(first.parent.iterdir())) == 2


def empty(content):
    return b""


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [empty, cut, flip])
def test_a_damaged_file_is_written_anew(damage, prepared, first, caplog):
    wanted = items(build(prepared))
    first.write_bytes(damage(first.read_bytes()))
    for damaged in (True, False):
        caplog.clear()
        with share_in(first.parent):
            assert_equal(items(build(prepared)), wanted)
        assert ("is damaged: its cases are decoded again" in caplog.text) == damaged


def test_others_wait_for_the_process_that_decodes(prepared, first, monkeypatch):
    whole = first.read_bytes()
    first.unlink()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(other.pid).create_time()
    lock = first.with_name(f".{first.name}.lock")
    lock.write_text(f'{{"process": {other.pid}, "host": "{os.uname().nodename}", "started": {started}}}')

    def finish():
        time.sleep(0.3)
        first.write_bytes(whole)
        other.communicate(b"\n")

    thread = threading.Thread(target=finish)
    thread.start()
    monkeypatch.setattr(CachedDataset, "_decode", lambda *_: pytest.fail("decoded by both"))
    with share_in(first.parent):
        found = items(build(prepared))
    thread.join()
    monkeypatch.undo()
    assert_equal(found, items(build(prepared)))


def test_a_full_disk_shares_nothing(prepared, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    wanted = items(build(prepared))
    monkeypatch.setattr(torch, "save", fail)
    with share_in(tmp_path):
        assert_equal(items(build(prepared)), wanted)
    assert "aren't shared among processes" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_step_without_a_name_shares_nothing(prepared, tmp_path, caplog):
    dataset = build(prepared)
    steps = dataset.decode
    dataset.decode = lambda item: steps(item)
    wanted = items(build(prepared))
    with share_in(tmp_path):
        assert_equal(items(dataset), wanted)
    assert "can't be compared" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_bad_files_are_refused_as_without(prepared, tmp_path):
    dataset = build(prepared)
    dataset.data[0] = {**dataset.data[0], "shape": [1, 1, 1]}
    with share_in(tmp_path), pytest.raises(InputError, match="expected one shape"):
        dataset.fill()
    assert list(tmp_path.iterdir()) == []


def test_the_weights_are_the_same(prepared, tmp_path):
    settings = {"dataset_dir": str(prepared["jsrt"]), "image_size": 32, "batch_size": 5, "max_epochs": 2}
    folder = tmp_path / "decoded"
    weights = []
    for name, shared in (("alone", None), ("first", folder), ("second", folder)):
        with share_in(shared):
            run_here("jsrt_small", runs_dir=str(tmp_path), run_name=name, **settings)
        weights.append(torch.load(tmp_path / "jsrt_small" / name / "model.pt"))
    assert len({path.name for path in folder.iterdir()}) == 3  # training, validation and test
    for other in weights[1:]:
        assert all(torch.equal(other[key], value) for key, value in weights[0].items())
