"""The short form of the fuzzing, always with the same files; ``python -m tests.reliability.fuzz`` is the long one."""

import os
import socket
import subprocess
import time

import pytest
from fuzz import guard
from fuzz.changes import changed
from fuzz.search import search
from fuzz.targets import TARGETS, Target, write
from hypothesis import find, settings

from medpos.core.errors import InputError

FEWER = {"configuration": 3, "study": 4, "dataset.json": 4}  # of the slower ones


@pytest.mark.parametrize("is_long", [False, pytest.param(True, marks=pytest.mark.torture)], ids=["short", "long"])
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused_in_one_line(name, is_long):
    examples = 200 if is_long else FEWER.get(name, 8)
    found = search(TARGETS[name], seed=0, examples=examples)
    assert found.fault == ""
    assert found.counts["tried"] > 0
    assert found.counts["refused"] > 0 or not is_long


def outside(path):
    return path.parents[1] / f"{path.parents[1].name}-outside"


class TwoLinesError(InputError):
    def __str__(self):
        return "one\ntwo"


def raise_two_lines(path):
    raise TwoLinesError


FAULTS = {
    "KeyError": lambda path: {}["x"],
    "outside its folder: open": lambda path: outside(path).write_text("x"),
    "outside its folder: os.mkdir": lambda path: outside(path).mkdir(),
    "outside its folder: os.rename": lambda path: path.rename(outside(path)),
    "outside its folder: os.symlink": lambda path: (path.parent / "link").symlink_to("/"),
    "outside its folder: os.system": lambda path: os.system("true"),
    "outside its folder: subprocess.Popen": lambda path: subprocess.run(["true"], check=True),
    "outside its folder: socket.connect": lambda path: socket.socket().connect(("127.0.0.1", 9)),
    "took more than": lambda path: time.sleep(2),
    "MemoryError": lambda path: bytearray(1 << 60),
    "one printable line": raise_two_lines,
}


@pytest.mark.parametrize("words", FAULTS)
def test_the_fuzzing_finds_what_it_looks_for(words, tmp_path, monkeypatch):
    """A sound file is read; any damaged one is a fault of the reader."""
    monkeypatch.setattr(guard, "SECONDS", 0.2)
    sound = b"sound"

    def read(path):
        if path.read_bytes() != sound:
            FAULTS[words](path)

    place = []
    target = Target("x", lambda folder: [write(place.append(folder) or folder / "a.bin", sound)], read)
    found = search(target, seed=0, examples=5, keep=tmp_path)
    assert words in found.fault
    assert list(tmp_path.glob("x-last-a.bin"))
    assert not any(path.name.endswith("-outside") for path in place[0].parents[1].glob(f"{place[0].parent.name}*"))


def test_the_same_seed_tries_the_same_files():
    seen = []
    target = Target(
        "x", lambda folder: [write(folder / "a.json", '{"a": [1, 2]}')], lambda path: seen.append(path.read_bytes())
    )
    for seed in (0, 0, 1):
        search(target, seed=seed, examples=20)
    third = len(seen) // 3
    assert seen[:third] == seen[third : 2 * third] != seen[2 * third :]


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.cfg", b"ED: 1\nES: 2\n", b"ED: 1\n"),
        *(
            pytest.param(*case, marks=pytest.mark.torture)
            for case in (
                ("a.json", b'{"a": {"b": 1}}', b'{"a": {}}'),
                ("a.json", b'{"a": 1}', b'{"a": "../../../x"}'),
                ("a.cfg", b"ED: 1\n", b"ED: nan\n"),
                ("a.nii", bytes(100), bytes(50)),
            )
        ),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_the_changes_reach(name, content, wanted):
    limits = settings(max_examples=100_000, database=None, derandomize=True)
    assert find(changed(name, content), lambda found: found == wanted, settings=limits) == wanted


def test_a_file_that_breaks_a_reader_sometimes_is_found_too(tmp_path):
    calls = []

    def read(path):
        calls.append(path)
        if len(calls) == 3:
            raise KeyError("x")

    found = search(Target("x", lambda folder: [write(folder / "a.bin", b"x")], read), seed=0, examples=5, keep=tmp_path)
    assert "KeyError" in found.fault
