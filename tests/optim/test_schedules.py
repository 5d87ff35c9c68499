"""Check learning rates by hand and against PyTorch's schedulers."""

import math
import warnings
from functools import partial

import pytest
import torch
from monai.bundle import ConfigParser

from medpos.core.errors import InputError
from medpos.optim.schedules import constant, cosine, epochs, poly, step


def of_pytorch(kind, iterations, base=0.2, **options):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=base)
    scheduler = kind(optimizer, **options)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing is optimized here
        for _ in range(iterations):
            rates.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    return rates


class TestPoly:
    def test_mmsegmentation_by_hand(self):
        rate = partial(poly, 0.01, max_iterations=40000, power=0.9, floor=1e-4)
        assert rate(0) == 0.01
        assert rate(10000) == pytest.approx(0.0099 * 0.75**0.9 + 0.0001)
        assert rate(20000) == pytest.approx(0.0054052786, rel=1e-6)  # 0.0099 * 0.5358867 + 0.0001
        assert rate(40000) == 1e-4

    def test_power_is_ninety_percent_by_default(self):
        assert poly(1.0, 1, max_iterations=2) == pytest.approx(0.5**0.9)

    def test_equals_pytorch_s_without_a_floor(self):
        wanted = of_pytorch(torch.optim.lr_scheduler.PolynomialLR, 12, total_iters=10, power=0.9)
        assert [poly(0.2, i, 10) for i in range(12)] == pytest.approx(wanted)

    def test_stays_at_the_floor(self):
        assert poly(0.01, 50, max_iterations=40, floor=1e-4) == 1e-4


class TestCosine:
    def test_sunet_by_hand(self):
        rates = [cosine(2e-4, i, max_iterations=45000) for i in (0, 11250, 22500, 45000, 50000)]
        assert rates == pytest.approx([2e-4, 1e-4 * (1 + math.sqrt(0.5)), 1e-4, 0, 0])

    def test_equals_pytorch_s(self):
        wanted = of_pytorch(torch.optim.lr_scheduler.CosineAnnealingLR, 11, T_max=10)
        assert [cosine(0.2, i, 10) for i in range(11)] == pytest.approx(wanted)


class TestStep:
    def test_every(self):
        rates = [step(1.0, i, at=2000) for i in (0, 1999, 2000, 3999, 4000)]
        assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])
        wanted = of_pytorch(torch.optim.lr_scheduler.StepLR, 10, step_size=3, gamma=0.5)
        assert [step(0.2, i, at=3, factor=0.5) for i in range(10)] == pytest.approx(wanted)

    def test_at(self):
        wanted = of_pytorch(torch.optim.lr_scheduler.MultiStepLR, 10, milestones=[2, 7], gamma=0.5)
        assert [step(0.2, i, at=[2, 7], factor=0.5) for i in range(10)] == pytest.approx(wanted)

    @pytest.mark.parametrize("at", [0, -3, [], [5, 2], [0, 4]])
    def test_no_order(self, at):
        with pytest.raises(InputError, match="several in increasing order"):
            step(1.0, 0, at=at)


def test_constant():
    assert [constant(0.3, i) for i in (0, 10**6)] == [0.3, 0.3]


@pytest.mark.parametrize("schedule", [poly, cosine])
def test_no_length(schedule):
    with pytest.raises(InputError, match=r"max_iterations: .* got 0"):
        schedule(0.1, 0, max_iterations=0)


def test_from_a_bundle():
    config = {"_target_": "medpos.optim.schedules.poly", "_mode_": "callable", "max_iterations": 40, "floor": 1e-4}
    schedule = ConfigParser({"schedule": config}).get_parsed_content("schedule")
    assert schedule(0.01, 10) == poly(0.01, 10, max_iterations=40, floor=1e-4)


class TestEpochs:
    @pytest.mark.parametrize(
        ("iterations", "images", "batch_size", "wanted"),
        [(100_000, 1000, 1, 100), (20_000, 9524, 10, 21), (20_000, 9530, 10, 21), (10, 95, 10, 1), (11, 95, 10, 2)],
    )
    def test_the_last_epoch_is_whole(self, iterations, images, batch_size, wanted):
        assert epochs(iterations, images, batch_size) == wanted

    def test_nothing_to_train_is_refused(self):
        with pytest.raises(InputError, match="got iterations 0, images 5, batch_size 2"):
            epochs(0, 5, 2)
