"""The end of a command: one line for what is known, its traceback for what is not, the signal by its name."""

import signal
import subprocess
import sys

import pytest
import torch
from monai.bundle import ConfigParser

from medpos.core.ending import explain
from medpos.core.errors import InputError

STOPPED = """
import sys, time
from medpos.core.ending import stop_plainly
stop_plainly(lambda: "; go on")
try:
    print("ready", flush=True)
    time.sleep(60)
finally:
    print("cleaned", flush=True)
"""


DELETED = """
import time
from medpos.core.ending import stop_plainly
class Slow:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(3)
stop_plainly()
slow = Slow()
del slow
time.sleep(60)
"""


def raised(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def raise_it():
    raise InputError("file x: correct it")


def build(part, **config):
    return raised(ConfigParser({"part": part, **config}).get_parsed_content, "part")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            {"_target_": "torch.optim.SGD", "params": "$[torch.ones(1)]", "lr": -1},
            "--part: torch.optim.SGD refuses its",
        ),
        ([{"_target_": "DataLoader", "dataset": [1], "batch_size": 0}], "--part#0: monai.data.dataloader.DataLoader"),
        ("$@part + 1", "detected circular references"),
        ("@nothing", "referring item `@nothing` is not defined"),
        ({"_target_": "torch.nn.Rellu"}, "torch.nn.Rellu"),
        ("$torch.empty(10**13)", "memory is not enough"),
    ],
    ids=str,
)
def test_errors_of_a_configuration(part, words):
    message = explain(build(part))
    assert words in message
    assert "\n" not in message
    assert ";" in message


def test_what_was_meant_comes_first():
    assert explain(InputError("file x: correct it")) == "file x: correct it"
    assert explain(build("$raise_it()", imports=["$from test_ending import raise_it"])) == "file x: correct it"
    assert "memory is not enough" in explain(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))


def test_errors_of_the_program_and_of_the_user_s_own_parts_keep_their_traceback():
    assert explain(KeyError("a fault of the program")) is None
    assert explain(build({"_target_": "builtins.int", "x": 1})) is None
    assert explain(build("$__import__('json').loads('{')")) is None


def test_an_expression_that_is_wrong_itself_is_one_line():
    words = "--part: can't be evaluated (division by zero); correct the expression or the imports"
    assert explain(build("$1 / 0")) == words


@pytest.mark.parametrize(
    ("number", "name", "status"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)]
)
def test_signals_are_said_and_clean_up(number, name, status):
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (status, "cleaned\n", f"\nstopped by {name}; go on\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_an_object_is_deleted_is_not_lost(number):
    """Python ignores exceptions there; loaders end their workers in such a place after every epoch."""
    process = subprocess.Popen(
        [sys.executable, "-c", DELETED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=50)
    assert process.returncode == 128 + number
    assert err.count("\n") == 2


def test_a_second_signal_ends_the_process_at_once():
    code = STOPPED.replace('print("cleaned", flush=True)', 'print("cleaning", flush=True); time.sleep(60)')
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT


CYCLE = """
import sys
from medpos.core.ending import skip_garbage
class Ring:
    def __init__(self):
        self.own = self
    def __del__(self):
        print("searched")
def make():
    Ring()
if sys.argv[1] == "skip":
    skip_garbage()
make()
print("done")
"""


@pytest.mark.parametrize(("way", "printed"), [("skip", ["done"]), ("search", ["done", "searched"])])
def test_no_garbage_is_searched_at_the_end(way, printed):
    done = subprocess.run([sys.executable, "-c", CYCLE, way], check=True, capture_output=True, text=True)
    assert done.stdout.split() == printed
