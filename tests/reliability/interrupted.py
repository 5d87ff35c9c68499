"""Run commands in forks of one warm process, and end each at a file event, or in the middle of a file.

A file event is an audit event of Python about a file or folder that is opened for writing, made, renamed or removed.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import running
from fuzz.guard import find_written

KILL, INTERRUPT, TERMINATE, HALF = "SIGKILL", "SIGINT", "SIGTERM", "SIGXFSZ"
# What commands load late, so that each takes little time here.
_LOADED = (
    "medpos.evaluate.writing",
    "medpos.explain",
    "medpos.export",
    "medpos.predict.cohort",
    "medpos.report",
    "medpos.study.display",
    "medpos.study.run",
    "monai.bundle",
    "onnxscript",
)
_HANGS_S = 300  # on a busy machine
_ENDS_S = 60  # that worker processes may take to end there


@dataclass(frozen=True)
class Ended:
    """Hold how a command ended: exit status (below 0 for a signal), output, and the file events until then."""

    status: int
    out: str
    err: str
    events: tuple[str, ...]


class Warm:
    """Start commands at once, from a process that has loaded what they need."""

    def __enter__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        here = Path(__file__).parent
        path = os.pathsep.join(map(str, (running.ROOT, here.parent, here)))
        # Not by its name: worker processes would load it too.
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import interrupted; interrupted.serve()"],
            env={**running.ENVIRONMENT, "PYTHONPATH": path},
            **pipes,
        )
        return self

    def __exit__(self, *error):
        self.process.communicate(timeout=60)

    def call(self, arguments, folder, action="", at=0):
        """Run a command in a folder.

        Args:
            arguments: those of ``python -m medpos``.
            folder: working folder, whose files are watched.
            action: signal that ends the command; all processes of a terminal get SIGINT. Empty for none.
            at: number of the file event that the signal comes before, from 1; for ``HALF`` the bytes of a file after
                which it comes.
        """
        place = folder.with_name(f"{folder.name}-output")
        place.mkdir(exist_ok=True)
        call = {"arguments": arguments, "folder": str(folder), "output": str(place), "action": action, "at": at}
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        status, group = json.loads(self.process.stdout.readline())
        _wait_for_the_end(group)
        out, err, events = ((place / name).read_text(errors="replace") for name in ("out", "err", "events"))
        return Ended(status, out, err, tuple(events.splitlines()))


def _wait_for_the_end(group):
    """Wait until no process of a group is left."""
    end = time.monotonic() + _ENDS_S
    while left := [process.pid for process in psutil.process_iter(["status"]) if _is_of(process, group)]:
        assert time.monotonic() < end, f"processes are left: {left}"
        time.sleep(0.05)


def _is_of(process, group):
    with contextlib.suppress(ProcessLookupError):
        return process.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(process.pid) == group
    return False


def serve():
    """Run the commands that come on stdin, each in a fork."""
    from data_prep.cli.main import main as prepare
    from medpos.cli.main import main

    for name in _LOADED:
        importlib.import_module(name)
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        call = json.loads(line)
        child = os.fork()
        if not child:
            answers.close()
            _set_up(call)
            sys.argv = ["medpos", *call["arguments"]]
            if call["arguments"][0] == "data":
                sys.argv = ["data_prep", *call["arguments"][1:]]
                return prepare()
            return main()
        _, status = os.waitpid(child, 0)
        answers.write(json.dumps([os.waitstatus_to_exitcode(status), child]) + "\n")
        answers.flush()
    return None


def _set_up(call):
    os.setsid()
    signal.alarm(_HANGS_S)
    os.chdir(call["folder"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = Path(call["output"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(output / name, write), number)
    _listen(call, os.open(output / "events", write))


def _listen(call, record):
    folder, action, count = Path(call["folder"]).resolve(), call["action"], Counter()
    if action == HALF:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the system then ends the process in the middle of a write
        resource.setrlimit(resource.RLIMIT_FSIZE, (call["at"],) * 2)
    number, owner = getattr(signal, action, None), os.getpid()

    def hear(event, arguments):
        if os.getpid() != owner:
            return
        places = list(find_written(event, arguments))
        if not places or not places[0].is_relative_to(folder) or _changes_nothing(event, places[0]):
            return
        count["events"] += 1
        if action != HALF:
            os.write(record, f"{event} {places[0].relative_to(folder)}\n".encode())
        if action in (KILL, INTERRUPT, TERMINATE) and count["events"] == call["at"]:
            (os.killpg if action == INTERRUPT else os.kill)(owner, number)

    sys.addaudithook(hear)


def _changes_nothing(event, path):
    """Tell whether a folder is made that exists, or a file removed that does not."""
    return event != "open" and path.exists() == (event == "os.mkdir")
