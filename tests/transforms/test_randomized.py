"""Test the common properties of all random transforms, and the recipes built from MONAI's own transforms."""

import json
import pickle
import re

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from medpos.core.errors import InputError
from medpos.transforms import BorderWeight, PhotometricDistortion, RandCropWithClassCap, RandElastic, RandomTile
from medpos.transforms.base import randomized as randomized

TRANSFORMS = [
    RandElastic(),
    RandomTile(size=30, border=4),
    RandCropWithClassCap(16),
    PhotometricDistortion(),
]
CONFIGS = [json.loads(" ".join(text.split())) for text in re.findall(r"``(\{.*?\})``", randomized.__doc__, re.DOTALL)]


def item(x=40, y=33, channels=3):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(channels, x, y, generator=generator)
    label = torch.randint(0, 3, (1, x, y), generator=generator, dtype=torch.uint8)
    return {"image": image, "label": label, "weight": torch.rand(1, x, y, generator=generator), "case": "a"}


def run(transform, seed=0, **more):
    return transform.set_random_state(seed)({**item(), **more})


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
class TestEveryTransform:
    def test_replayed_from_its_seed(self, transform):
        one, other, third = run(transform), run(transform), run(transform, seed=1)
        assert torch.equal(one["image"], other["image"])
        assert one["image"].shape != third["image"].shape or not torch.equal(one["image"], third["image"])

    def test_types_stay_and_the_input_is_unchanged(self, transform):
        given = item()
        found = transform.set_random_state(0)(given)
        assert all(type(found[key]) is torch.Tensor and found[key].dtype == given[key].dtype for key in transform.keys)
        assert all(torch.equal(given[key], item()[key]) for key in ("image", "label", "weight"))
        assert set(found["label"].unique().tolist()) <= {0, 1, 2, 255}
        assert found["case"] == "a"

    def test_a_chain_sets_its_state(self, transform):
        chains = [Compose([pickle.loads(pickle.dumps(transform))]).set_random_state(5) for _ in range(2)]
        one, other = (chain(item())["image"] for chain in chains)
        assert torch.equal(one, other)

    def test_metadata_are_kept(self, transform):
        tensors = {key: MetaTensor(item()[key], meta={"name": key}) for key in transform.keys}
        found = run(transform, **tensors)
        assert all(found[key].meta["name"] == key for key in transform.keys)

    def test_missing_keys(self, transform):
        lacking = {key: value for key, value in item().items() if key != transform.keys[-1]}
        with pytest.raises(KeyError):
            transform(lacking)


@pytest.mark.parametrize("transform", TRANSFORMS[:3], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("shape", [(1, 40, 32), (1, 40, 33, 2), (40, 33)])
def test_entries_of_several_sizes(transform, shape):
    with pytest.raises(InputError, match=r"expected entries \[C, X, Y\] of one size"):
        transform({**item(), "label": torch.zeros(shape)})


@pytest.mark.parametrize("kind", [RandElastic, PhotometricDistortion])
def test_probability(kind):
    assert run(kind(prob=0))["image"] is not None
    changed = [not torch.equal(run(kind(prob=0.5), seed)["image"], item()["image"]) for seed in range(60)]
    always = [not torch.equal(run(kind(), seed)["image"], item()["image"]) for seed in range(60)]
    assert 0.3 < np.sum(changed) / np.sum(always) < 0.7
    assert torch.equal(run(kind(prob=0))["image"], item()["image"])


class TestMonaisOwn:
    """Test the configurations in the module's docstring."""

    @staticmethod
    def build(kind):
        config = next(config for config in CONFIGS if config["_target_"] == kind)
        return ConfigParser({"t": config}).get_parsed_content("t")

    def test_there_are_six(self):
        assert len(CONFIGS) == 6

    def test_shift_and_rotation_move_image_label_and_weight_alike(self):
        transform = self.build("RandAffined").set_random_state(0)
        # A label of the image's own large squares, so that interpolation matters at their edges alone.
        squares = torch.kron(torch.rand(5, 5) > 0.5, torch.ones(16, 16))[None]
        found = transform({"image": squares, "label": squares.to(torch.uint8), "weight": squares})
        assert not torch.equal(found["image"], squares)
        assert set(found["label"].unique().tolist()) == {0, 1}
        assert (found["label"] == (found["image"] > 0.5)).float().mean() > 0.97
        torch.testing.assert_close(found["weight"], found["image"])

    @pytest.mark.parametrize("kind", ["RandScaleIntensityd", "RandShiftIntensityd", "RandAdjustContrastd"])
    def test_gray_values(self, kind):
        transform = self.build(kind)
        images = [run(transform, seed)["image"] for seed in range(20)]
        changed = [image for image in images if not torch.equal(image, item()["image"])]
        assert 4 <= len(changed) <= 16
        order = item()["image"].flatten().argsort()
        assert all((image.flatten()[order].diff() >= 0).all() for image in changed)

    def test_random_size(self):
        transform, ratios = self.build("RandZoomd"), []
        for seed in range(100):
            found = run(transform, seed)
            shape = found["image"].shape[1:]
            assert found["label"].shape[1:] == shape
            assert abs(shape[0] / 40 - shape[1] / 33) < 1 / 33
            ratios.append(shape[0] / 40)
        assert min(ratios) < 0.6
        assert max(ratios) > 1.9
        for key, mode in (("image", "bilinear"), ("label", "nearest-exact")):
            wanted = torch.nn.functional.interpolate(item()[key][None].float(), size=shape, mode=mode)[0]
            torch.testing.assert_close(found[key], wanted)

    def test_flips(self):
        flipped = [run(self.build("RandFlipd"), seed)["label"] for seed in range(20)]
        assert {torch.equal(label, item()["label"].flip(1)) for label in flipped} == {True, False}


class TestBorderWeight:
    @staticmethod
    def instances():
        instances = torch.zeros(1, 17, 20, dtype=torch.int32)
        instances[0, :6], instances[0, 11:] = 1, 2
        return instances

    def test_writes_the_weight(self):
        given = {"instances": self.instances(), "image": torch.rand(1, 17, 20)}
        found = BorderWeight()(given)
        assert found["weight"].shape == (1, 17, 20)
        assert found["weight"].dtype == torch.float32
        assert found["weight"][0, 8, 3].item() == pytest.approx(4.867523, abs=1e-6)
        assert "weight" not in given
        assert found["image"] is given["image"]

    def test_options(self):
        found = BorderWeight("cells", "map", w0=2, sigma=3)({"cells": self.instances()})
        assert found["map"][0, 8, 3].item() == pytest.approx(2 * np.exp(-2), rel=1e-6)

    def test_missing(self):
        assert BorderWeight(allow_missing_keys=True)({"image": 1}) == {"image": 1}
        with pytest.raises(KeyError):
            BorderWeight()({"image": 1})

    def test_no_plane(self):
        with pytest.raises(InputError, match=r"expected \[1, X, Y\]"):
            BorderWeight()({"instances": self.instances()[0]})
