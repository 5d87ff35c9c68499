"""Save and load checkpoints of plain tensors; no code in a file is run."""

import pickle
from pathlib import Path
from typing import Any

import torch

from medpos.core.errors import InputError, first_line
from medpos.core.files import write_atomically
from medpos.runs import files

State = dict[str, Any]
_ADVICE = f"give the {files.MODEL} of a run"


def save(state: State, path: Path) -> None:
    """Write a state of plain tensors and numbers, whole or not at all."""
    write_atomically(path, lambda partial: torch.save(state, partial))


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
    return [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]


def _fits(found: Any, own: torch.Tensor) -> bool:
    if not isinstance(found, torch.Tensor) or found.dim() != own.dim():
        return False
    # A mean mask takes its image size from the file, but not its number of classes.
    return bool(found.shape[:1] == own.shape[:1] if own.numel() == 0 else found.shape == own.shape)
