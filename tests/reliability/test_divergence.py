"""A training that diverges stops with an error and keeps its last finite state; no command uses such weights."""

import json
import os
import re
import subprocess
import sys
from functools import partial

import pytest
import running
import torch
from monai.engines import SupervisedTrainer

from medpos.core.errors import InputError
from medpos.handlers.divergence import Divergence
from medpos.optim import adam
from medpos.predict.model import Model
from medpos.runs.checkpoints import load, save


def cause_of(raised):
    error = raised.value
    while not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return str(error)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"lr": 1e30, "max_epochs": 3}, "the learning rate, 1e+30, is probably too high"),
        ({"pe_alpha": 1e38, "max_epochs": 3}, "--pe_alpha"),
        ({"pe_alpha": 1e20, "max_epochs": 3}, "lower --pe_alpha"),
    ],
)
def test_a_diverging_training_stops(tiny, overrides, message):
    with pytest.raises(RuntimeError) as raised:
        running.run_here("jsrt_small_pe", **{**tiny, **overrides, "run_name": "a"})
    assert "expected " in cause_of(raised)
    assert " finite " in cause_of(raised)
    assert message in cause_of(raised)


def test_the_program_says_it_in_one_line_and_fails(tiny, tmp_path):
    done = running.run_bundle("jsrt_small_pe", cwd=tmp_path, **{**tiny, "lr": 1e30, "max_epochs": 4, "run_name": "a"})
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "the learning rate" in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs/jsrt_small_pe/a/summary.json").exists()


def test_the_last_finite_state_stays(run_of, tiny):
    """A finished epoch, then a learning rate that no weight survives."""
    (run_of / "summary.json").unlink()
    state = load(run_of / "resume.pt")
    for group in state["optimizer"]["param_groups"]:
        group["lr"] = 1e30
    save(state, run_of / "resume.pt")
    before = {name: (run_of / name).read_bytes() for name in ("resume.pt", "model.pt")}
    config = json.loads((run_of / "config.json").read_text())
    more = {"max_epochs": config["max_epochs"] + 5, "run_name": "a", "resume": True}
    with pytest.raises(RuntimeError) as raised:
        running.run_here("jsrt_small_pe", **{**tiny, **more})
    assert "finite" in cause_of(raised)
    finite = {name: load(run_of / name) for name in before}
    for tensor in [*finite["model.pt"].values(), *finite["resume.pt"]["network"].values()]:
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize(
    "value",
    [float("nan"), *(pytest.param(value, marks=pytest.mark.torture) for value in (float("inf"), -float("inf")))],
)
@pytest.mark.parametrize("use", ["evaluate", "predict", "export"])
def test_weights_that_are_not_finite_are_refused(run_of, tiny, tmp_path, value, use):
    state = load(run_of / "model.pt")
    name = next(name for name, tensor in state.items() if tensor.is_floating_point())
    state[name][(0,) * state[name].ndim] = value
    save(state, run_of / "model.pt")
    with pytest.raises((RuntimeError, InputError)) as raised:
        use_model(use, run_of, tiny, tmp_path)
    assert f"expected finite weights, got NaN or infinity in {name}" in cause_of(raised)
    assert not (tmp_path / "exported").exists()


def use_model(use, run, tiny, tmp_path):
    if use == "evaluate":
        running.run_here("jsrt_small_pe", entry="evaluate", **{**tiny, "run_name": run.name})
    elif use == "predict":
        Model(run)
    else:
        from medpos.export import export

        export(run, tmp_path / "exported", running.ROOT)


# --- --patience_nan: batches with a loss that isn't finite are skipped ---------------------------------------------

NAN = "nan"


def train_on(batches, optimizer, patience=1, accumulate=1, decollate=False, wrap=lambda network: network):
    """Train a network with batch norm on numbered batches; NaN stands for a batch of NaN. Return its state."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Conv2d(2, 2, 1))
    images = {n: torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(n)) for n in range(9)}
    images[NAN] = torch.full((2, 1, 6, 6), torch.nan)
    data = [{"image": images[n], "label": torch.zeros(2, 4, 4, dtype=torch.long)} for n in batches]
    trainer = SupervisedTrainer(
        torch.device("cpu"), 1, data, wrap(network), optimizer(network.parameters()), torch.nn.CrossEntropyLoss(),
        accumulation_steps=accumulate, decollate=decollate,
    )  # fmt: skip
    trainer.logger.setLevel("CRITICAL")
    Divergence(network, patience).attach(trainer)
    trainer.run()
    return network.state_dict()


@pytest.mark.parametrize(
    "optimizer",
    [partial(adam, lr=0.1), partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1)],
    ids=["adam", "sgd"],
)
@pytest.mark.parametrize(
    ("batches", "without", "accumulate"),
    [
        ([0, NAN, 1, 2], [0, 1, 2], 1),
        ([NAN, NAN, 0, NAN, NAN, 1, NAN], [0, 1], 1),
        ([0, 1, 2, NAN, NAN, 4, 5, 6], [0, 1, 5, 6], 2),  # a step is taken with all of its batches or with none
        ([0, 1, 2, NAN, 3], [0, 1, 3], 2),
    ],
    ids=str,
)
def test_a_skipped_batch_changes_nothing(batches, without, accumulate, optimizer, caplog):
    skipped, expected = train_on(batches, optimizer, 3, accumulate), train_on(without, optimizer, 3, accumulate)
    if accumulate == 1:  # else the statistics of batch norm know the finite batches of a skipped step
        assert all(map(torch.equal, skipped.values(), expected.values()))
    assert all(torch.isfinite(tensor).all() for tensor in skipped.values())
    assert f"epoch 1: skipped {batches.count(NAN)} batches whose loss is not finite" in caplog.text


@pytest.mark.parametrize(
    ("batches", "patience", "words"),
    [
        ([0, NAN, 1], 1, "iteration 2: expected a finite loss, got nan; "),
        ([NAN, 0, NAN, NAN, 1], 2, "iteration 4: expected a finite loss, got nan in 2 batches in a row; "),
        ([NAN] * 5, 4, "iteration 4: expected a finite loss, got nan in 4 batches in a row; the network's input"),
    ],
    ids=str,
)
@pytest.mark.parametrize("decollate", [False, True])
def test_a_row_of_skipped_batches_stops_a_training(batches, patience, words, decollate):
    with pytest.raises(InputError, match=re.escape(words)):
        train_on(batches, partial(adam, lr=0.1), patience, decollate=decollate)


TWO_PROCESSES = """
import multiprocessing
import sys
from functools import partial
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
import test_divergence
from medpos.core.errors import InputError
from medpos.optim import adam

torch.set_num_threads(1)

def train(rank, results, number, batches):
    store = dist.FileStore(f"{results}/store{number}", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    own = [8 if batch == "nan" and rank == 0 else batch for batch in batches]  # NaN in one process alone
    try:
        state = test_divergence.train_on(own, partial(adam, lr=0.1), 3, wrap=DistributedDataParallel)
    except InputError as error:
        state = {"error": str(error)}
    torch.save(state, f"{results}/{number}-{rank}.pt")
    dist.destroy_process_group()

context = multiprocessing.get_context("fork")  # spares the imports
for number, batches in enumerate(([0, 1, 2], [0, "nan", 1, "nan", "nan", 2], [0, "nan", "nan", "nan", 1])):
    found = [context.Process(target=train, args=(rank, sys.argv[1], number, batches)) for rank in (0, 1)]
    for process in found:
        process.start()
    for process in found:
        process.join()
"""


@pytest.mark.torture
def test_two_processes_skip_the_same_batches(tmp_path):
    paths = os.pathsep.join(str(running.ROOT / part) for part in ("", "tests", "tests/reliability"))
    environment = {**running.ENVIRONMENT, "PYTHONPATH": paths}
    command = [sys.executable, "-c", TWO_PROCESSES, str(tmp_path)]
    subprocess.run(command, env=environment, check=True, timeout=300, capture_output=True)
    usual, skipped, stopped = ([load(tmp_path / f"{number}-{rank}.pt") for rank in (0, 1)] for number in range(3))
    for state in skipped:
        assert state.keys() == usual[0].keys()
        assert all(map(torch.equal, state.values(), usual[0].values()))
    words = "iteration 4: expected a finite loss, got "
    assert f"{words}another one in another process in 3 batches in a row" in stopped[0]["error"]
    assert f"{words}nan in 3 batches in a row; the network's input" in stopped[1]["error"]


def test_the_key_of_a_bundle_skips_batches(tiny, monkeypatch, caplog):
    """One batch of each epoch has an infinite loss; the training ends as one does, with finite numbers in its log."""
    usual = torch.nn.CrossEntropyLoss.forward

    def spoil(loss, *arguments):
        spoil.calls += 1
        return usual(loss, *arguments) * (float("inf") if spoil.calls % 3 == 0 else 1)

    spoil.calls = 0
    monkeypatch.setattr(torch.nn.CrossEntropyLoss, "forward", spoil)
    caplog.set_level("INFO")
    given = {**tiny, "batch_size": 2, "max_epochs": 2}
    run = running.run_here("jsrt_small_pe", **given, run_name="a", patience_nan=2)
    assert (run / "summary.json").exists()
    assert "skipped 1 batches whose loss is not finite" in caplog.text
    assert "loss nan" not in (run / "log.txt").read_text()
    assert "loss inf" not in (run / "log.txt").read_text()
    with pytest.raises(RuntimeError) as raised:
        running.run_here("jsrt_small_pe", **given, run_name="b")
    assert "expected a finite loss, got inf; " in cause_of(raised)
