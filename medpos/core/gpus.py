"""Find the GPUs of this machine, and share them out among worker processes."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

import torch

from medpos.core.errors import InputError

logger = logging.getLogger(__name__)
_VISIBLE = "CUDA_VISIBLE_DEVICES"  # environment variable of CUDA
IMAGES_SHARE = 0.25  # of the memory of a GPU; the rest is for the networks
_starting = Lock()


def find_gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    count = torch.cuda.device_count()
    names = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return (names or [str(number) for number in range(count)])[:count]


def share_out(gpus: Sequence[str], part: float, workers: int) -> list[str]:
    """Choose a GPU for each worker; every GPU gets one worker before any gets a second.

    Args:
        gpus: names of the GPUs.
        part: part of a GPU that a worker takes, above 0 and at most 1.
        workers: number of workers wanted.

    Returns:
        The GPU of each worker, of fewer than wanted where the GPUs don't suffice.

    Raises:
        InputError: the part is out of range.
    """
    if not 0 < part <= 1:
        raise InputError(
            f"--gpus-per-training: expected a number above 0 and at most 1 on this machine, got {part:g}; give 0.5 for "
            "two trainings on each GPU"
        )
    chosen = [gpu for _ in range(int(1 / part + 1e-9)) for gpu in gpus][:workers]
    if len(chosen) < workers:
        logger.warning(
            "%d trainings at a time instead of %d, because each takes %g of %d GPUs; give a smaller "
            "--gpus-per-training to share them",
            *(len(chosen), workers, part, len(gpus)),
        )
    return chosen


@contextmanager
def visible(gpu: str) -> Iterator[None]:
    """Let processes that start in this block see one GPU alone; all of them, where its name is empty.

    The environment is set before such a process starts, because CUDA reads it once, at an import of MONAI.
    """
    if not gpu:
        yield
        return
    with _starting:
        before = os.environ.get(_VISIBLE)
        os.environ[_VISIBLE] = gpu
        try:
            yield
        finally:
            if before is None:
                del os.environ[_VISIBLE]
            else:
                os.environ[_VISIBLE] = before


def images_gb(part: float, total_bytes: int) -> float:
    """Return the memory for images of a process that shares a GPU, in 10^9 bytes.

    Args:
        part: part of the GPU that the process takes.
        total_bytes: memory of the GPU.
    """
    return IMAGES_SHARE * part * total_bytes / 1e9
