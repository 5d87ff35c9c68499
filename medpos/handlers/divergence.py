"""Stop a training whose loss or weights are no longer finite, and name the likely cause."""

from typing import Any

import torch
from ignite.engine import Engine, Events

from medpos.core.errors import InputError
from medpos.runs.checkpoints import find_non_finite

_GPU_INTERVAL = 50  # iterations between two checks on a GPU, which each of them stalls
_LARGE = 1e4  # a standardized image stays within 100, and position within alpha


class Divergence:
    """Stop a training at the first loss that isn't finite.

    On a CPU every iteration is checked. On a GPU reading a value stalls the device, so the losses are checked together
    every 50 iterations and after every epoch, before anything is saved.
    """

    def __init__(self) -> None:
        self._finite: torch.Tensor | None = None

    def attach(self, engine: Engine) -> None:
        """Check the trainer ``engine``; attach before what saves the model."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._check)

    def _collect(self, engine: Engine) -> None:
        if not isinstance(engine.state.output, dict) or "loss" not in engine.state.output:
            return
        finite = torch.isfinite(engine.state.output["loss"].detach()).all()
        self._finite = finite if self._finite is None else self._finite & finite
        if finite.device.type == "cpu" or engine.state.iteration % _GPU_INTERVAL == 0:
            self._check(engine)

    def _check(self, engine: Engine) -> None:
        if self._finite is not None and not bool(self._finite):
            state = engine.state
            raise InputError(
                f"epoch {state.epoch}, iteration {state.iteration}: expected a finite loss, got "
                f"{float(state.output['loss']):g}; {_find_cause(engine)}"
            )
        self._finite = None


def check_weights(network: torch.nn.Module, engine: Engine) -> None:
    """Check that all weights and statistics of a network are finite.

    Args:
        network: network that is being trained.
        engine: its trainer, for the message.

    Raises:
        InputError: a weight is NaN or infinite.
    """
    if names := find_non_finite(network.state_dict()):
        raise InputError(
            f"epoch {engine.state.epoch}: expected finite weights, got NaN or infinity in {names[0]} and "
            f"{len(names) - 1} other tensors; {_find_cause(engine)}"
        )


def _find_cause(engine: Engine) -> str:
    """Return the likely cause and the remedy."""
    output: dict[str, Any] = engine.state.output if isinstance(engine.state.output, dict) else {}
    image = output.get("image")
    if isinstance(image, torch.Tensor):
        highest = float(image.detach().abs().max())
        if not highest < float("inf"):
            return "the network's input is not finite: check the images and --pe_alpha"
        if highest > _LARGE:
            return f"the network's input reaches {highest:g}: lower --pe_alpha, or check the gray values of the images"
    optimizer = getattr(engine, "optimizer", None)
    rate = float(optimizer.param_groups[0]["lr"]) if optimizer else float("nan")
    return f"the learning rate, {rate:g}, is probably too high: train again with a tenth of it"
