"""Stop a training whose loss or weights are no longer finite, and name the likely cause."""

import logging
import math
from typing import Any

import torch
import torch.distributed
from ignite.engine import Engine, Events
from monai.engines import IterationEvents

from medpos.core.errors import InputError
from medpos.runs.checkpoints import find_non_finite

logger = logging.getLogger(__name__)
_GPU_INTERVAL = 50  # iterations between two checks on a GPU, which each of them stalls
_LARGE = 1e4  # a standardized image stays within 100, and position within alpha


class Divergence:
    """Stop a training whose loss isn't finite: at once, or after several batches in a row, which are skipped.

    On a CPU every iteration is checked. On a GPU reading a value stalls the device, so the losses are checked together
    every 50 iterations and after every epoch, before anything is saved; with a patience of more than one batch, in
    every iteration. A skipped batch changes neither the weights nor the statistics of batch norm, and no step of the
    optimizer is taken with it; of a step with several batches (``accumulation_steps``) all are skipped.

    Args:
        network: the bare network, whose statistics a skipped batch must not change.
        patience: number of batches in a row with a loss that isn't finite after which the training stops.
    """

    def __init__(self, network: torch.nn.Module, patience: int = 1) -> None:
        self.network = network
        self.patience = patience
        self._finite: torch.Tensor | None = None
        self._statistics: dict[str, torch.Tensor] = {}
        self._in_a_row = 0
        self._skipped: list[int] = []  # iterations of this epoch
        self._is_spoiled = False  # whether a batch of the present step of the optimizer is skipped

    def attach(self, engine: Engine) -> None:
        """Check the trainer ``engine``; attach before what saves the model."""
        if self.patience > 1:
            engine.add_event_handler(Events.ITERATION_STARTED, self._keep_statistics)
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._skip)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)
        else:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._check)

    def _collect(self, engine: Engine) -> None:
        output = _find_output(engine)
        if "loss" not in output:
            return
        finite = torch.isfinite(torch.as_tensor(output["loss"]).detach()).all()
        self._finite = finite if self._finite is None else self._finite & finite
        if finite.device.type == "cpu" or engine.state.iteration % _GPU_INTERVAL == 0:
            self._check(engine)

    def _check(self, engine: Engine) -> None:
        if self._finite is not None and not bool(self._finite):
            raise _not_finite(engine)
        self._finite = None

    def _keep_statistics(self) -> None:
        self._statistics = {name: buffer.clone() for name, buffer in self.network.named_buffers()}

    def _skip(self, engine: Engine) -> None:
        """Drop the gradients of a batch whose loss isn't finite, before the optimizer's step."""
        place = (engine.state.iteration - 1) % engine.state.epoch_length
        if place % getattr(engine, "accumulation_steps", 1) == 0:
            self._is_spoiled = False
        if _is_finite_everywhere(engine.state.output["loss"].detach()):
            self._in_a_row = 0
        else:
            self._in_a_row += 1
            if self._in_a_row >= self.patience:
                raise _not_finite(engine, f" in {self.patience} batches in a row")
            self._is_spoiled = True
            self._skipped.append(engine.state.iteration)
            for name, buffer in self.network.named_buffers():
                buffer.copy_(self._statistics[name])
        if self._is_spoiled and engine.scaler is None:  # MONAI's scaler takes no step with such gradients
            engine.optimizer.zero_grad(set_to_none=True)

    def _report(self, engine: Engine) -> None:
        if self._skipped:
            first, count = self._skipped[0], len(self._skipped)
            message = "epoch %d: skipped %d batches whose loss is not finite, the first in iteration %d; %s"
            logger.warning(message, engine.state.epoch, count, first, _find_cause(engine))
        self._skipped = []


def _is_finite_everywhere(loss: torch.Tensor) -> bool:
    """Tell whether a loss is finite in all processes, whose gradients are averaged."""
    finite = torch.isfinite(loss).all().int()
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(finite, torch.distributed.ReduceOp.MIN)
    return bool(finite)


def _not_finite(engine: Engine, where: str = "") -> InputError:
    state = engine.state
    loss = float(torch.as_tensor(_find_output(engine)["loss"]).detach())
    found, cause = f"{loss:g}", _find_cause(engine)
    if math.isfinite(loss):
        found, cause = "another one in another process", "that process names the cause"
    return InputError(
        f"epoch {state.epoch}, iteration {state.iteration}: expected a finite loss, got {found}{where}; {cause}"
    )


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


def _find_output(engine: Engine) -> dict[str, Any]:
    """Return the output of an iteration, that of its first image where the trainer takes batches apart."""
    output = engine.state.output[:1] if isinstance(engine.state.output, list) else [engine.state.output]
    return output[0] if output and isinstance(output[0], dict) else {}


def _find_cause(engine: Engine) -> str:
    """Return the likely cause and the remedy."""
    image = _find_output(engine).get("image")
    if isinstance(image, torch.Tensor):
        highest = float(image.detach().abs().max())
        if not highest < float("inf"):
            return "the network's input is not finite: check the images and --pe_alpha"
        if highest > _LARGE:
            return f"the network's input reaches {highest:g}: lower --pe_alpha, or check the gray values of the images"
    optimizer = getattr(engine, "optimizer", None)
    rate = float(optimizer.param_groups[0]["lr"]) if optimizer else float("nan")
    return f"the learning rate, {rate:g}, is probably too high: train again with a tenth of it"
