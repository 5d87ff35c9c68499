"""Write checkpoints in a thread, and load optimizers of another device."""

import threading

import pytest
import torch

from medpos.core.errors import InputError
from medpos.handlers.checkpoint import restore_optimizer
from medpos.optim import adam
from medpos.runs import checkpoints
from medpos.runs.checkpoints import StateWriter, find_non_finite, load


@pytest.fixture
def slow(monkeypatch):
    """Let every file wait for an event; return it, one that says a file has begun, and the written files' epochs."""
    gate, begun, written, real = threading.Event(), threading.Event(), [], checkpoints.save

    def save(state, path):
        begun.set()
        assert gate.wait(60)
        written.append((path.name, state["epoch"]))
        real(state, path)

    monkeypatch.setattr(checkpoints, "save", save)
    return gate, begun, written


def test_a_copy_is_written(tmp_path):
    writer, weights = StateWriter(), torch.zeros(3)
    state = {"weights": weights, "nested": {"list": [weights, 1]}, "epoch": 2}
    writer.write({tmp_path / "a.pt": state})
    weights += 1
    writer.finish()
    found = load(tmp_path / "a.pt")
    assert torch.equal(found["nested"]["list"][0], found["weights"])
    assert found["epoch"] == 2


def test_a_change_after_the_call_is_not_written(slow, tmp_path):
    gate, _, _ = slow
    writer, weights = StateWriter(), torch.zeros(3)
    writer.write({tmp_path / "a.pt": {"nested": {"list": [weights]}, "epoch": 1}})
    weights += 1
    gate.set()
    writer.finish()
    assert torch.equal(load(tmp_path / "a.pt")["nested"]["list"][0], torch.zeros(3))


def test_states_that_wait_are_replaced_by_newer_ones_in_order(slow, tmp_path):
    gate, begun, written = slow
    writer, model, resume = StateWriter(), tmp_path / "model.pt", tmp_path / "resume.pt"
    writer.write({model: {"epoch": 1}, resume: {"epoch": 1}})
    assert begun.wait(60)  # so that the next ones find it at work
    writer.write({model: {"epoch": 2}, resume: {"epoch": 2}})
    for epoch in (3, 4):
        writer.write({resume: {"epoch": epoch}})
    gate.set()
    writer.finish()
    # The model of epoch 2 comes before the state of epoch 4, which says that it is the best one.
    assert [epoch for name, epoch in written if name == "model.pt"][-1] == 2
    assert written[-1] == ("resume.pt", 4)
    assert written.index(("model.pt", 2)) < written.index(("resume.pt", 4))
    assert ("resume.pt", 3) not in written
    writer.write({resume: {"epoch": 5}})
    writer.finish()
    assert load(resume)["epoch"] == 5


def test_states_within_the_interval_wait_for_its_end(slow, tmp_path):
    gate, _, written = slow
    gate.set()
    writer = StateWriter(interval=60)
    for epoch in range(1, 6):
        writer.write({tmp_path / "a.pt": {"epoch": epoch}})
        if epoch == 1:
            while not written:
                threading.Event().wait(0.01)
    assert written == [("a.pt", 1)]
    writer.finish()
    assert written == [("a.pt", 1), ("a.pt", 5)]
    assert load(tmp_path / "a.pt")["epoch"] == 5


def test_an_error_of_the_thread_is_raised(tmp_path, monkeypatch):
    def save(state, path):
        raise InputError("the disk is full")

    monkeypatch.setattr(checkpoints, "save", save)
    writer = StateWriter()
    writer.write({tmp_path / "a.pt": {"epoch": 1}})
    with pytest.raises(InputError, match="the disk is full"):
        writer.finish()


def test_tensors_that_are_not_finite_are_named():
    state = {"a": torch.ones(2), "count": torch.tensor(3), "b": torch.tensor([1.0, float("nan")]), "epoch": 1}
    assert find_non_finite(state) == ["b"]
    assert find_non_finite({**state, "b": torch.empty(0)}) == []
    assert find_non_finite({}) == []


def test_adam_is_fused_on_a_gpu_alone(monkeypatch):
    parameter = torch.nn.Parameter(torch.ones(2))
    groups = [{"params": [parameter], "lr": 0.1}]
    assert not adam(groups, lr=1).param_groups[0]["fused"]
    monkeypatch.setattr("medpos.optim.fused.is_computing_apart", lambda _: True)
    for params in ([parameter], iter([parameter]), groups):
        assert adam(params, lr=0.1).param_groups[0]["fused"] is True
    assert adam([parameter], lr=1, fused=False).param_groups[0]["fused"] is False


def test_an_optimizer_stays_fused_or_not_when_its_state_is_loaded():
    parameter = torch.nn.Parameter(torch.ones(2))
    saved = torch.optim.Adam([parameter], lr=0.5, fused=True).state_dict()
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    restore_optimizer(optimizer, saved)
    assert (optimizer.param_groups[0]["fused"], optimizer.param_groups[0]["lr"]) == (None, 0.5)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(wrong):
    state = {"a": torch.ones(3), "b": torch.tensor([1.0, wrong]), "count": torch.tensor(3), "empty": torch.zeros(0)}
    assert find_non_finite(state) == ["b"]
    assert find_non_finite({**state, "b": torch.full((2,), 3e38)}) == []  # whose norm is infinite
