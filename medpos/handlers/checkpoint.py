"""Keeping the best model and the state to resume from, both as plain tensors."""

import logging
import math

import torch
import torch.distributed
from ignite.engine import Engine, Events

from medpos.core.device import is_main_process
from medpos.core.errors import InputError
from medpos.runs import files
from medpos.runs.checkpoints import load, load_network, save
from medpos.runs.folder import RunFolder

logger = logging.getLogger(__name__)


def better(current: float, best: float) -> bool:
    """Is the new key metric better? A NaN never is, and never blocks a number that follows it.

    For MONAI's ``metric_cmp_fn``; its default, ``current > best``, keeps a NaN of the first epoch for ever.
    """
    return not math.isnan(current) and (math.isnan(best) or current > best)


class Checkpoint:
    """After every epoch: ``model.pt`` if the validation was the best so far, then ``resume.pt``.

    ``model.pt`` is a plain state dict of the network. In ``resume.pt`` stand network, optimiser, epoch and best metric;
    with the data order, the random transforms and, here, dropout drawn from (seed, epoch), that is the whole state, so
    a killed training resumes to the same bits.

    Args:
        run: the run folder.
        network: the bare network, not its DistributedDataParallel shell.
        optimizer: its optimiser.
        evaluator: the validating engine; its key metric chooses the best model.
        seed: of dropout, with the epoch.
    """

    def __init__(
        self,
        run: RunFolder,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer | None,
        evaluator: Engine,
        seed: int = 0,
    ) -> None:
        self.run = run
        self.network = network
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Restore before the first epoch of ``engine``, save after each; goes behind the validation handler."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        if self.run.resume:
            self._restore(engine)

    def _seed(self, engine: Engine) -> None:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        torch.manual_seed(hash((self.seed, engine.state.epoch, rank)))

    def _save(self, engine: Engine) -> None:
        if is_main_process():
            self._write(engine)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # no process may read a model that is not written yet

    def _write(self, engine: Engine) -> None:
        # The best model first: killed between the two files, the epoch is run again and writes the same model.
        if self.evaluator.state.best_metric_epoch in (engine.state.epoch, -1):
            save(self.network.state_dict(), self.run.folder / files.MODEL)
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else {},
            "epoch": engine.state.epoch,
            "best_metric": float(self.evaluator.state.best_metric),
            "best_metric_epoch": int(self.evaluator.state.best_metric_epoch),
        }
        save(state, self.run.folder / files.RESUME)

    def _restore(self, engine: Engine) -> None:
        path = self.run.folder / files.RESUME
        if not path.exists():
            logger.info("%s holds no finished epoch: beginning at the first", self.run.folder)
            return
        state = load(path)
        try:
            load_network(self.network, state["network"], path)
            if self.optimizer:
                self.optimizer.load_state_dict(state["optimizer"])
            epoch = int(state["epoch"])
            self.evaluator.state.best_metric = state["best_metric"]
            self.evaluator.state.best_metric_epoch = state["best_metric_epoch"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: is not a state to resume from ({error}); begin a new run") from error
        engine.state.epoch = epoch
        engine.state.iteration = epoch * engine.state.epoch_length
        logger.info("resumed after epoch %d of %d", epoch, engine.state.max_epochs)


class LoadModel:
    """Loads the run's ``model.pt`` when an evaluation starts, or at once by :meth:`load`.

    Args:
        run: the run folder.
        network: gets the weights.
    """

    def __init__(self, run: RunFolder, network: torch.nn.Module) -> None:
        self.run = run
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Load at the start of ``engine``."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self) -> None:
        """Load now.

        Raises:
            InputError: there are no weights, or not of this network.
        """
        load_network(self.network, load(self.run.model), self.run.model)


def train(engine: Engine) -> None:
    """Run a trainer, unless what it resumed from was its last epoch (ignite would begin anew)."""
    if engine.state.epoch < engine.state.max_epochs:
        engine.run()
