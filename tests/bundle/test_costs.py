"""Test what the networks of bundles cost: counted by hand, and timed."""

import importlib.util
import json
import re

import pytest
import torch
from running import BUNDLES
from typer.testing import CliRunner

from medpos.bundle import costs
from medpos.cli.main import app
from medpos.core.errors import InputError


def narrow(tmp_path, name, **changes):
    """Write a bundle with a narrow network."""
    config = json.loads((BUNDLES / f"{name}.json").read_text()) | changes
    config["network_def"]["width"] = 1 / 64
    (tmp_path / f"{name}.json").write_text(json.dumps(config))
    return tmp_path / f"{name}.json"


def test_parameters_and_storage_of_the_small_cnn():
    """Three 3 x 3 convolutions to 64 channels with batch norm and biases, and a 1 x 1 convolution to four classes."""
    found = costs.measure_cost(BUNDLES / "jsrt_small.json", (32, 24), 1, torch.device("cpu"))
    parameters = 9 * (1 + 64 + 64) * 64 + 3 * 3 * 64 + 64 * 4 + 4
    statistics = 3 * (2 * 4 * 64 + 8)  # mean and variance in float32, number of batches as an integer of 8 bytes
    assert (found.bundle, found.parameters, found.size) == ("jsrt_small", parameters, (32, 24))
    assert found.storage_mb == pytest.approx((4 * parameters + statistics) / 1e6)
    assert found.seconds > 0
    assert found.crf_seconds is None


def test_a_size_is_enlarged_to_one_that_the_network_takes(tmp_path):
    found = costs.measure_cost(
        narrow(tmp_path, "camvid_deeplab_largefov", crf_iterations=0), (50, 41), 1, torch.device("cpu")
    )
    assert found.size == (57, 41)
    with pytest.raises(InputError, match="--size: the network takes no side of 20 to 83 px; give a larger one"):
        costs.measure_cost(narrow(tmp_path, "camvid_deconvnet"), (20, 200), 1, torch.device("cpu"))


@pytest.mark.skipif(importlib.util.find_spec("pydensecrf") is None, reason="pip install 'medpos[crf]'")
def test_the_crf_is_timed_apart(tmp_path):
    found = costs.measure_cost(narrow(tmp_path, "camvid_deeplab_largefov"), (41, 33), 1, torch.device("cpu"))
    assert found.crf_seconds > 0


def test_the_median_counts_without_the_first_pass(monkeypatch):
    clock = iter([0, 100, 200, 201, 300, 305, 400, 402])  # 100 s to warm up, then 1, 5 and 2 s
    monkeypatch.setattr(costs.time, "perf_counter", lambda: next(clock))
    assert costs._time(lambda: None, 3) == 2


def test_the_table_of_the_command():
    done = CliRunner().invoke(
        app, ["bundles", "cost", "jsrt_small", "acdc_small", "--size", "32", "24", "--repeats", "1"]
    )
    head, *rows = [re.split("  +", line) for line in done.stdout.splitlines()]
    assert head == ["bundle", "parameters", "storage MB", "image px", "ms per image", "and CRF ms"]
    assert [row[:4] for row in rows] == [[name, "75,140", "0.3", "32 x 24"] for name in ("jsrt_small", "acdc_small")]
    assert all(float(row[4]) > 0 and row[5] == "-" for row in rows)
    refused = CliRunner().invoke(app, ["bundles", "cost", "jsrt_mean_mask"])
    assert "expected a network that segments by convolutions" in str(refused.exception)
