"""Save and restore the best model and the state of a training, both as plain tensors."""

import logging
import math
from pathlib import Path

import torch
import torch.distributed
from ignite.engine import Engine, Events

from medpos.core.device import is_computing_apart, is_main_process
from medpos.core.errors import InputError
from medpos.core.workers import limit_waiting
from medpos.handlers.accumulation import AccumulatedLoss
from medpos.handlers.divergence import Divergence, check_weights
from medpos.handlers.patience import Patience
from medpos.runs import files
from medpos.runs.begin_with import begin_with as load_beginning
from medpos.runs.checkpoints import State, StateWriter, load, load_network, save
from medpos.runs.folder import RunFolder

logger = logging.getLogger(__name__)


def better(current: float, best: float) -> bool:
    """Tell whether the new key metric is better; NaN never is, and any number is better than NaN.

    For MONAI's ``metric_cmp_fn``, because its default, ``current > best``, keeps a NaN of the first epoch for ever.
    """
    return not math.isnan(current) and (math.isnan(best) or current > best)


class Checkpoint:
    """Save ``model.pt`` after every epoch with the best validation so far, and ``resume.pt`` after every epoch.

    ``model.pt`` is a plain state dict of the network. ``resume.pt`` holds network, optimizer, epoch and best metric.
    This is the whole state, because data order, random transforms and dropout are drawn from (seed, epoch), so a killed
    training resumes to the same bits. On a GPU a thread writes both while the training goes on; where epochs are
    shorter than that takes, some are left out, but neither the best one nor the last one. A training whose loss or
    weights aren't finite stops with an error, at once or after ``patience_nan`` batches; the files of its last finite
    epoch stay.

    Args:
        run: run folder that gets the files.
        network: the bare network, not its DistributedDataParallel wrapper.
        optimizer: optimizer of the network, None where nothing is optimized.
        evaluator: evaluator of the validation; its key metric chooses the best model.
        seed: random seed for dropout, combined with the epoch.
        patience: number of epochs without a better key metric after which the training stops; 0 for never.
        begin_with: run folder or file of weights; a training that isn't resumed begins with their fitting layers.
        patience_nan: number of batches in a row with a loss that isn't finite after which the training stops.
    """

    restores = True  # attaching it restores a training

    def __init__(
        self,
        run: RunFolder,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer | None,
        evaluator: Engine,
        seed: int = 0,
        patience: int = 0,
        begin_with: str = "",
        patience_nan: int = 1,
    ) -> None:
        self.run = run
        self.network = network
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.seed = seed
        self.patience = Patience(patience, evaluator)
        self.begin_with = begin_with
        self.patience_nan = patience_nan
        self._writer = StateWriter()

    def attach(self, engine: Engine) -> None:
        """Restore the state of the trainer ``engine`` now, and save it after each epoch as long as it is finite.

        Attach it after ValidationHandler.
        """
        for loader in (getattr(each, "data_loader", None) for each in (engine, self.evaluator)):
            limit_waiting(loader)
        Divergence(self.network, self.patience_nan).attach(engine)
        AccumulatedLoss().attach(engine)
        engine.add_event_handler(Events.STARTED, self._stop)
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, lambda _: self._writer.finish())
        if not self._restore(engine) and self.begin_with:
            logger.info(load_beginning(self.network, self.begin_with))

    def _stop(self, engine: Engine) -> None:
        if self.run.stopped:
            logger.info(self.run.stopped)
            engine.terminate()

    def _seed(self, engine: Engine) -> None:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        torch.manual_seed(hash((self.seed, engine.state.epoch, rank)))

    def _save(self, engine: Engine) -> None:
        check_weights(self.network, engine)
        self.run.stopped = self.patience.find_reason(engine)
        if is_main_process():
            self._write(engine)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # no process may read a model before it is written
        self._stop(engine)

    def _write(self, engine: Engine) -> None:
        # The best model first: after a kill between the two files, the epoch is run again and writes the same model.
        states: dict[Path, State] = {}
        if self.evaluator.state.best_metric_epoch in (engine.state.epoch, -1):
            states[self.run.folder / files.MODEL] = self.network.state_dict()
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else {},
            "epoch": engine.state.epoch,
            "best_metric": float(self.evaluator.state.best_metric),
            "best_metric_epoch": int(self.evaluator.state.best_metric_epoch),
        }
        stopped = {"stopped": self.run.stopped} if self.run.stopped else {}
        states[self.run.folder / files.RESUME] = {**state, **stopped}
        is_alone = not torch.distributed.is_initialized()
        if is_alone and any(map(is_computing_apart, self.network.state_dict().values())):
            self._writer.write(states)
            return
        for path, content in states.items():
            save(content, path)

    def _restore(self, engine: Engine) -> bool:
        """Restore the state of a resumed training; False where there is none."""
        path = self.run.folder / files.RESUME
        if not self.run.resume:
            return False
        if not path.exists():
            logger.info("%s holds no finished epoch: starting at the first", self.run.folder)
            return False
        state = load(path)
        try:
            load_network(self.network, state["network"], path)
            if self.optimizer:
                restore_optimizer(self.optimizer, state["optimizer"])
            epoch = int(state["epoch"])
            self.evaluator.state.best_metric = state["best_metric"]
            self.evaluator.state.best_metric_epoch = state["best_metric_epoch"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: is not the state of a training ({error}); start a new run") from error
        self.run.stopped = str(state.get("stopped", "")) if self.patience.is_exhausted(epoch) else ""
        engine.state.epoch = epoch
        engine.state.iteration = epoch * engine.state.epoch_length
        logger.info("resumed after epoch %d of %d", epoch, engine.state.max_epochs)
        return True


def restore_optimizer(optimizer: torch.optim.Optimizer, state: State) -> None:
    """Load the state of an optimizer, maybe of another device; whether its steps are fused stays.

    Args:
        optimizer: the optimizer, changed in place.
        state: its state, as ``state_dict`` gave it.
    """
    how = [{key: group[key] for key in ("fused", "foreach") if key in group} for group in optimizer.param_groups]
    groups = [{**group, **own} for group, own in zip(state["param_groups"], how, strict=False)]
    optimizer.load_state_dict({**state, "param_groups": groups})


class LoadModel:
    """Load the run's ``model.pt`` when an evaluation starts, or at once by :meth:`load`.

    Args:
        run: run folder with the model.
        network: network that gets the weights.
    """

    def __init__(self, run: RunFolder, network: torch.nn.Module) -> None:
        self.run = run
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Load when the evaluator ``engine`` starts."""
        limit_waiting(getattr(engine, "data_loader", None))
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self) -> None:
        """Load the weights now.

        Raises:
            InputError: there are no weights, or those of another network.
        """
        load_network(self.network, load(self.run.model), self.run.model)


def train(engine: Engine) -> None:
    """Run a trainer, unless it was resumed after its last epoch, when ignite would start from the beginning."""
    if engine.state.epoch < engine.state.max_epochs:
        engine.run()


def replace_weights(run: RunFolder, path: str) -> None:
    """Put a run's best model in the place of the weights that it started from, and keep these in the run's folder.

    Args:
        run: run folder with the model.
        path: file of the weights to replace, such as an exported bundle's ``models/model.pt``.
    """
    if not is_main_process():
        return
    weights = Path(path)
    if weights.is_file():
        save(load(weights), run.folder / files.START)
    save(load(run.model), weights)
    logger.info("%s: the best model of %s", weights, run.folder)
