"""End a command with one line and the exit status of its reason, instead of a traceback."""

import atexit
import contextlib
import errno
import gc
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from medpos.core.errors import find_input_error, first_line, printable

_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|bad allocation", re.IGNORECASE)
_COMPONENT = re.compile(r"Failed to instantiate component '([^']+)'")
_WORKER = re.compile(r"DataLoader worker|DataLoader timed out|unable to open shared memory|0 items of ancdata")
_PATH_FAULTS = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EILSEQ)
# Errors of the system, and what to do.
_SYSTEM = {
    **dict.fromkeys(_PATH_FAULTS, "give another path"),
    errno.ENOSPC: "make room on the disk, or choose another folder",
    errno.EDQUOT: "make room within your quota, or choose another folder",
    errno.EFBIG: "allow larger files (ulimit -f), or choose another folder",
    errno.EROFS: "choose another folder",
    errno.EACCES: "change its permissions, or choose another one",
    errno.EPERM: "change its permissions, or choose another one",
    errno.EMFILE: "allow more open files, such as by ulimit -n 4096, or give fewer workers",
    errno.ENFILE: "close other programs, or give fewer workers",
}
# MONAI's messages about a configuration, and what to do.
_MONAI = {
    r"run ID '.*' doesn't exist": "give an entry point of the bundle, such as run or evaluate",
    r"referring item `.*` is not defined": "correct the reference that begins with @",
    r"query key: ": "correct the key, or the text that begins with %, which stands for a file or another key",
    r"detected circular references": "change one of the keys, so that none refers to itself",
    r"Cannot locate (class or function|component)": "correct the _target_, or install the package that it is in",
}


def explain(error: BaseException) -> str | None:
    """Explain an error in one line; None for one that nobody foresaw, where the traceback helps.

    Args:
        error: the error that ends the command.
    """
    if (known := find_input_error(error)) is not None:
        return str(known)
    chain = list(_follow_causes(error))
    for cause in chain:
        if isinstance(cause, MemoryError) or (isinstance(cause, RuntimeError) and _NO_MEMORY.search(str(cause))):
            reason = first_line(cause)
            return f"memory is not enough ({reason}); give a smaller --batch_size or --image_size"
        if (broken := _explain_system(cause)) is not None:
            return broken
        for pattern, advice in _MONAI.items():
            if re.search(pattern, str(cause)):
                return f"{first_line(cause)}; {advice}"
    return _explain_end(error, chain) or _explain_component(error, chain) or _explain_expression(error, chain)


def _explain_system(cause: BaseException) -> str | None:
    """Explain an error of the disk, of the limit of open files or of a worker process."""
    if isinstance(cause, OSError) and cause.errno in _SYSTEM:
        place = f"{printable(str(cause.filename))[:200]}: " if cause.filename else ""
        return f"{place}{cause.strerror}; {_SYSTEM[cause.errno]}"
    is_lost = isinstance(cause, ConnectionError | EOFError) and _comes_from(cause, "multiprocessing")
    if is_lost or (isinstance(cause, RuntimeError) and _WORKER.search(str(cause))):
        return (
            f"a worker process did not deliver ({first_line(cause)}); memory may be short: give a smaller "
            "--num_workers, and go on by --resume True"
        )
    return None


def _comes_from(error: BaseException, package: str) -> bool:
    """Tell whether an error was raised in a package of Python."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").split(".")[0] == package:
            return True
        trace = trace.tb_next
    return False


def _explain_component(error: BaseException, chain: list[BaseException]) -> str | None:
    """Explain why a component of a configuration can't be made; a component of the user's own keeps its traceback."""
    failed = [(cause, match[1]) for cause in chain if (match := _COMPONENT.search(str(cause)))]
    if not failed or failed[-1][1].split(".")[0] not in ("medpos", "monai", "torch", "ignite", "data_prep"):
        return None
    cause, target = failed[-1]
    place = _find_place(cause) or _find_place(error)
    where = f"--{place.replace('::', '#')}" if place else target
    return f"{where}: {target} refuses its values ({first_line(cause.__cause__ or cause)}); correct them"


def _explain_expression(error: BaseException, chain: list[BaseException]) -> str | None:
    """Explain why an expression of a configuration is wrong itself; an error in what it calls keeps its traceback."""
    before = ""
    for cause in chain:
        is_own = before.startswith("Failed to evaluate ConfigExpression") and _find_file(cause) == "<string>"
        if is_own or (isinstance(cause, SyntaxError) and cause.filename in ("<string>", "<unknown>")):
            place = _find_place(error).replace("::", "#")
            return f"--{place}: can't be evaluated ({first_line(cause)}); correct the expression or the imports"
        before = str(cause)
    return None


def _explain_end(error: BaseException, chain: list[BaseException]) -> str | None:
    """Explain a failure of the entry point ``finalize``, which follows a run that is complete."""
    own = [place for place in _find_places(error) if place.split("::")[0] == "finalize"]
    if not own:  # nothing else refers to an entry point
        return None
    place, reason = own[-1].replace("::", "#"), first_line(chain[-1])
    return f"--{place} fails ({reason}); the results are complete, so correct it for the next run"


def _find_file(error: BaseException) -> str:
    """Return the name of the file whose code raised an error: ``<string>`` for an evaluated text."""
    trace, name = error.__traceback__, ""
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_globals.get("__name__") != "medpos.core.moved":  # which answers for names that are not there
            name = frame.f_code.co_filename
        trace = trace.tb_next
    return name


def _follow_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _find_place(error: BaseException) -> str:
    """Return the place in the configuration that MONAI was at, such as ``train::optimizer``; empty where unknown."""
    return ([*_find_places(error)] or [""])[-1]


def _find_places(error: BaseException) -> Iterator[str]:
    """Yield the places in the configuration on the way to an error, the outermost first."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "_resolve_one_item":
            yield str(trace.tb_frame.f_locals.get("id", ""))
        trace = trace.tb_next


def forget_workers() -> None:
    """Let worker processes end from now on without an error, so that an error can be explained undisturbed.

    PyTorch raises an error in the main thread, wherever it is, as soon as it hears that a worker was killed.
    """
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def name_signal(number: int) -> str:
    """Return the name of a signal that stops a command, as users know it."""
    return _SIGNALS[signal.Signals(number)]


class _Stopped(SystemExit):
    """End the process after a signal."""


class _Stop:
    """Handle signals that stop this process: say which, and unwind; a second one ends the process at once."""

    def __init__(self, hint: Callable[[], str]) -> None:
        self.hint, self.owner, self.number, self.is_repeated = hint, os.getpid(), 0, False

    def __call__(self, number: int, frame: FrameType | None) -> NoReturn:
        """Handle a signal in the main thread."""
        if os.getpid() != self.owner or (self.number and not self.is_repeated):  # a child of a fork; a second signal
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if not self.number:
            with contextlib.suppress(Exception):
                sys.stderr.write(f"\nstopped by {name_signal(number)}{self.hint()}\n")
        self.number, self.is_repeated = number, False
        raise _Stopped(128 + number)

    def repeat(self, ignored: "sys.UnraisableHookArgs") -> None:
        """Raise again what Python ignored because the signal came while an object was deleted."""
        if not isinstance(ignored.exc_value, _Stopped):
            sys.__unraisablehook__(ignored)
            return
        self.is_repeated = True
        main = threading.main_thread().ident
        threading.Timer(0.05, lambda: signal.pthread_kill(main or 0, self.number)).start()


def stop_plainly(hint: Callable[[], str] = str) -> None:
    """Say from now on what stopped this process: Ctrl-C (exit status 130) or SIGTERM (143).

    ``finally`` clauses run. Handlers that another program has set stay.

    Args:
        hint: function that returns what to do next, for the end of the line.
    """
    usual = (signal.SIG_DFL, signal.default_int_handler)
    if threading.current_thread() is not threading.main_thread():
        return
    stop = _Stop(hint)
    for number in _SIGNALS:
        if signal.getsignal(number) in usual:
            signal.signal(number, stop)
            sys.unraisablehook = stop.repeat


def skip_garbage() -> None:
    """Leave the objects made so far, such as imported modules, out of garbage collection, and skip it at the end.

    With MONAI imported, each collection takes a tenth of a second, and those at the end a whole one. Call this only in
    a process that the command has for itself: objects that are replaced later may stay in memory.
    """
    gc.freeze()
    atexit.register(gc.freeze)


def run_plainly(command: Callable[[], object]) -> None:
    """Run a command line; an error that can be explained is one line, with exit status 2.

    Args:
        command: the command line.
    """
    stop_plainly()
    skip_garbage()
    try:
        try:
            command()
        except BaseException:  # a second error of a lost worker may come here, and is explained below
            forget_workers()
            raise
    except Exception as error:
        forget_workers()
        message = explain(error)
        if message is None:
            raise
        sys.stderr.write(f"error: {message}\n")
        sys.exit(2)
