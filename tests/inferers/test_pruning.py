"""Measure the pruning levels of UNet++."""

import math

import pytest
import torch
from monai.inferers import SimpleInferer

from medpos.core.errors import InputError
from medpos.inferers import FastInferer, measure_pruning, pruning
from medpos.networks import UNetPlusPlus


def test_rows():
    torch.manual_seed(0)
    network, image = UNetPlusPlus(deep_supervision=True, width=1 / 4), torch.randn(2, 1, 64, 64)
    heads = network.eval().logits(image)
    asked = []

    def evaluate(pruned):
        assert not pruned.training
        with torch.no_grad():
            asked.append(torch.equal(pruned(image), heads[len(asked)]))
        return 0.5 + len(asked) / 10

    rows = measure_pruning(network.train(), image, FastInferer(SimpleInferer()), evaluate, repeats=3)
    assert [row.level for row in rows] == [1, 2, 3, 4]
    assert asked == [True] * 4
    assert [row.iou for row in rows] == [0.6, 0.7, 0.8, 0.9]
    assert [row.parameters for row in rows] == [
        sum(p.numel() for p in network.pruned(k).parameters()) for k in (1, 2, 3, 4)
    ]
    assert rows[3].ratio == 1
    assert rows[0].ratio < 0.8
    assert all(row.seconds > 0 for row in rows)
    assert network.training


def test_papers_parameters():
    rows = measure_pruning(UNetPlusPlus(deep_supervision=True), torch.zeros(1, 1, 16, 16), SimpleInferer(), repeats=1)
    assert [row.parameters for row in rows] == [100_961, 511_105, 2_204_961, 9_041_601]
    assert all(math.isnan(row.iou) for row in rows)


def test_times_are_medians_per_image_over_turns(monkeypatch):
    """Set the clock by hand: the first turn, and one on a machine four times as slow, must not change the medians."""
    network, calls, now = UNetPlusPlus(deep_supervision=True, width=1 / 32), [], [0.0]
    monkeypatch.setattr(pruning.time, "perf_counter", lambda: now[0])

    def inferer(images, pruned):
        slow = [100, 1, 4, 1][len(calls) // 4]
        calls.append(len(pruned.nodes))
        now[0] += slow * {3: 1, 6: 2, 10: 3, 15: 4}[len(pruned.nodes)]
        return images

    rows = measure_pruning(network, torch.zeros(2, 1, 16, 16), inferer, repeats=3)
    assert calls == [3, 6, 10, 15] * 4
    assert [row.seconds for row in rows] == [0.5, 1, 1.5, 2]
    assert [row.ratio for row in rows] == [0.25, 0.5, 0.75, 1]


def test_without_deep_supervision():
    with pytest.raises(InputError, match="deep_supervision"):
        measure_pruning(UNetPlusPlus(width=1 / 16), torch.zeros(1, 1, 16, 16), SimpleInferer())
