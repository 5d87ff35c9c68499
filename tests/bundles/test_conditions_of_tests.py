"""Test what the conditions of a test depend on: shifts after the standardization, one noise for every training."""

import pytest
import torch
from running import parser

from medpos.study.models import compute_identity


@pytest.fixture
def item():
    """Make a decoded volume [1, 16, 16, 2] whose second slice is brighter, with a label at the left border."""
    image = torch.rand(1, 16, 16, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.4, 1.0])
    image -= image.amin((1, 2), keepdim=True)
    label = torch.zeros(1, 16, 16, 2, dtype=torch.uint8)
    label[:, :6, 4:9] = 2
    about = {"case": "p1_ED", "degradation": "none", "severity": 0, "shift_x": 0, "shift_y": 0}
    return {"image": image, "label": label, **about}


def prepare(name, item, **overrides):
    return parser(name, **overrides).get_parsed_content("preprocessing")({**item, "image": item["image"].clone()})


@pytest.mark.parametrize("name", ["acdc", "acdc_small_pe", "nuclei_unet", "brain_unet"])
def test_a_slice_is_standardized_before_it_is_shifted(name, item):
    """Expect the pixels that stay in the frame as on the clean image, and the background beside them."""
    clean, moved = (prepare(name, {**item, "shift_x": dx})["image"] for dx in (0, 4))
    assert torch.equal(moved[:1, 4:], clean[:1, :-4])
    lowest = clean[:1].amin((1, 2), keepdim=True)
    assert torch.equal(moved[:1, :4], lowest.expand_as(moved[:1, :4]))
    assert torch.equal(moved[1:], clean[1:])  # position channels stay


def test_label_maps_are_filled_with_background(item):
    full = {**item, "label": item["label"].fill_(2), "shift_y": -3}
    moved = prepare("acdc", full)["label"]
    assert (moved[:, :, -3:] == 0).all()
    assert (moved[:, :, :-3] == 2).all()


def test_the_order_of_earlier_versions_stays_as_an_option(item):
    shifted = {**item, "shift_x": 4}
    earlier = prepare("acdc_small_pe", shifted, shift_before_standardizing=True)
    first = torch.zeros_like(item["image"])
    first[:, 4:] = item["image"][:, :-4]
    assert torch.equal(earlier["image"][:1], prepare("acdc_small_pe", {**item, "image": first})["image"][:1])
    assert torch.equal(earlier["label"], prepare("acdc_small_pe", shifted)["label"])
    # Its free pixels change mean and standard deviation of what is left.
    assert not torch.allclose(earlier["image"][:1], prepare("acdc_small_pe", shifted)["image"][:1], atol=0.05)


@pytest.mark.parametrize("name", ["jsrt_small", "acdc_small"])
def test_all_trainings_are_tested_with_the_same_noise(name, item):
    noisy = {**item, "degradation": "shot_noise", "severity": 5}
    if name == "jsrt_small":
        noisy |= {"image": noisy["image"][..., 0], "label": noisy["label"][..., 0]}
    data = {"source": "$types.SimpleNamespace(intensity={'mean': 0.5, 'std': 0.2})", "imports": ["$import types"]}
    one, two = (prepare(name, noisy, seed=seed, **data)["image"] for seed in (0, 1))
    other = prepare(name, noisy, noise_seed=1, **data)["image"]
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_what_a_model_is_tested_under_is_no_part_of_it():
    """Compare with a configuration of earlier versions: shifted before the standardization, noise of the seed."""
    config = parser("acdc_small_pe").config
    old = {key: value for key, value in config.items() if key not in ("noise_seed", "shift_before_standardizing")}
    steps = {**config["steps"], "shift": {"_target_": "medpos.transforms.Shifted"}}
    old["steps"] = {**steps, "degrade": {**steps["degrade"], "seed": "@seed"}}
    chain = ["@steps::degrade", "@steps::shift", "@standardise", "@steps::probe_position"]
    old["preprocessing"] = {"_target_": "Compose", "transforms": chain}
    assert compute_identity(old) == compute_identity(config)
    assert compute_identity({**config, "noise_seed": 5}) == compute_identity(config)
    # A step that changes clean images changes the validation, and so the model.
    other = {**old, "preprocessing": {**old["preprocessing"], "transforms": [*chain, {"_target_": "ShiftIntensityd"}]}}
    assert compute_identity(other) != compute_identity(config)


def test_position_dropout_is_another_model_and_none_is_that_of_earlier_versions():
    config = parser("jsrt_small_pe").config
    old = {key: value for key, value in config.items() if key != "position_dropout"}
    old["network_def"] = {key: value for key, value in config["network_def"].items() if key != "dropout"}
    assert compute_identity(old) == compute_identity(config)
    assert compute_identity({**config, "position_dropout": 0.25}) != compute_identity(config)
