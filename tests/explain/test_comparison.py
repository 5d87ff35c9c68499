"""Test the table that compares networks."""

import csv

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from medpos.__main__ import app
from medpos.core.ending import find_input_error
from medpos.explain.comparison import find_facts, time_forward
from medpos.networks import FCN32s, FCNAlexNet, FCNGoogLeNet, SmallCNN

WIDTH = 1 / 32


@pytest.mark.parametrize(
    ("kind", "convolutions", "field"), [(FCNAlexNet, 8, 355), (FCN32s, 16, 404), (FCNGoogLeNet, 58, 715)]
)
def test_the_columns_of_fcns_table_1(kind, convolutions, field):
    """Expect the paper's fields; its 907 px of GoogLeNet count a pooling that the network lacks."""
    network = kind(3, 21, width=WIDTH)
    found = find_facts("a", network, 3, 40, 1)
    assert (found.convolutions, found.field, found.stride) == (convolutions, field, 32)
    assert found.parameters == sum(p.numel() for p in network.parameters())
    frozen = sum(b.numel() for b in network.buffers())
    assert frozen > 0
    assert found.storage_mb == pytest.approx(4 * (found.parameters + frozen) / 1e6)
    assert found.forward_ms > 0


def test_a_field_without_a_square_is_unknown():
    assert find_facts("a", SmallCNN(padding_mode="circular"), 1, 16, 1).field is None


def test_the_first_pass_is_not_counted(monkeypatch):
    calls, clock = [], iter([10.0, 16.0])

    class Counted(nn.Module):
        def forward(self, image):
            calls.append(torch.is_inference_mode_enabled())
            return image

    monkeypatch.setattr("medpos.explain.comparison.time.perf_counter", lambda: next(clock))
    assert time_forward(Counted(), torch.zeros(1, 1, 2, 2), 3) == 2.0
    assert calls == [True] * 4


def invoke(*arguments):
    return CliRunner().invoke(app, ["networks", *map(str, arguments)], env={"COLUMNS": "120"})


def test_the_command_prints_and_writes_the_table(tmp_path):
    done = invoke("compare", "jsrt_small", "jsrt_small_pe", "--size", 32, "--trials", 1, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "75,140" in done.stdout
    with (tmp_path / "networks.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["name"], row["parameters"], row["field"], row["stride"]) for row in rows] == [
        ("jsrt_small", "75140", "7", "1"),
        ("jsrt_small_pe", "76292", "7", "1"),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["compare", "jsrt_smal"], "jsrt_small"), (["compare", "imagenet_sunet64"], "imagenet_sunet64")],
)
def test_other_names_are_refused(arguments, words):
    error = find_input_error(invoke(*arguments).exception)
    assert words in str(error)


def test_the_padding_of_a_constant_image(tmp_path):
    done = invoke("padding", "--width", 0.02, "--out", tmp_path)
    assert "none: pool5 of 1 x 1 px, the border changes 0% of it" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"padding.csv", "padding.png", "padding.svg"}
    with (tmp_path / "padding.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 5 * 5
