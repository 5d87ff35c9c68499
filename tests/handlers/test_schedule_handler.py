"""Check the learning rate of a MONAI trainer, also of one that was resumed."""

import logging
from functools import partial

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch.utils.data import DataLoader

from medpos.handlers import Checkpoint, LearningRate
from medpos.handlers.checkpoint import train
from medpos.optim.schedules import poly
from medpos.runs.folder import RunFolder

EPOCHS, ITERATIONS = 4, 3
SCHEDULE = partial(poly, max_iterations=EPOCHS * ITERATIONS, floor=1e-3)


class Training:
    """Train a linear layer with three batches per epoch; its bias learns ten times as fast."""

    def __init__(self, run, epochs=EPOCHS, schedule=SCHEDULE, late=False):
        torch.manual_seed(0)
        data = [{"image": torch.randn(4), "label": torch.randn(2)} for _ in range(2 * ITERATIONS)]
        self.network = torch.nn.Linear(4, 2)
        groups = [{"params": [self.network.weight]}, {"params": [self.network.bias], "lr": 0.5}]
        self.optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9)
        evaluator = Engine(lambda *_: None)
        evaluator.state.best_metric = evaluator.state.best_metric_epoch = -1
        handlers = [LearningRate(self.optimizer, schedule)] if schedule else []
        handlers.insert(0 if late else 1, Checkpoint(run, self.network, self.optimizer, evaluator))
        self.trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=epochs,
            train_data_loader=DataLoader(data, batch_size=2),
            network=self.network,
            optimizer=self.optimizer,
            loss_function=torch.nn.MSELoss(),
            train_handlers=handlers,
        )
        self.trainer.logger.setLevel(logging.CRITICAL)
        self.rates = []
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self.note)
        train(self.trainer)

    def note(self, engine):
        self.rates.append([group["lr"] for group in self.optimizer.param_groups])


@pytest.fixture
def run(tmp_path):
    def make(name, resume=False):
        folder = RunFolder(tmp_path, "bundle", name, resume=resume)
        if not resume:
            folder.create().folder.mkdir(parents=True)
        return folder

    return make


def test_every_iteration_and_group_by_its_own_base_rate(run):
    wanted = [[SCHEDULE(base, i) for base in (0.05, 0.5)] for i in range(EPOCHS * ITERATIONS)]
    training = Training(run("whole"))
    assert training.rates == wanted
    assert wanted[0] == [0.05, 0.5]  # the first iteration has the base rate
    assert wanted[1] != wanted[0]


def test_the_optimizer_uses_the_rate(run):
    still = Training(run("still"), schedule=lambda base, iteration: 0.0)
    torch.manual_seed(0)
    [torch.randn(n) for n in (4, 2) * 2 * ITERATIONS]
    assert torch.equal(still.network.weight, torch.nn.Linear(4, 2).weight)


@pytest.mark.parametrize("late", [False, True])
def test_a_resumed_training_is_bit_identical(run, late):
    whole = Training(run("whole"), late=late)
    first = Training(run("parts"), epochs=2, late=late)
    second = Training(run("parts", resume=True), late=late)
    assert len(first.rates) == 2 * ITERATIONS
    assert first.rates + second.rates == whole.rates
    assert torch.equal(second.network.weight, whole.network.weight)
    assert torch.equal(second.network.bias, whole.network.bias)


def test_resumes_a_run_that_had_no_schedule(run):
    Training(run("parts"), epochs=2, schedule=None)
    second = Training(run("parts", resume=True))
    assert second.rates[0] == [SCHEDULE(base, 2 * ITERATIONS) for base in (0.05, 0.5)]
