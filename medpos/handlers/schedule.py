"""Set the learning rate of every iteration."""

import logging
from collections.abc import Callable

import torch
from ignite.engine import Engine, Events

logger = logging.getLogger(__name__)


class LearningRate:
    """Set the learning rate of each parameter group from its base rate before every iteration.

    The rate depends on the engine's iteration alone, and the base rate, ``initial_lr``, is part of the optimizer's
    state; so a resumed training needs nothing else. A scheduler of PyTorch, as used by MONAI's ``LrScheduleHandler``,
    has a state of its own that would have to be saved too.

    Args:
        optimizer: the optimizer; its groups may have different base rates, such as a head that learns ten times as
            fast.
        schedule: function of base rate and number of completed iterations that returns the rate, see
            :mod:`medpos.optim.schedules`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Callable[[float, int], float]) -> None:
        self.optimizer = optimizer
        self.schedule = schedule

    def attach(self, engine: Engine) -> None:
        """Set the rate before every iteration of ``engine``."""
        engine.add_event_handler(Events.STARTED, self._log_resumed)
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def _log_resumed(self, engine: Engine) -> None:
        """Log the rates before and after a resumed training's first step, which another length may change."""
        if engine.state.iteration:
            group = self.optimizer.param_groups[0]
            rate = self.schedule(group.get("initial_lr", group["lr"]), engine.state.iteration)
            logger.info("learning rate: %g at the last step, %g at the next", group["lr"], rate)

    def __call__(self, engine: Engine) -> None:
        """Set the rate of the iteration that has just started, which ignite counts already."""
        for group in self.optimizer.param_groups:
            # Read here, not in the constructor, because a checkpoint loaded in between may have changed the base rate.
            base = group.setdefault("initial_lr", group["lr"])
            group["lr"] = self.schedule(base, engine.state.iteration - 1)
