"""Watch a reader: which error it ends with, how long it takes, and what it writes, starts or connects to."""

import contextlib
import faulthandler
import os
import signal
import sys
from pathlib import Path

from medpos.core.ending import explain

SECONDS = 60  # that one file may take, on a busy machine
_WRITES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "shutil.rmtree",
}
_FOREIGN = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "os.fork", "pty.spawn"}
_state = {"folder": None, "found": []}


class HangError(BaseException):
    """Report a file that takes too long."""


class BrokenError(AssertionError):
    """Report a reader that a file breaks."""


def find_written(event, arguments):
    """Yield the paths that an audit event of Python is about to write, make, rename or remove."""
    if event == "open":
        path, mode, flags = arguments
        writes = any(sign in mode for sign in "wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        paths, opened = [path] if writes else [], -1
    elif event in _WRITES:
        paths, opened = arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1], arguments[-1]
    else:
        return
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike):
            # Relative to an opened folder where there is one.
            base = os.path.realpath(f"/proc/self/fd/{opened}") if isinstance(opened, int) and opened >= 0 else ""
            yield Path(os.path.realpath(Path(base, os.fsdecode(path))))


def _hear(event, arguments):
    folder = _state["folder"]
    if folder is None:
        return
    if event in _FOREIGN:
        _state["found"].append(f"{event} {arguments!r:.200}")
    for place in find_written(event, arguments):
        if not place.is_relative_to(folder) and place != Path(os.devnull):
            _state["found"].append(f"{event} {place}")


def install():
    """Begin to listen to Python's audit events; a second call changes nothing."""
    if not _state.get("installed"):
        _state["installed"] = True
        sys.addaudithook(_hear)


@contextlib.contextmanager
def watched(folder):
    """Raise :class:`HangError` in a block that takes too long; collect what it does outside the folder.

    Args:
        folder: the only folder that may be written to.
    """

    def stop(*_):
        raise HangError(f"took more than {SECONDS} s")

    install()
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    faulthandler.dump_traceback_later(10 * SECONDS, exit=True)  # of code in C, which no signal stops
    _state.update(folder=str(Path(folder).resolve()), found=[])
    try:
        yield _state["found"]
    finally:
        _state["folder"] = None
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(read, path, folder):
    """Read a damaged file, and check what a reader promises.

    Args:
        read: function that reads the file.
        path: the file.
        folder: the only folder that may be written to.

    Returns:
        Whether the file was refused.

    Raises:
        BrokenError: the reader raises another error than InputError, takes too long, or acts outside the folder.
    """
    error = None
    with watched(folder) as found:
        try:
            read(path)
        except (Exception, HangError) as raised:
            error = raised
    if found:
        raise BrokenError(f"outside its folder: {found[0]}")
    if error is None:
        return False
    message = None if isinstance(error, HangError | MemoryError) else explain(error)
    if message is None:
        raise BrokenError(f"{type(error).__name__}: {error!s:.300}") from error
    if not message.isprintable():
        raise BrokenError(f"expected one printable line, got {message!r:.300}") from error
    return True
