"""Lock a folder while it is written, so that no two processes write into one."""

import atexit
import contextlib
import json
import os
import platform
import threading
import time
from pathlib import Path
from typing import Any

import psutil

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

from medpos.core.errors import InputError
from medpos.core.files import WriteError, decode_json

BEAT_S = 5.0
STALE_S = 60.0  # without a heartbeat; clocks and caches of network drives may be seconds late
_held: dict[Path, "FolderLock"] = {}  # locks of this process


class BusyError(InputError):
    """Tell that another process writes into this folder."""


class FolderLock:
    """Hold a lock file for a folder, with a heartbeat; as a context manager, until the end of the block.

    The lock of a process that is gone is taken over: at once on the same machine, else after a minute without a
    heartbeat. One process may lock a folder again; a block within another of the same process leaves the lock to it.

    Args:
        folder: folder to lock.
        inside: whether the lock file is ``.lock`` in the folder, which is made if missing, and removed
            again if it stays empty; else it is ``.NAME.lock``
            beside it, and the folder may be missing, the folder above it not.
        other: how to choose another folder, for the message that this one is busy; of a lock beside its folder, which
            is a run's, a folder that can't be written asks for another ``--runs_dir``.
    """

    def __init__(self, folder: Path, inside: bool = False, other: str = "choose another --run_name") -> None:
        self.folder = folder
        self.path = folder.absolute() / ".lock" if inside else folder.with_name(f".{folder.name}.lock")
        self._inside, self._other, self._made = inside, other, False
        self._stop = threading.Event()

    def __enter__(self) -> "FolderLock":
        """Take the lock unless this process has it."""
        return self if self.path in _held else self.acquire()

    def __exit__(self, *error: object) -> None:
        """Give the lock back if this block took it."""
        self.release()

    def acquire(self) -> "FolderLock":
        """Take the lock.

        Raises:
            BusyError: another process holds it; the message names the process.
            WriteError: the lock file can't be written.
        """
        if self.path in _held:
            _held[self.path].release()
        try:
            if self._inside:
                self._made = not self.folder.exists()
                self.folder.mkdir(parents=True, exist_ok=True)
            while not self._take():
                pass
        except OSError as error:
            if self._made:
                with contextlib.suppress(OSError):
                    self.folder.rmdir()
            elsewhere = self._other if self._inside else "choose another --runs_dir"
            raise WriteError(
                f"{self.folder}: can't be created or written ({error.strerror}); make room on the disk, or {elsewhere}"
            ) from error
        _held[self.path] = self
        threading.Thread(target=self._beat, daemon=True).start()
        atexit.register(self.release)
        return self

    def _take(self) -> bool:
        """Write this process into the lock file; return whether the file is still in its place then."""
        with self.path.open("a+", encoding="utf-8") as stream:
            with contextlib.suppress(OSError, AttributeError):  # a network drive and Windows may not know it
                # One at a time, so that of two processes that find a stale lock one gets it.
                fcntl.flock(stream, fcntl.LOCK_EX)
            if not _is_same(stream.fileno(), self.path):
                return False  # its holder has removed it since
            if os.fstat(stream.fileno()).st_size:
                self.check()
            stream.truncate(0)
            try:
                json.dump(_describe_process(), stream)
                stream.flush()
            except OSError:  # of a full disk; a lock that nobody can read would be held for ever
                self.path.unlink(missing_ok=True)
                raise
            return _is_same(stream.fileno(), self.path)

    def check(self) -> None:
        """Check that no other process holds the lock.

        Raises:
            BusyError: another process holds it; the message names the process.
        """
        if holder := self.holder():
            raise BusyError(
                f"{self.folder} is being written by process {holder['process']} on {holder['host']}; wait until it has "
                f"ended, or {self._other} (if it is gone, delete {self.path})"
            )

    def holder(self) -> dict[str, Any] | None:
        """Return process and host of another living process that holds the lock; None if there is none."""
        try:
            age = time.time() - self.path.stat().st_mtime
            content = decode_json(self.path.read_text(encoding="utf-8") or "{}")
        except FileNotFoundError:
            return None
        except ValueError:
            content = {}
        content = content if isinstance(content, dict) else {}
        found = {"process": content.get("process"), "host": content.get("host"), "started": content.get("started")}
        if found == _describe_process():
            return None
        if found["host"] == platform.node():
            return found if _is_alive(found) else None
        return found if age < STALE_S else None

    def release(self) -> None:
        """Give the lock back; later calls do nothing."""
        if _held.get(self.path) is not self:
            return
        self._stop.set()
        del _held[self.path]
        atexit.unregister(self.release)
        with contextlib.suppress(OSError):  # a folder that can't be written to any more
            if self.holder() is None:  # else another process took the lock over while this one was suspended
                self.path.unlink(missing_ok=True)
                if self._made and not any(self.folder.iterdir()):
                    self.folder.rmdir()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            with contextlib.suppress(OSError):  # a network drive may be away for a moment
                os.utime(self.path)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def release_all() -> None:
    """Release every lock of this process."""
    for lock in list(_held.values()):
        lock.release()


def _describe_process() -> dict[str, Any]:
    process = psutil.Process()
    return {"process": process.pid, "host": platform.node(), "started": process.create_time()}


def _is_alive(found: dict[str, Any]) -> bool:
    """Tell whether the process still runs; another one may have got its number since."""
    try:
        process = psutil.Process(int(found["process"]))
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() == found["started"])
    except (psutil.Error, TypeError, ValueError, OverflowError):
        return False
