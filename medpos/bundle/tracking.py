"""What MONAI's ``--tracking mlflow`` leaves out: the parameters of a run, and trainings as medpos does them."""

from typing import Any

# What MONAI adds to the top level of a configuration.
KEYS = frozenset({"tracking_uri", "experiment_name", "save_execute_config", "output_dir", "is_not_rank0"})
_HANDLER = "MLFlowHandler"
_PLAIN = (str, int, float, bool)
# Places and names say nothing of what was computed; some of them are the machine's own.
_LEFT_OUT = KEYS | {"bundle_root", "dataset_dir", "data_folder", "runs_dir", "run_name", "checkpoint", "resume"}
_LEFT_OUT |= {"device", "num_workers"}
_LONGEST = 500  # characters of a value that MLflow's databases take


def complete(config: dict[str, Any]) -> None:
    """Complete MONAI's tracking handlers in a raw configuration, before they are built; a no-op without them.

    MONAI logs ``max_epochs`` and ``epoch_length`` alone. Its handler of each iteration fails on outputs that are not
    taken apart by image (``decollate`` false) and on trainings without an optimiser, and writes to the database at
    every step; :class:`medpos.handlers.ScalarLog` gives loss and learning rate of each epoch instead.

    Args:
        config: of a bundle, changed in place, by plain values alone: its expressions are read already.
    """
    train = config.get("train")
    for handler in train.get("handlers", []) if isinstance(train, dict) else []:
        if isinstance(handler, dict) and handler.get("_target_") == _HANDLER:
            handler["experiment_param"] = parameters(config)
            handler["iteration_log"] = False


def parameters(config: dict[str, Any]) -> dict[str, str]:
    """The plain values among a configuration's top-level keys, without places and expressions."""
    return {
        key: str(value)[:_LONGEST]
        for key, value in config.items()
        if isinstance(value, _PLAIN)
        and not key.startswith("_")
        and key not in _LEFT_OUT
        and str(value)[:1] not in ("$", "@")
        and key != "max_epochs"
    }


def without(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what MONAI added to it for tracking, which names places of the machine that trained."""
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
