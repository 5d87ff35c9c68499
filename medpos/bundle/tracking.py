"""Complete MONAI's ``--tracking mlflow`` by the parameters of a run, and adapt it to the trainings of medpos."""

import socket
from typing import Any
from urllib.parse import urlsplit

from medpos.core.errors import InputError, first_line

_PORTS = {"http": 80, "https": 443}
_PATIENCE_S = 5
# Keys that MONAI adds to the top level of a configuration.
KEYS = frozenset({"tracking_uri", "experiment_name", "save_execute_config", "output_dir", "is_not_rank0"})
_HANDLER = "MLFlowHandler"
_PLAIN = (str, int, float, bool)
# Paths and names have no influence on the results, and some of them belong to the machine.
_LEFT_OUT = KEYS | {"bundle_root", "dataset_dir", "data_folder", "runs_dir", "run_name", "checkpoint", "resume"}
_LEFT_OUT |= {"device", "num_workers"}
_LONGEST = 500  # greatest number of characters of a value in MLflow's databases


def complete(config: dict[str, Any]) -> None:
    """Complete MONAI's tracking handlers in a raw configuration, before they are built; a no-op without them.

    MONAI logs ``max_epochs`` and ``epoch_length`` alone. Its logging of iterations fails on outputs that are not split
    by image (``decollate`` false) and on trainings without an optimizer, and writes to the database at every step;
    :class:`medpos.handlers.ScalarLog` provides loss and learning rate of each epoch instead.

    Args:
        config: configuration of a bundle, changed in place; only plain values are added, because its expressions are
            already parsed.

    Raises:
        InputError: the server of ``tracking_uri`` doesn't answer.
    """
    _try_server(config.get("tracking_uri"))
    train = config.get("train")
    for handler in train.get("handlers", []) if isinstance(train, dict) else []:
        if isinstance(handler, dict) and handler.get("_target_") == _HANDLER:
            handler["experiment_param"] = parameters(config)
            handler["iteration_log"] = False


def _try_server(address: Any) -> None:
    """Refuse the address of a server that doesn't answer, before a run folder is made; a local store is no server.

    Raises:
        InputError: nothing listens there.
    """
    parts = urlsplit(address) if isinstance(address, str) else None
    if parts is None or parts.scheme not in _PORTS:
        return
    try:
        place = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        with socket.create_connection(place, timeout=_PATIENCE_S):
            return
    except (OSError, ValueError) as error:
        raise InputError(
            f"--tracking_uri: expected a server that answers, got {address!r} ({first_line(error)}); start it, or give "
            "another address"
        ) from error


def parameters(config: dict[str, Any]) -> dict[str, str]:
    """Return the plain values of a configuration's top-level keys as text, without paths and expressions."""
    return {
        key: str(value)[:_LONGEST]
        for key, value in config.items()
        if isinstance(value, _PLAIN)
        and not key.startswith("_")
        and key not in _LEFT_OUT
        and str(value)[:1] not in ("$", "@")
        and key != "max_epochs"
    }


def remove_tracking(config: dict[str, Any]) -> dict[str, Any]:
    """Remove everything that MONAI added to a configuration for tracking, with paths of the training machine."""
    kept = {key: value for key, value in config.items() if key not in KEYS}
    cleaned: dict[str, Any] = _without_handlers(kept)
    return cleaned


def _without_handlers(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_handlers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [
            _without_handlers(part)
            for part in node
            if not (isinstance(part, dict) and part.get("_target_") == _HANDLER)
        ]
    return node
