"""Files in and out: atomic writes, NIfTI that is equal byte for byte for equal data, and work in several processes."""

import gzip
import hashlib
import io
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from medpos.core.errors import InputError
from medpos.core.files import read_bytes, write_atomically

Array = NDArray[Any]
Item = TypeVar("Item")
Result = TypeVar("Result")
# Grey values compress by about the same share at every level, so the level is chosen for speed.
GZIP_LEVEL = 3


def sha256(data: bytes) -> str:
    """The SHA-256 digest of ``data``, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; makes its folder if need be.

    Raises:
        InputError: the disk is full, or the folder can't be made or written; no temporary file is left.
    """
    write_atomically(path, partial(_put, data=data))


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        InputError: it can't be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: can't be removed ({error.strerror}). Check the folder's permissions.") from error


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed :func:`write_atomically` left in ``folder``."""
    for path in folder.glob(".*.partial"):
        remove(path)


@dataclass(frozen=True)
class Nifti:
    """A volume as it came from a file.

    Args:
        data: voxels in their own type, native byte order, axes as in the file; scaled data become float32.
        affine: (4, 4), voxel indices to RAS+ millimetres.
        spacing: voxel size in mm along each spatial axis, from the header's ``pixdim``.
    """

    data: Array
    affine: Array
    spacing: tuple[float, ...]


def read_nifti(path: Path) -> Nifti:
    """Read a ``.nii.gz`` to its last byte, so that a truncated file is found even when only its check sum is cut off.

    A name without ``.gz`` is read as it is.

    Raises:
        InputError: truncated or not a NIfTI file, not plain numbers, spacing or affine without a meaning.
    """
    packed = read_bytes(path)
    try:
        if not packed:
            raise EOFError("the file is empty")
        raw = gzip.decompress(packed) if path.suffix.lower() == ".gz" else packed
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a whole gzip file ({error}). Download or unpack it again.") from error
    try:
        # nibabel mends a bad pixdim silently, so it is read before.
        header = nib.Nifti1Header(raw[:348], check=False)
        image = nib.Nifti1Image.from_bytes(raw)
        data = np.asanyarray(image.dataobj)
    except Exception as error:  # nibabel has no common base class for what a bad header raises
        raise InputError(f"{path}: not a readable NIfTI-1 file ({error}). Download or unpack it again.") from error
    if data.dtype.kind not in "iuf":
        raise InputError(f"{path}: holds {data.dtype}, needed are plain integer or floating point numbers; convert it.")
    if data.dtype == np.float64 and header.get_data_dtype() != np.float64:
        data = data.astype(np.float32)
    return Nifti(data.astype(data.dtype.newbyteorder("=")), *_geometry(path, header, image.affine))


def _geometry(path: Path, header: Any, affine: Array) -> tuple[Array, tuple[float, ...]]:
    """Affine and spacing; where they disagree ``pixdim`` holds, and the affine keeps its directions."""
    # A 2-D file may say nothing of the third axis, which is 1 pixel of nominal size then.
    rank = min(int(header["dim"][0]), 3)
    spacing = tuple(float(size) if axis < rank else 1.0 for axis, size in enumerate(header["pixdim"][1:4]))
    if not all(np.isfinite(size) and size > 0 for size in spacing):
        raise InputError(f"{path}: voxel spacing {spacing} mm, needed are three positive numbers; mend its header.")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and (lengths > 0).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3):
        raise InputError(f"{path}: its affine has no inverse; mend sform and qform in the header.")
    affine = np.array(affine, np.float64)
    if not np.allclose(lengths, spacing, rtol=1e-3):
        affine[:3, :3] *= np.array(spacing) / lengths
    return affine, spacing


def nifti_bytes(data: Array, affine: Array) -> bytes:
    """A ``.nii.gz`` in memory, the same bytes for the same data.

    Args:
        data: (X, Y, Z), any plain number type.
        affine: (4, 4), voxel indices to RAS+ millimetres; written as sform and qform, units mm.
    """
    header = nib.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_xyzt_units("mm")
    image = nib.Nifti1Image(data, affine, header, dtype=data.dtype)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    buffer = io.BytesIO()
    with gzip.GzipFile("", "wb", GZIP_LEVEL, buffer, mtime=0) as file:  # no name and no time of day in the stream
        file.write(image.to_bytes())
    return buffer.getvalue()


def map_processes(function: Callable[[Item], Result], items: Sequence[Item], workers: int, title: str) -> list[Result]:
    """``[function(item) for item in items]`` in several processes, with a progress bar on stderr.

    Args:
        function: a function of a module (not a lambda), because it is sent to fresh processes.
        workers: number of processes; 1 works in this one.

    Raises:
        InputError: the first that ``function`` raised (what is being worked on is finished, nothing new is begun), or a
            worker was killed.
    """
    bar: tqdm[Any] = tqdm(total=len(items), desc=title, unit="case")
    with bar:
        if min(workers, len(items)) <= 1:
            return [_count(function(item), bar) for item in items]
        spawn = multiprocessing.get_context("spawn")  # a fork copies locks that threads of this process hold
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
                    "a worker process was killed, most often because memory ran out: run the same command again with "
                    "fewer --workers; finished cases are kept."
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def _count(result: Result, bar: Any) -> Result:
    bar.update()
    return result


def _start_worker() -> None:
    """Leave Ctrl-C to the main process, and end with it: a worker whose parent was killed would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
