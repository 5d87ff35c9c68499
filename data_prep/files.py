"""Read and write NIfTI reproducibly, write files atomically, and map functions over processes."""

import contextlib
import gzip
import hashlib
import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
from numpy.typing import NDArray
from tqdm import tqdm

from medpos.core.errors import InputError
from medpos.core.files import remove_partials
from medpos.core.lock import FolderLock
from medpos.core.memory import keep_freed_memory
from medpos.io import nifti
from medpos.io.scan import StoredVolume, check_size

Array = NDArray[Any]
Item = TypeVar("Item")
Result = TypeVar("Result")
# Gray values compress about equally well at every level, so a fast one is chosen.
GZIP_LEVEL = 3


def sha256(data: bytes) -> str:
    """Return the SHA-256 digest of ``data``, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def lock_folder(out: Path) -> Iterator[None]:
    """Lock a folder of data while it is written, and remove what a killed process left half-written in it.

    Args:
        out: folder to write; made if missing.

    Raises:
        InputError: another process writes into the folder, or it can't be written to.
    """
    with FolderLock(out, inside=True, other="choose another --out"):
        remove_partials(out)
        yield


def remove_file(path: Path) -> None:
    """Remove a file if it exists.

    Raises:
        InputError: the file can't be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: can't be removed ({error.strerror}). Check the folder's permissions.") from error


def read_nifti(path: Path) -> StoredVolume:
    """Read a NIfTI file by :func:`medpos.io.nifti.read_volume`, gzipped or not, to its last byte.

    A truncated file is found even if only its checksum is cut off.

    Raises:
        InputError: the file is truncated, too large or not NIfTI, holds no plain numbers, or has an invalid spacing or
            affine.
    """
    return nifti.read_volume(path, partial(check_size, path))


def drop_last_axes(data: Array) -> Array:
    """Return an array without the axes of one voxel after the third, which some programs write."""
    shape = list(data.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    return data.reshape(shape, order="A")


def notes_of(*volumes: StoredVolume) -> dict[str, list[str]]:
    """Return the remarks of some volumes as an entry ``notes`` of ``dataset.json``; no entry if there is none."""
    notes = list(dict.fromkeys(note for volume in volumes for note in volume.notes))
    return {"notes": notes} if notes else {}


def encode_nifti(data: Array, affine: Array) -> bytes:
    """Encode a volume as ``.nii.gz``, the same bytes for the same data.

    Args:
        data: (X, Y, Z) or (X, Y, Z, C), any plain number type.
        affine: (4, 4), voxel indices to RAS+ millimeters; written as sform and qform, units mm.
    """
    header = nib.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_xyzt_units("mm")
    image = nib.Nifti1Image(data, affine, header, dtype=data.dtype)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    buffer = io.BytesIO()
    with gzip.GzipFile("", "wb", GZIP_LEVEL, buffer, mtime=0) as file:  # no file name and no time in the stream
        image.to_stream(file)  # slice by slice
    return buffer.getvalue()


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, title: str
) -> list[Result]:
    """Compute ``[function(item) for item in items]`` in several processes, with a progress bar on stderr.

    Args:
        function: module-level function (not a lambda), because it is sent to new processes.
        items: arguments of the calls.
        workers: number of processes; 1 runs in this process.
        title: text before the progress bar.

    Raises:
        InputError: the first one that ``function`` raised, after the running calls have ended and without starting new
            ones; or a worker was killed.
    """
    bar: tqdm[Any] = tqdm(total=len(items), desc=title, unit="case")
    with bar:
        if min(workers, len(items)) <= 1:
            keep_freed_memory()
            return [_advance(function(item), bar) for item in items]
        spawn = multiprocessing.get_context("spawn")  # a fork copies locks held by threads of this process
        with ProcessPoolExecutor(min(workers, len(items)), spawn, initializer=_start_worker) as pool:
            futures = [pool.submit(function, item) for item in items]
            for future in futures:
                future.add_done_callback(lambda done: None if done.cancelled() else bar.update())
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                failed = [future for future in futures if future.done() and future.exception()]
                return [future.result() for future in failed or futures]
            except BrokenProcessPool as error:
                raise InputError(
                    "a worker process was killed, most likely out of memory; run the same command again with fewer "
                    "--workers; finished cases are kept."
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def _advance(result: Result, bar: Any) -> Result:
    bar.update()
    return result


def _start_worker() -> None:
    """Leave Ctrl-C to the main process, and end with it: a worker of a killed parent would wait forever."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
