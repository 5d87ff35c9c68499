"""A training that diverges stops with an error and keeps its last finite state; no command uses such weights."""

import json

import pytest
import running
import torch

from medpos.core.errors import InputError
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
