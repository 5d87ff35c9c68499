"""Commands that are killed or stopped at a file event: the next call gives what an undisturbed one does."""

import json
import math
import re
import shutil
from functools import cache

import pytest
import running
from interrupted import HALF, INTERRUPT, KILL, TERMINATE, Warm

from data_prep import phantoms

RUN = "runs/jsrt_small_pe/a"
SIZES = {"image_size": 32, "batch_size": 5, "max_epochs": running.TRAINED_EPOCHS}
STUDY = {
    "title": "A study of the tests", "paper": "none", "claim": "It segments.", "data": ["jsrt"], "network": "small",
    "seeds": [0], "conditions": ["clean"], "figures": ["bars"],
    "models": [{"name": "with position", "bundle": "{data}_small_pe"}],
    "criteria": [{"text": "it segments", "model": "with position", "at_least": 0.5}],
}  # fmt: skip
COMMANDS = {
    "evaluate": "evaluate DATA/labels DATA/labels --labels DATA --out out",
    "evaluate several tools": "evaluate DATA/labels DATA/labels --labels DATA --also b=DATA/labels --out out",
    "explain": f"explain {RUN} --steps 2",
    "export": f"export {RUN} --out out",
    "new-bundle": "new-bundle mine --data DATA --pe --out out",
    "predict": f"predict {RUN} DATA/images --out out",
    "prepare": "data jsrt --images RAW --masks RAW --size 64 --workers 2 --out out",
    "phantoms": "data phantoms --kind jsrt --cases 2 --out out",
    "report": f"report {RUN} --out out",
    "study": " ".join(
        ["study mine.json --threads 1 --out out --dataset-dir jsrt=DATA", *(f"--set={k}={v}" for k, v in SIZES.items())]
    ),
}
SHARES = [n / 10 for n in range(11)]  # of the file events of a command
HALVES = [2_000, 20_000]  # bytes of a file
# A time, a duration or a number of a process.
_TIMES = re.compile(rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?|\"seconds\": [\d.]+|\"process\": \d+")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "jsrt"
    phantoms.write("jsrt", folder, cases=6)
    return folder


@pytest.fixture(scope="module")
def start(prepared, trained, raw):
    """Run a command by its name in a folder, which gets a trained run and a study at the first call."""

    def run(name, folder, action="", at=0):
        if not folder.exists():
            shutil.copytree(trained, folder / RUN)
            (folder / "mine.json").write_text(json.dumps(STUDY))
        places = {"DATA": prepared["jsrt"], "RAW": raw}
        words = [re.sub("DATA|RAW", lambda found: str(places[found[0]]), word) for word in COMMANDS[name].split()]
        return warm.call(words, folder, action, at)

    with Warm() as warm:
        yield run


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """Run a command to its end; return its folder and how it ended."""

    @cache
    def run(name):
        folder = tmp_path_factory.mktemp("undisturbed") / "folder"
        ended = start(name, folder)
        assert ended.status == 0, ended.err
        return folder, ended

    return run


def contents(folder):
    """Read all files and folders without times; of events of TensorBoard, the folders that have any."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if "tfevents" in name:
            found[f"{path.parent.relative_to(folder)}/events"] = b""
        else:
            found[name] = _TIMES.sub(b"", path.read_bytes()) if path.is_file() else b""
    return found


def differences(folder, other):
    one, two = contents(folder), contents(other)
    return sorted(name for name in {*one, *two} if one.get(name) != two.get(name))


def in_torture(values, kept):
    """Leave the values that are not kept to make torture."""
    return running.leave_to_torture(values, [value for value in values if value not in kept])


@pytest.mark.parametrize("share", in_torture(SHARES, [0.5]))
@pytest.mark.parametrize("name", in_torture(list(COMMANDS), ["evaluate", "export", "study"]))
def test_a_killed_command_is_repeated_as_if_nothing_had_been(start, undisturbed, tmp_path, name, share):
    expected, whole = undisturbed(name)
    ended = start(name, tmp_path / "folder", KILL, max(1, math.ceil(share * len(whole.events))))
    assert ended.status == -9
    again = start(name, tmp_path / "folder")
    found = differences(tmp_path / "folder", expected)
    if share == 1 and again.status == 2:  # killed after its work was done, so that the folder counts as finished
        assert "expected a new or empty folder" in again.err
        found = [name for name in found if name != ".lock"]
    else:
        assert again.status == 0, (ended.events[-1], again.err)
    assert found == [], ended.events[-1]


@pytest.mark.torture
@pytest.mark.parametrize("size", HALVES)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_killed_in_the_middle_of_a_file_is_repeated(start, undisturbed, tmp_path, name, size):
    ended = start(name, tmp_path / "folder", HALF, size)
    # None of its files may be that long, or Python's worker processes get an error in place of the signal.
    is_refused = ended.status == 2 and "can't be written ([Errno 27] File too large)" in ended.err
    assert ended.status in (0, -25) or is_refused, ended.err
    if ended.status:
        again = start(name, tmp_path / "folder")
        assert again.status == 0, again.err
        assert differences(tmp_path / "folder", undisturbed(name)[0]) == []


SIGNALS = {INTERRUPT: ("Ctrl-C", 130), TERMINATE: ("SIGTERM", 143)}


@pytest.mark.parametrize("share", in_torture(SHARES, [0.5]))
@pytest.mark.parametrize("number", in_torture(list(SIGNALS), [INTERRUPT]))
@pytest.mark.parametrize("name", in_torture(list(COMMANDS), ["evaluate", "predict", "prepare"]))
def test_a_stopped_command_says_so_in_one_line_and_leaves_nothing_half_done(
    start, undisturbed, tmp_path, name, number, share
):
    expected, whole = undisturbed(name)
    ended = start(name, tmp_path / "folder", number, max(1, math.ceil(share * len(whole.events))))
    word, status = SIGNALS[number]
    assert ended.status == status, ended.err
    assert ended.err.count(f"stopped by {word}") == 1
    assert not re.search("Traceback|Error|Exception", ended.err), ended.err
    left = [path.name for path in (tmp_path / "folder").rglob(".*") if path.suffix in (".partial", ".lock")]
    assert left == [], ended.events[-1]
    if share in (0.2, 0.5, 0.8):
        again = start(name, tmp_path / "folder")
        assert again.status == 0, again.err
        assert differences(tmp_path / "folder", expected) == []
