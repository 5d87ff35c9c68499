"""Check the variation of lighting and colors against sums by hand."""

import itertools

import numpy as np
import pytest
import torch

from medpos.core.errors import InputError
from medpos.transforms import RandColorJitter, RandLighting
from medpos.transforms.intensity.lighting import CHANGES, light, vary_colors

IMAGE = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))
PIXEL = torch.tensor([0.2, 0.6, 1.0])[:, None, None]  # gray 0.299 * 0.2 + 0.587 * 0.6 + 0.114 = 0.526


def test_lighting_adds_the_first_component_to_every_pixel():
    # One tenth of 0.2175 times -0.5675, -0.5808, -0.5836.
    added = torch.tensor([-0.012343125, -0.0126324, -0.0126933])[:, None, None]
    torch.testing.assert_close(light(IMAGE, (0.1, 0, 0)), IMAGE + added)


def test_lighting_follows_the_covariance_of_imagenet_s_colors():
    """Check that components are orthogonal, and brightest along gray, so that rows and columns aren't mixed up."""
    added = torch.stack([light(torch.zeros(3, 1, 1), row)[:, 0, 0] for row in torch.eye(3).tolist()])
    assert added.norm(dim=1).tolist() == pytest.approx([0.2175, 0.0188, 0.0045], rel=1e-3)
    products = added / added.norm(dim=1, keepdim=True)
    assert (products @ products.T - torch.eye(3)).abs().max() < 1e-3
    assert products[0].std() < 0.02  # the first is gray


def test_strengths_are_normal_and_independent():
    transform = RandLighting().set_random_state(0)
    draws = []
    for _ in range(2000):
        transform.randomize({})
        draws.append(transform._strengths)
    draws = np.array(draws)
    assert draws.std(axis=0) == pytest.approx([0.1] * 3, rel=0.06)
    assert np.abs(draws.mean(axis=0)).max() < 0.01
    assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.08
    torch.testing.assert_close(transform({"image": IMAGE})["image"], light(IMAGE, transform._strengths))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("brightness", [0.1, 0.3, 0.5]),
        ("contrast", [0.363, 0.563, 0.763]),  # halfway to the mean gray, here that of the pixel
        ("saturation", [0.363, 0.563, 0.763]),
    ],
)
def test_each_change_by_hand(name, wanted):
    found = vary_colors(PIXEL, [(name, 0.5)])
    assert found.flatten().tolist() == pytest.approx(wanted)


def test_contrast_is_about_the_mean_gray_of_the_image_and_saturation_about_each_pixel_s():
    image = torch.cat([PIXEL, torch.zeros(3, 1, 1)], dim=1)
    assert vary_colors(image, [("contrast", 0.5)])[:, 1, 0].tolist() == pytest.approx([0.1315] * 3)
    assert vary_colors(image, [("saturation", 0.5)])[:, 1, 0].tolist() == [0, 0, 0]


def test_changes_follow_each_other_in_a_random_order_by_random_factors():
    transform = RandColorJitter().set_random_state(0)
    orders, factors = [], []
    for _ in range(1200):
        transform.randomize({})
        orders.append(tuple(name for name, _ in transform._factors))
        factors.append([dict(transform._factors)[name] for name in CHANGES])
    assert {orders.count(order) > 140 for order in itertools.permutations(CHANGES)} == {True}
    factors = np.array(factors)
    assert factors.min() == pytest.approx(0.6, abs=0.01)
    assert factors.max() == pytest.approx(1.4, abs=0.01)
    assert factors.std(axis=0) == pytest.approx([0.8 / 12**0.5] * 3, rel=0.06)
    found, step = transform({"image": IMAGE})["image"], IMAGE
    for change in transform._factors:
        step = vary_colors(step, [change])
    torch.testing.assert_close(found, step)


@pytest.mark.parametrize("transform", [RandLighting(0), RandColorJitter(0)])
def test_zero_strength_changes_nothing(transform):
    assert torch.equal(transform({"image": IMAGE})["image"], IMAGE)


@pytest.mark.parametrize("transform", [RandLighting, RandColorJitter])
def test_refusals(transform):
    with pytest.raises(InputError, match=r"expected .* 0 changes nothing"):
        transform(-0.1)
    with pytest.raises(InputError, match="expected red, green and blue channels, got 1"):
        transform()({"image": IMAGE[:1]})
