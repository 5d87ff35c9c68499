"""The learning rate of every iteration."""

from collections.abc import Callable

import torch
from ignite.engine import Engine, Events


class LearningRate:
    """Before every iteration, sets the rate of each parameter group from its base rate.

    The rate depends on the engine's iteration alone, and the base rate, ``initial_lr``, is kept in the optimiser's own
    state; so a resumed training needs nothing else. A scheduler of PyTorch, as MONAI's ``LrScheduleHandler`` steps, has
    a state of its own that would have to be saved with them.

    Args:
        optimizer: its groups may have base rates of their own, as a head that learns ten times as fast.
        schedule: maps base rate and number of iterations done to the rate, see :mod:`medpos.optim.schedules`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Callable[[float, int], float]) -> None:
        self.optimizer = optimizer
        self.schedule = schedule

    def attach(self, engine: Engine) -> None:
        """Set the rate before every iteration of ``engine``."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the rate of the iteration that has just started; ignite counts it as done already."""
        for group in self.optimizer.param_groups:
            # Only now: a checkpoint that was loaded meanwhile brings the base rate along.
            base = group.setdefault("initial_lr", group["lr"])
            group["lr"] = self.schedule(base, engine.state.iteration - 1)
