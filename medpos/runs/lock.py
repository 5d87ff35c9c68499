"""Lock a run's folder while it is written, so that no two processes write into one."""

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

from medpos.core.errors import InputError

BEAT_S = 5.0
STALE_S = 60.0  # without a heartbeat; clocks and caches of network drives may be seconds late
_held: dict[Path, "FolderLock"] = {}  # locks of this process


class BusyError(InputError):
    """Tell that another process writes into this folder."""


class FolderLock:
    """Hold a lock file beside a folder, ``.NAME.lock``, with a heartbeat.

    The lock of a process that is gone is taken over: at once on the same machine, else after a minute without a
    heartbeat. One process may lock a folder again.

    Args:
        folder: folder to lock; it may be missing, the folder above it not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder.with_name(f".{folder.name}.lock")
        self._stop = threading.Event()

    def acquire(self) -> "FolderLock":
        """Take the lock.

        Raises:
            BusyError: another process holds it; the message names the process.
            OSError: the lock file can't be written.
        """
        if self.path in _held:
            _held[self.path].release()
        while True:
            try:
                with self.path.open("x", encoding="utf-8") as stream:
                    json.dump(_describe_process(), stream)
                break
            except FileExistsError:
                self.check()
                self.path.unlink(missing_ok=True)
        _held[self.path] = self
        threading.Thread(target=self._beat, daemon=True).start()
        atexit.register(self.release)
        return self

    def check(self) -> None:
        """Check that no other process holds the lock.

        Raises:
            BusyError: another process holds it; the message names the process.
        """
        if holder := self.holder():
            raise BusyError(
                f"{self.folder} is being written by process {holder['process']} on {holder['host']}; wait until it has "
                f"ended, or choose another --run_name (if it is gone, delete {self.path})"
            )

    def holder(self) -> dict[str, Any] | None:
        """Return process and host of another living process that holds the lock; None if there is none."""
        try:
            age = time.time() - self.path.stat().st_mtime
            content = json.loads(self.path.read_text(encoding="utf-8") or "{}")
        except FileNotFoundError:
            return None
        except ValueError:
            content = {}
        found = {"process": content.get("process"), "host": content.get("host"), "started": content.get("started")}
        if found == _describe_process():
            return None
        if found["host"] == platform.node():
            return found if _is_alive(found) else None
        return found if age < STALE_S else None

    def release(self) -> None:
        """Give the lock back; later calls do nothing."""
        if not self._stop.is_set():
            self._stop.set()
            _held.pop(self.path, None)
            atexit.unregister(self.release)
            self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            with contextlib.suppress(OSError):  # a network drive may be away for a moment
                os.utime(self.path)


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
    except (psutil.Error, TypeError, ValueError):
        return False
