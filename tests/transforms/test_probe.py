"""Test the probes of the position channels."""

import pytest
import torch

from medpos.core.errors import InputError
from medpos.data.conditions import CLEAN, Condition, named, probes
from medpos.transforms import PROBES, Degraded, PositionChannels, ProbedPosition, position_channels, probe_position

SHAPES = [(9, 9), (8, 8, 3)]


@pytest.fixture(params=SHAPES, ids=str)
def channels(request):
    return position_channels(request.param, 3.0)


def test_zeroed(channels):
    assert (probe_position(channels, "position_zeroed") == 0).all()


def test_swapped_gives_the_column_as_the_row(channels):
    assert torch.equal(probe_position(channels, "position_swapped"), channels.flip(0))


@pytest.mark.parametrize("axis", ["x", "y"])
def test_mirrored_changes_the_sign_of_one_channel(channels, axis):
    mirrored = probe_position(channels, f"position_mirrored_{axis}")
    signs = torch.tensor([-1.0, 1.0] if axis == "x" else [1.0, -1.0])
    assert torch.allclose(mirrored, channels * signs.reshape(2, *[1] * (channels.ndim - 1)))


@pytest.mark.parametrize(("severity", "pixels"), [(1, 8), (2, 16), (3, 32), (4, 64)])
def test_shifted_moves_the_channels_and_repeats_the_border(severity, pixels):
    channels = position_channels((100, 80), 1.0)
    moved = probe_position(channels, "position_shifted_x", severity)
    assert torch.equal(moved[:, pixels:], channels[:, :-pixels])
    assert (moved[0, :pixels] == channels[0, 0, 0]).all()
    down = probe_position(channels, "position_shifted_y", severity)
    assert torch.equal(down[:, :, pixels:], channels[:, :, :-pixels])


@pytest.mark.parametrize(("probe", "severity"), [("fog", 1), ("position_zeroed", 2), ("position_shifted_x", 5)])
def test_an_unknown_probe_is_refused(probe, severity):
    with pytest.raises(InputError, match="position_zeroed"):
        probe_position(torch.zeros(2, 4, 4), probe, severity)


def test_swapped_needs_a_square():
    with pytest.raises(InputError, match="expected a square image"):
        probe_position(torch.zeros(2, 4, 5), "position_swapped")


def test_in_the_chain_only_the_position_changes():
    item = {"image": torch.rand(1, 8, 8), "case": "a", **Condition("position_zeroed", 1).to_item()}
    whole = PositionChannels(1.0)(Degraded()(item))
    assert torch.equal(whole["image"][:1], item["image"])
    probed = ProbedPosition()(whole)
    assert torch.equal(probed["image"][:1], item["image"])
    assert (probed["image"][1:] == 0).all()
    clean = {**whole, **CLEAN.to_item()}
    assert torch.equal(ProbedPosition()(clean)["image"], whole["image"])


def test_an_image_without_position_is_refused():
    item = {"image": torch.rand(1, 8, 8), **Condition("position_zeroed", 1).to_item()}
    with pytest.raises(InputError, match="expected an image with position channels"):
        ProbedPosition()(item)


def test_conditions():
    found = probes()
    assert len(found) == len(set(found)) == 1 + sum(PROBES.values())
    assert Condition("position_shifted_x", 2).title == "position shifted x 16 px"
    assert Condition("position_swapped", 1).title == "position swapped"
    every = named(["degradations", "shifts", "position"], pixels=[8])
    assert len(every) == len(set(every)) == 16 + 4 + sum(PROBES.values())
    assert every[0] == CLEAN
    assert named("clean") == [CLEAN]
    with pytest.raises(InputError, match="got 'fog'"):
        named(["fog"])
