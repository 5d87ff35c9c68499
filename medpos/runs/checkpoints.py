"""Save and load checkpoints of plain tensors; no code in a file is run."""

import pickle
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import get_total_norm

from medpos.core.errors import InputError, first_line
from medpos.core.files import write_atomically
from medpos.runs import files

State = dict[str, Any]
_ADVICE = f"give the {files.MODEL} of a run"


def save(state: State, path: Path) -> None:
    """Write a state of plain tensors and numbers, whole or not at all."""
    write_atomically(path, lambda partial: torch.save(state, partial))


class StateWriter:
    """Write states in a thread while a GPU goes on training, and finish each file before the next one.

    Where states come faster than they are written, those in between are left out: the newest of each file counts.
    The copies leave a GPU on a stream of their own, so that its computing doesn't wait for them.

    Args:
        interval: seconds at least from the end of one writing to the next, because the thread takes processor time
            from a training whose epochs may be shorter; what waits is written at :meth:`finish` or at the exit.
    """

    def __init__(self, interval: float = 2.0) -> None:
        self.interval = interval
        self._pool = ThreadPoolExecutor(1)
        self._lock = threading.Lock()
        self._is_last = threading.Event()
        self._due = 0.0
        self._waiting: dict[Path, State] = {}
        self._writing: Future[None] | None = None

    def write(self, states: Mapping[Path, State]) -> None:
        """Write a copy of each state to its file, in this order.

        Raises:
            OSError: an earlier state couldn't be written.
        """
        copied = {path: _map(lambda tensor: tensor.detach().clone(), state) for path, state in states.items()}
        with self._lock:
            # Those that wait come first: no file may overtake one that belongs before it.
            self._waiting = {**{path: s for path, s in self._waiting.items() if path not in copied}, **copied}
            if self._writing is None or self._writing.done():
                self.finish()
                self._writing = self._pool.submit(self._write)

    def _write(self) -> None:
        while True:
            self._is_last.wait(max(0.0, self._due - time.monotonic()))
            with self._lock:
                states, self._waiting = self._waiting, {}
                if not states:
                    self._writing = None
                    return
            for path, state in states.items():
                save(_to_host(state), path)
            self._due = time.monotonic() + self.interval

    def finish(self) -> None:
        """Wait until all states are written.

        Raises:
            OSError: one couldn't be written.
        """
        if (writing := self._writing) is not None:
            self._is_last.set()
            try:
                writing.result()
            finally:
                self._is_last.clear()


def _to_host(state: State) -> State:
    """Copy the tensors of a nested state from a GPU to page-locked memory, beside what the GPU computes."""
    if not (device := _find_gpu(state)):
        return state
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.default_stream(device))  # where the training thread made the copies
    with torch.cuda.stream(stream):
        state = _map(_to_page_locked, state)
    stream.synchronize()
    return state


def _find_gpu(value: Any) -> torch.device | None:
    """Return the GPU that holds tensors of a nested state; None if no tensor is on one."""
    if isinstance(value, torch.Tensor):
        return value.device if value.is_cuda else None
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return next(filter(None, map(_find_gpu, parts)), None)


def _to_page_locked(tensor: torch.Tensor) -> torch.Tensor:
    """Begin to copy a tensor from a GPU."""
    if not tensor.is_cuda:
        return tensor
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


def _map(change: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """Change the tensors of a nested state."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map(change, part) for key, part in value.items()}
    return [_map(change, part) for part in value] if isinstance(value, list) else value


def load(path: Path) -> State:
    """Read a state of plain tensors and numbers; no code in the file is run.

    Raises:
        InputError: the file is missing, truncated, or holds anything else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist; train first, or give another --checkpoint") from None
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: holds Python objects besides tensors, which could run code and are never loaded; {_ADVICE}"
        ) from error
    except Exception as error:
        reason = first_line(error, 120)
        raise InputError(f"{path}: is truncated or not a checkpoint ({reason}); {_ADVICE}") from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: expected a state dict of tensors, got {type(state).__name__}; {_ADVICE}")
    return state


def load_network(network: torch.nn.Module, state: State, path: Path) -> None:
    """Load weights into the network that they were trained for.

    Args:
        network: the network, changed in place.
        state: state dict, as :func:`load` gives it.
        path: file of the state, as messages name it.

    Raises:
        InputError: tensors are missing, unknown, of another shape, or not finite.
    """
    own = network.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{k} {tuple(getattr(state[k], 'shape', ()))} instead of {tuple(own[k].shape)}"
        for k in own.keys() & state.keys()
        if not _fits(state[k], own[k])
    ]
    if missing or unknown or shapes:
        found = [f"{len(missing)} tensors missing (first {missing[0]})"] if missing else []
        found += [f"{len(unknown)} unknown (first {unknown[0]})"] if unknown else []
        found += [f"{len(shapes)} of another shape (first {min(shapes)})"] if shapes else []
        raise InputError(
            f"{path}: expected the weights of this {type(network).__name__}, got those of another network: "
            f"{'; '.join(found)}; evaluate it with the bundle and the --encoding that it was trained with"
        )
    if names := find_non_finite(state):
        raise InputError(
            f"{path}: expected finite weights, got NaN or infinity in {names[0]} and {len(names) - 1} other tensors; "
            "the training diverged, so train again with a lower learning rate"
        )
    network.load_state_dict(state)


def find_non_finite(state: State) -> list[str]:
    """Return the names of tensors that hold NaN or infinity.

    Args:
        state: state dict.
    """
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    tensors = {name: value for name, value in tensors.items() if value.is_floating_point() or value.is_complex()}
    # A norm that is finite answers for all tensors at once; each of them would make a GPU wait.
    if not tensors or bool(get_total_norm(tensors.values()).isfinite()):
        return []
    return [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]


def _fits(found: Any, own: torch.Tensor) -> bool:
    if not isinstance(found, torch.Tensor) or found.dim() != own.dim():
        return False
    # A mean mask takes its image size from the file, but not its number of classes.
    return bool(found.shape[:1] == own.shape[:1] if own.numel() == 0 else found.shape == own.shape)
