"""Check photometric distortion against Python's colorsys."""

import colorsys
import itertools

import numpy as np
import pytest
import torch

from medpos.core.errors import InputError
from medpos.transforms import PhotometricDistortion
from medpos.transforms.intensity.photometric import distort, hsv_to_rgb, rgb_to_hsv

LEVELS = (0, 0.1, 0.5, 0.7, 1)
# Grays and ties among them, and a red whose hue is a hair below a whole turn.
COLORS = [*itertools.product(LEVELS, repeat=3), *np.random.default_rng(0).random((50, 3)), (1, 0.5, 0.50000006)]
NEUTRAL = {"brightness": 0, "contrast": 1, "saturation": 1, "hue": 0, "contrast_first": True}


def image_of(colors):
    return torch.tensor(np.array(colors), dtype=torch.float32).T[:, :, None]


def colors_of(image):
    return image[:, :, 0].T.double().numpy()


def distorted(colors, **changes):
    return colors_of(distort(image_of(colors), **{**NEUTRAL, **changes}))


def test_to_hsv_is_colorsys():
    found = colors_of(rgb_to_hsv(image_of(COLORS)))
    wanted = np.array([colorsys.rgb_to_hsv(*color) for color in COLORS])
    around = np.abs(found[:, 0] - wanted[:, 0])
    assert np.minimum(around, 1 - around).max() < 1e-5
    np.testing.assert_allclose(found[:, 1:], wanted[:, 1:], atol=1e-6)
    assert found.min() >= 0
    assert found[:, 0].max() < 1


def test_to_rgb_is_colorsys():
    turns = [*itertools.product(np.linspace(0, 1, 13)[:-1], LEVELS, LEVELS), *np.random.default_rng(1).random((50, 3))]
    wanted = [colorsys.hsv_to_rgb(*color) for color in turns]
    np.testing.assert_allclose(colors_of(hsv_to_rgb(image_of(turns))), wanted, atol=1e-5)


def test_conversion_round_trips():
    np.testing.assert_allclose(colors_of(hsv_to_rgb(rgb_to_hsv(image_of(COLORS)))), COLORS, atol=1e-6)


class TestDistort:
    @pytest.mark.parametrize("first", [True, False])
    def test_brightness_is_added_and_clipped(self, first):
        found = distorted(COLORS, brightness=0.2, contrast=0.5, contrast_first=first)
        np.testing.assert_allclose(found, np.clip(np.add(COLORS, 0.2), 0, 1) / 2, atol=1e-6)

    def test_contrast_is_a_factor_and_clipped(self):
        np.testing.assert_allclose(distorted(COLORS, contrast=1.4), np.clip(np.multiply(COLORS, 1.4), 0, 1), atol=1e-6)

    @pytest.mark.parametrize("factor", [0.5, 1.5])
    def test_saturation(self, factor):
        hsv = [colorsys.rgb_to_hsv(*color) for color in COLORS]
        wanted = [colorsys.hsv_to_rgb(h, min(s * factor, 1), v) for h, s, v in hsv]
        np.testing.assert_allclose(distorted(COLORS, saturation=factor), wanted, atol=1e-5)

    @pytest.mark.parametrize("degrees", [-36, 20])
    def test_hue(self, degrees):
        hsv = [colorsys.rgb_to_hsv(*color) for color in COLORS]
        wanted = [colorsys.hsv_to_rgb((h + degrees / 360) % 1, s, v) for h, s, v in hsv]
        np.testing.assert_allclose(distorted(COLORS, hue=degrees), wanted, atol=1e-5)

    def test_place_of_the_contrast_and_clipping_in_between(self):
        # 0.8 + 0.4 is clipped to 1. Contrast first: (1, 0.8, 0.8), saturation 0.2, doubled: (1, 0.6, 0.6).
        changes = {"brightness": 0.4, "contrast": 1.6, "saturation": 2, "hue": 0}
        assert distorted([(0.8, 0.1, 0.1)], **changes, contrast_first=True)[0] == pytest.approx([1, 0.6, 0.6])
        # Contrast last: (1, 0.5, 0.5), saturation 0.5, doubled: (1, 0, 0), times 1.6, clipped.
        assert distorted([(0.8, 0.1, 0.1)], **changes, contrast_first=False)[0] == pytest.approx([1, 0, 0], abs=1e-6)

    def test_zero_strength_changes_nothing(self):
        assert torch.equal(distort(image_of(COLORS), **NEUTRAL), image_of(COLORS))


class TestPhotometricDistortion:
    def draws(self, count=1000):
        transform = PhotometricDistortion().set_random_state(0)
        for _ in range(count):
            transform.randomize({})
            yield dict(transform._drawn, contrast_first=transform._contrast_first)

    def test_each_way_with_probability_one_half_by_the_published_amounts(self):
        draws = list(self.draws())
        # MMSegmentation's hue of 18 counts OpenCV's 8-bit steps of two degrees.
        ranges = {"brightness": (-32 / 255, 32 / 255, 0), "contrast": (0.5, 1.5, 1), "saturation": (0.5, 1.5, 1)}
        for name, (low, high, neutral) in {**ranges, "hue": (-36, 36, 0)}.items():
            amounts = np.array([draw[name] for draw in draws])
            changed = amounts[amounts != neutral]
            assert len(changed) / len(draws) == pytest.approx(0.5, abs=0.05)
            width = high - low
            assert low <= changed.min() < low + 0.02 * width
            assert high - 0.02 * width < changed.max() <= high
            assert changed.std() == pytest.approx(width / 12**0.5, rel=0.06)  # uniform
        assert np.mean([draw["contrast_first"] for draw in draws]) == pytest.approx(0.5, abs=0.05)

    def test_ways_are_independent(self):
        neutral = {"brightness": 0, "contrast": 1, "saturation": 1, "hue": 0, "contrast_first": 0}
        table = np.array([[draw[name] != value for name, value in neutral.items()] for draw in self.draws()])
        assert np.abs(np.corrcoef(table.T) - np.eye(5)).max() < 0.1

    def test_applies_what_it_drew(self):
        transform = PhotometricDistortion().set_random_state(3)
        found = transform({"image": image_of(COLORS)})["image"]
        wanted = distort(image_of(COLORS), **transform._drawn, contrast_first=transform._contrast_first)
        assert torch.equal(found, wanted)

    def test_zero_strength_changes_nothing(self):
        none = PhotometricDistortion(brightness=0, contrast=(1, 1), saturation=(1, 1), hue=0)
        assert torch.equal(none({"image": image_of(COLORS)})["image"], image_of(COLORS))

    def test_gray_image(self):
        with pytest.raises(InputError, match="expected red, green and blue channels, got 1"):
            PhotometricDistortion()({"image": torch.zeros(1, 4, 4)})
