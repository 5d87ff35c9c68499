"""Transform batches as volumes, and compare with the same transforms of each image."""

import pytest
import torch
from monai.transforms import CastToTyped, NormalizeIntensityd, RandFlipd, Resized, ScaleIntensityRanged, SqueezeDimd

from medpos.transforms import (
    KINDS,
    PROBES,
    ClearUnlabeled,
    Degraded,
    IgnoreVoid,
    PositionChannels,
    ProbedPosition,
    ScaleToUnit,
    Shifted,
    StandardizePerSlice,
)
from medpos.transforms.base.batch import is_by_slice, transform_batch

CASES = ["a", "b", "c"]
CLEAN = {"degradation": "none", "severity": 0, "shift_x": 0, "shift_y": 0}
POSITION = PositionChannels(3.0)
CHAINS = {
    "normalize": [NormalizeIntensityd("image", subtrahend=0.4, divisor=0.2)],
    "normalize_channels": [NormalizeIntensityd("image", subtrahend=[0.4], divisor=[0.2], channel_wise=True)],
    "scale": [ScaleIntensityRanged("image", 0.1, 0.8, 0.0, 1.0, clip=True)],
    "per_slice": [StandardizePerSlice()],
    "to_unit": [ScaleToUnit()],
    "label": [IgnoreVoid(), SqueezeDimd("label", dim=0), CastToTyped("label", dtype=torch.long)],
    "unlabeled": [ClearUnlabeled("image")],
    "linear": [POSITION],
    "radial": [PositionChannels(2.0, "positive", encoding="radial")],
    "fourier": [PositionChannels(2.0, encoding="fourier", bands=2)],
    "learned": [PositionChannels(2.0, encoding="learned")],
    "all": [
        Degraded(),
        Shifted(),
        NormalizeIntensityd("image", subtrahend=0.4, divisor=0.2),
        POSITION,
        ProbedPosition(),
    ],
}


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(3, (3, 1, 16, 16), generator=generator, dtype=torch.uint8)
    return {"image": torch.rand(3, 1, 16, 16, generator=generator), "label": label}


def one_by_one(steps, tensors, condition):
    """Transform each image of a batch by itself, and stack the results."""
    items = []
    for n, case in enumerate(CASES):
        item = {**condition, "case": case, **{key: tensor[n].clone() for key, tensor in tensors.items()}}
        for step in steps:
            item = step(item)
        items.append(item)
    return {key: torch.stack([item[key] for item in items]) for key in tensors}


def assert_equal(steps, tensors, condition):
    assert all(map(is_by_slice, steps))
    kept = {key: tensor.clone() for key, tensor in tensors.items()}
    wanted = one_by_one(steps, tensors, condition)
    found = transform_batch(steps, kept, {**condition, "case": CASES})
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert torch.equal(found[key], tensor), key
        assert (found[key].dtype, found[key].is_contiguous()) == (tensor.dtype, True)
    return found


@pytest.mark.parametrize("chain", CHAINS)
def test_a_batch_equals_its_images(chain, tensors):
    assert_equal(CHAINS[chain], tensors, CLEAN)


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_of_a_degraded_batch_has_its_own_noise(kind, tensors):
    found = assert_equal(CHAINS["all"], tensors, {**CLEAN, "degradation": kind, "severity": 4})
    same = {**tensors, "image": tensors["image"][:1].expand(3, 1, 16, 16)}
    found = transform_batch([Degraded()], same, {**CLEAN, "degradation": kind, "severity": 4, "case": CASES})["image"]
    assert torch.equal(found[0], found[1]) == (kind == "gaussian_blur")


@pytest.mark.parametrize("probe", PROBES)
def test_a_probed_batch(probe, tensors):
    assert_equal(CHAINS["all"], tensors, {**CLEAN, "degradation": probe, "severity": 1})


def test_a_shifted_batch(tensors):
    assert_equal(CHAINS["all"], tensors, {**CLEAN, "shift_x": 3, "shift_y": -2})


@pytest.mark.parametrize(
    "step",
    [
        RandFlipd("image"),
        Resized("image", (8, 8)),
        SqueezeDimd("label", dim=-1),
        NormalizeIntensityd("image"),
        NormalizeIntensityd("image", subtrahend=0.1, divisor=1.0, nonzero=True),
        lambda item: item,
    ],
)
def test_other_transforms_take_images_alone(step):
    assert not is_by_slice(step)
