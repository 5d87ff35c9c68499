"""Train finished runs further, begin with other models, stop early, and accumulate gradients."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from running import ENVIRONMENT, TRAINED_EPOCHS, parser, refusal, run_here
from torch import nn

from medpos.core.errors import InputError
from medpos.core.moved import LATER, without_later_keys
from medpos.networks import SmallCNN
from medpos.runs.begin_with import begin_with
from medpos.runs.checkpoints import load, save
from medpos.runs.more_epochs import check_more_epochs, describe_change
from medpos.study.models import compute_identity, resolve_configuration

MORE = TRAINED_EPOCHS + 2
# Learning rates for a mean over all pixels, and for a sum.
LOSSES = {"torch.nn.CrossEntropyLoss": 1e-3, "medpos.losses.SummedCrossEntropy": 1e-6}


def weights(run):
    return {name: load(run / name) for name in ("model.pt",)} | {"network": load(run / "resume.pt")["network"]}


def assert_same_training(run, other):
    for one, two in zip(weights(run).values(), weights(other).values(), strict=True):
        assert all(torch.equal(one[name], two[name]) for name in two)
    assert (run / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()


def log_of(run):
    return (run / "log.txt").read_text()


def test_a_finished_run_trained_further_equals_a_longer_one(run_of, tiny):
    """Keep the results of the shorter training as a whole run folder, its later evaluations included."""
    run_here("jsrt_small_pe", entry="evaluate", **tiny)
    before = {path.relative_to(run_of): path.read_bytes() for path in run_of.rglob("*") if path.is_file()}
    further = {**tiny, "resume": True, "max_epochs": MORE}
    assert run_here("jsrt_small_pe", **further) == run_of
    longer = run_here("jsrt_small_pe", **{**tiny, "max_epochs": MORE, "run_name": "longer"})
    assert_same_training(run_of, longer)
    assert json.loads((run_of / "config.json").read_text())["max_epochs"] == MORE
    assert "the learning rate doesn't depend on it, so this equals a training of" in log_of(run_of)
    kept = run_of / f"until_epoch_{TRAINED_EPOCHS}"
    staying = re.compile(r"resume.pt|log.txt|tensorboard/.*|.*\.lock")
    expected = {path: content for path, content in before.items() if not staying.fullmatch(str(path))}
    assert {path.relative_to(kept): path.read_bytes() for path in kept.rglob("*") if path.is_file()} == expected
    assert not (run_of / "evaluate").exists()
    again = run_here("jsrt_small_pe", entry="evaluate", **tiny, checkpoint=str(kept / "model.pt"))
    assert (again / "evaluate/metrics.csv").read_bytes() == expected[Path("evaluate/metrics.csv")]


def test_a_kill_while_the_results_are_kept(run_of, tiny, monkeypatch):
    """A run stays finished until all its results are in the other folder."""

    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", die)
        with pytest.raises(Killed):
            run_here("jsrt_small_pe", **{**tiny, "resume": True, "max_epochs": MORE})
    assert (run_of / "summary.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", die if (run_of / "overlays").exists() else shutil.rmtree)
        patch.setattr(Path, "unlink", die)
        with pytest.raises(Killed):
            run_here("jsrt_small_pe", **{**tiny, "resume": True, "max_epochs": MORE})
    assert (run_of / "summary.json").exists()
    run_here("jsrt_small_pe", **{**tiny, "resume": True, "max_epochs": MORE})
    assert (run_of / f"until_epoch_{TRAINED_EPOCHS}/summary.json").exists()
    assert load(run_of / "resume.pt")["epoch"] == MORE


@pytest.mark.parametrize("knows_the_key", [True, False], ids=["this version", "an earlier version"])
@pytest.mark.parametrize(("key", "value"), [("position_dropout", 0.25), ("accumulate", 2)])
def test_later_keys_are_not_changed_either(run_of, tiny, key, value, knows_the_key):
    config = json.loads((run_of / "config.json").read_text())
    before = config[key]
    if not knows_the_key:
        del config[key]
        (run_of / "config.json").write_text(json.dumps(config))
    changed = {**tiny, "max_epochs": TRAINED_EPOCHS + 1, key: value}
    message = refusal("jsrt_small_pe", run_name="a", resume=True, **changed)
    assert f"was started with other values: {key} was {before}, is {value}" in message


@pytest.mark.parametrize("epochs", [1, TRAINED_EPOCHS])
def test_no_more_epochs(run_of, tiny, epochs):
    message = refusal("jsrt_small_pe", **{**tiny, "resume": True, "max_epochs": epochs, "run_name": run_of.name})
    assert f"nothing to resume; train it further by --max_epochs above {TRAINED_EPOCHS}" in message


def test_a_run_that_is_being_evaluated_stays(run_of):
    (run_of / "evaluate").mkdir()
    code = "import sys; from pathlib import Path; from medpos.core.lock import FolderLock; "
    code += "FolderLock(Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    with subprocess.Popen([sys.executable, "-c", code, str(run_of / "evaluate")], **pipes) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=r"evaluate is being written by process"):
            check_more_epochs(run_of, MORE, 0)
    check_more_epochs(run_of, MORE, 0)


def test_schedules_that_depend_on_the_length_are_named():
    config = parser("voc_deeplab_aspp").get()
    text = describe_change({**config, "max_epochs": 10}, {**config, "max_epochs": 20})
    assert "train#schedule (medpos.optim.schedules.poly) depends on it" in text
    config = parser("jsrt").get()
    assert "doesn't depend" in describe_change({**config, "max_epochs": 10}, {**config, "max_epochs": 20})
    assert describe_change(config, config) == ""


def test_a_schedule_goes_on(run_of, tiny):
    """A polynomial rate has fallen to zero at the end of a run; the log says to what it rises."""
    schedule = {
        "train#schedule": {
            "_target_": "medpos.optim.schedules.poly",
            "_mode_": "callable",
            "max_iterations": "$@max_epochs * len(@train::dataloader)",
        },
        "train#handlers#1": {
            "_target_": "medpos.handlers.LearningRate",
            "optimizer": "@train::optimizer",
            "schedule": "@train::schedule",
        },
    }
    options = {**tiny, "run_name": "poly", **{key.replace("#", "__"): value for key, value in schedule.items()}}
    run = run_here("jsrt_small_pe", **{**options, "max_epochs": 2})
    run_here("jsrt_small_pe", **{**options, "max_epochs": 4, "resume": True})
    assert "train#schedule (medpos.optim.schedules.poly) depends on it" in log_of(run)
    last, following = map(
        float, re.search(r"learning rate: (\S+) at the last step, (\S+) at the next", log_of(run)).groups()
    )
    assert last == pytest.approx(1e-3 * 0.5**0.9, rel=1e-4)
    assert following == pytest.approx(1e-3 * 0.5**0.9, rel=1e-4)


@pytest.fixture
def stopped(tiny):
    """Finish a run that stopped early: its rate is too small to make anything better."""
    options = {**tiny, "run_name": "a", "lr": 1e-12, "patience": 2, "max_epochs": 9}
    return options, run_here("jsrt_small_pe", **options)


def test_early_stopping(stopped, tiny):
    options, run = stopped
    state = load(run / "resume.pt")
    best = state["best_metric_epoch"]
    assert state["epoch"] == max(best, 0) + 2 < 9
    reason = json.loads((run / "summary.json").read_text())["stopped"]
    assert reason.startswith(f"stopped early after epoch {state['epoch']} of 9: 2 epochs without a better mean_dice")
    assert reason in log_of(run)
    # A run that was killed before its test is tested, not trained further.
    (run / "summary.json").unlink()
    before = weights(run)["network"]
    run_here("jsrt_small_pe", **{**options, "resume": True})
    assert json.loads((run / "summary.json").read_text())["stopped"] == reason
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(run)["network"].items())
    message = refusal("jsrt_small_pe", **{**options, "resume": True})
    assert message.endswith("train it further by --patience 0, or above 2\n")
    run_here("jsrt_small_pe", **{**options, "resume": True, "patience": 0, "max_epochs": 5})
    assert load(run / "resume.pt")["epoch"] == 5
    assert "stopped" not in json.loads((run / "summary.json").read_text())


def test_patience_without_effect_changes_nothing(tiny):
    one, other = (
        run_here("jsrt_small_pe", **{**tiny, "max_epochs": 3, "run_name": f"p{patience}", "patience": patience})
        for patience in (0, 3)
    )
    assert_same_training(one, other)
    assert (one / "summary.json").read_bytes() == (other / "summary.json").read_bytes()


@pytest.mark.parametrize("patience", [1, 2])
def test_validations_at_intervals(tiny, patience):
    """A training stops after a validation alone."""
    options = {**tiny, "run_name": "a", "lr": 1e-12, "patience": patience, "max_epochs": 9, "val_interval": 3}
    run = run_here("jsrt_small_pe", **options)
    assert load(run / "resume.pt")["epoch"] % 3 == 0


def test_another_run_s_layers(run_of, tiny, prepared):
    """Begin with a run on other organs and channels: what fits is loaded, the data stay one's own."""
    options = {**tiny, "begin_with": str(run_of), "lr": 1e-12, "run_name": "b"}
    same = run_here("jsrt_small_pe", **options)
    first, earlier = weights(same)["network"], load(run_of / "model.pt")
    assert all(torch.allclose(first[name], earlier[name], atol=1e-6) for name in first if name.endswith("weight"))
    assert "new: nothing; unused: nothing" in log_of(same)
    heart = {**options, "dataset_dir": str(prepared["acdc"]), "batch_size": 4}
    run = run_here("acdc_small", **heart)
    assert "begins with" in log_of(run)
    assert "new: conv1.conv" in log_of(run).replace("conv1.conv.", "conv1.conv")
    assert json.loads((run / "data.json").read_text()) != json.loads((run_of / "data.json").read_text())
    alone = run_here("acdc_small", **{**heart, "begin_with": "", "run_name": "c"})
    assert (run / "data.json").read_bytes() == (alone / "data.json").read_bytes()
    # A resumed training has weights of its own, and doesn't need the others.
    shutil.rmtree(run_of)
    run_here("jsrt_small_pe", **{**options, "resume": True, "max_epochs": 2})


@pytest.mark.parametrize("kind", ["missing", "empty", "nan", "pickle", "other"])
def test_weights_that_are_refused_before_anything_is_written(tiny, tmp_path, kind):
    path = tmp_path / "weights.pt"
    if kind == "nan":
        state = SmallCNN(in_channels=3).state_dict()
        save({**state, "conv1.conv.weight": torch.full((64, 3, 7, 7), torch.nan)}, path)
    elif kind == "pickle":
        torch.save({"a": SmallCNN()}, path)
    elif kind == "other":
        save({"a.weight": torch.ones(3)}, path)
    elif kind == "empty":
        save({}, path)
    message = refusal("jsrt_small_pe", **tiny, begin_with=str(path))
    assert str(path) in message
    assert not Path(tiny["runs_dir"]).exists()


def test_layers_fit_as_a_whole(tmp_path):
    """A convolution with other input channels keeps its bias too."""
    donor, network = SmallCNN(in_channels=3, out_channels=5), SmallCNN(in_channels=1, out_channels=4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save({"state_dict": {f"module.{name}": tensor for name, tensor in donor.state_dict().items()}}, tmp_path / "d.pth")
    text = begin_with(network, str(tmp_path / "d.pth"))
    taken = {
        name.rpartition(".")[0]
        for name, tensor in network.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    shapes = {name: tensor.shape for name, tensor in donor.state_dict().items()}
    differ = {name.rpartition(".")[0] for name, tensor in before.items() if tensor.shape != shapes[name]}
    assert len(differ) == 2
    assert not taken & differ
    for layer in differ:
        assert re.search(rf"new: .*{re.escape(layer)}.*unused: .*{re.escape(layer)}", text)


class Convolution(nn.Module):
    """Know its published weights by other names."""

    def __init__(self):
        super().__init__()
        self.own = nn.Conv2d(1, 1, 3)

    def load_published(self, weights):
        if "theirs.weight" not in weights:
            raise InputError("these weights don't fit")
        with torch.no_grad():
            self.own.weight.copy_(weights["theirs.weight"])
        return [name for name in weights if name != "theirs.weight"]


def test_published_weights_by_their_own_names(tmp_path):
    """Transpose their kernels, as images are [N, C, X, Y] here."""
    network, kernel = Convolution(), torch.arange(9.0).reshape(1, 1, 3, 3)
    save({"theirs.weight": kernel, "head.weight": torch.ones(2)}, tmp_path / "w.pth")
    text = begin_with(network, str(tmp_path / "w.pth"))
    assert torch.equal(network.own.weight[0, 0], kernel[0, 0].T)
    assert text.endswith("not used: head.weight")
    save({"others": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="don't fit"):
        begin_with(network, str(tmp_path / "w.pth"))


def train(cases, batch_size, accumulate, loss, tiny, name):
    """Train with instance norm and without dropout; unlike Adam, SGD doesn't enlarge rounding."""
    options = {**tiny, "run_name": name, "max_epochs": 2, "batch_size": batch_size, "accumulate": accumulate}
    network = {"_target_": "monai.networks.nets.BasicUNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 4}
    network["features"] = [8] * 6
    sgd = {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": LOSSES[loss], "momentum": 0.9}
    options |= {"network_def": network, "train__optimizer": sgd, "train__loss": {"_target_": loss}}
    options |= {"train_cases": cases, "amp": False}
    return run_here("jsrt_small_pe", **options)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("cases", "batch_size", "accumulate"),
    [(5, 2, 2), *(pytest.param(*sizes, marks=pytest.mark.torture) for sizes in [(4, 2, 2), (5, 1, 4), (3, 2, 4)])],
)
def test_accumulated_gradients_are_those_of_the_larger_batch(tiny, cases, batch_size, accumulate, loss):
    """Also with a smaller last batch, and with fewer batches in the last step."""
    one = train(cases, batch_size, accumulate, loss, tiny, "accumulated")
    other = train(cases, batch_size * accumulate, 1, loss, tiny, "whole")
    first, second = (load(run / "resume.pt")["network"] for run in (one, other))
    buffers = load(other / "resume.pt")["optimizer"]["state"].values()
    change = LOSSES[loss] * max(float(state["momentum_buffer"].abs().max()) for state in buffers)
    difference = max(float((second[name] - first[name]).abs().max()) for name in second)
    assert difference < 1e-4 * change


def test_keys_at_their_defaults_are_no_part_of_a_model(trained):
    """A run of an earlier version, without the keys and their arguments, still is the model of a study."""
    config = json.loads((trained / "config.json").read_text())
    earlier = json.loads((trained / "config.json").read_text())
    for key in LATER:
        earlier.pop(key, None)
    for handler in earlier["train"]["handlers"]:
        for key in ("patience", "begin_with"):
            handler.pop(key, None)
    del earlier["train"]["trainer"]["accumulation_steps"]
    assert compute_identity(config) == compute_identity(earlier)
    assert without_later_keys(config)["train"] == without_later_keys(earlier)["train"]
    for key, value in {"begin_with": "runs/a", "patience": 3, "accumulate": 2}.items():
        assert compute_identity({**config, key: value}) != compute_identity(config)


def test_identity_of_a_present_bundle(prepared, tmp_path):
    """Compute the identity that the version before these keys computed."""
    overrides = {"dataset_dir": str(prepared["jsrt"]), "runs_dir": str(tmp_path), "image_size": 32}
    config = resolve_configuration(Path("bundles/jsrt_pe.json").absolute(), overrides)
    sunet = parser("voc_sunet64").get()
    assert {*LATER} <= config.keys() | sunet.keys()
    assert not {*LATER} & without_later_keys(config).keys()
    assert "@accumulate" not in json.dumps(without_later_keys(config)["train"])
    assert not {"depth", "dense"} & without_later_keys(sunet)["network_def"].keys()
    assert without_later_keys({**sunet, "depth": 3})["depth"] == 3
