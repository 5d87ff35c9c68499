"""Test SUNet's augmentation by MONAI's transforms: scale, crop, flip, rotate, in this order, as in a bundle."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from scipy import ndimage

BOTH = ["image", "label"]
SIDE = 64
# Label 255 outside the image: as in the authors' code, 255 is subtracted before the rotation fills in zeros. The label
# must be float32, as RandZoomd returns it, because uint8 has no negative numbers.
ROTATION = [
    {"_target_": "ShiftIntensityd", "keys": "label", "offset": -255},
    {"_target_": "RandRotated", "keys": BOTH, "prob": 1.0, "range_x": "$3.141592653589793 / 18",
     "mode": ["bicubic", "nearest"], "padding_mode": "zeros"},
    {"_target_": "ShiftIntensityd", "keys": "label", "offset": 255},
    {"_target_": "ThresholdIntensityd", "keys": "image", "threshold": 0.0, "above": True, "cval": 0.0},
    {"_target_": "ThresholdIntensityd", "keys": "image", "threshold": 1.0, "above": False, "cval": 1.0},
]  # fmt: skip
RECIPE = [
    {"_target_": "RandZoomd", "keys": BOTH, "prob": 1.0, "min_zoom": 0.5, "max_zoom": 2.0,
     "mode": ["bilinear", "nearest-exact"], "keep_size": False},
    {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [SIDE, SIDE], "value": 0},
    {"_target_": "SpatialPadd", "keys": "label", "spatial_size": [SIDE, SIDE], "value": 255},
    {"_target_": "RandSpatialCropd", "keys": BOTH, "roi_size": [SIDE, SIDE], "random_size": False},
    {"_target_": "RandFlipd", "keys": BOTH, "prob": 0.5, "spatial_axis": 0},
    *ROTATION,
]  # fmt: skip


def built(steps):
    parser = ConfigParser({"chain": {"_target_": "Compose", "transforms": steps}})
    return parser.get_parsed_content("chain")


def item(x=40, y=30):
    """Make an item of class 1 without black pixels, brightest at the right end of the columns."""
    image = torch.linspace(0.3, 1, x)[None, :, None].expand(3, x, y).contiguous()
    return {"image": image, "label": torch.ones(1, x, y, dtype=torch.uint8)}


def draws(steps, given, count=30):
    chain = built(steps)
    return [chain.set_random_state(seed)({**given}) for seed in range(count)]


def test_of_one_size_in_range_and_ignored_where_there_is_no_image():
    shares = []
    for found in draws(RECIPE, item()):
        image, label = torch.as_tensor(found["image"]), torch.as_tensor(found["label"])
        assert image.shape == (3, SIDE, SIDE)
        assert set(label.unique().tolist()) <= {1.0, 255.0}
        assert 0 <= image.min() <= image.max() <= 1
        outside = image.amax(0) == 0
        assert ((label[0] == 255) & outside).sum() / max(outside.sum(), 1) > 0.98
        # At the edge the bicubic image extends a pixel beyond the nearest-neighbor label.
        assert ((label[0] == 255) != outside).float().mean() < 0.05
        shares.append(outside.float().mean().item())
    assert min(shares) < 0.2  # at twice the size the image fills the crop except for its corners
    assert max(shares) > 0.7  # at half the size 1 - 20 * 15 / 64^2 of the crop is outside


def test_small_images_are_centered():
    for found in draws(RECIPE[1:4], item(), 3):
        inside = torch.as_tensor(found["label"])[0] == 1
        assert (inside.any(1).nonzero()[[0, -1], 0].tolist(), inside.any(0).nonzero()[[0, -1], 0].tolist()) == (
            [12, 51],
            [17, 46],
        )


def test_flips_along_the_columns_half_the_time():
    flipped = [torch.as_tensor(f["image"])[0, 0, 0] > 0.9 for f in draws(RECIPE[4:5], item(), 200)]
    assert np.mean(flipped) == pytest.approx(0.5, abs=0.1)
    assert torch.as_tensor(draws(RECIPE[4:5], item(), 1)[0]["image"]).std(2).max() < 1e-6


def test_rotation_is_scipys():
    generator = torch.Generator().manual_seed(0)
    label = (torch.rand(1, 9, 9, generator=generator) * 20).round().repeat_interleave(8, 1).repeat_interleave(8, 2)
    inside = (slice(1, -1), slice(1, -1))  # for the outermost pixels rounding decides whether they are in the image
    chain, angles = built(ROTATION), []
    for seed in range(25):
        found = chain.set_random_state(seed)({"image": label / 20, "label": label})
        angles.append(-np.degrees(chain.transforms[1].rand_rotate.x))
        turned = ndimage.rotate(label[0].numpy(), angles[-1], reshape=False, order=0, mode="constant", cval=255)
        assert (turned != torch.as_tensor(found["label"])[0].numpy())[inside].mean() < 0.02
        turned = ndimage.rotate(label[0].numpy() / 20, angles[-1], reshape=False, order=3, mode="constant").clip(0, 1)
        assert np.abs(turned - torch.as_tensor(found["image"])[0].numpy())[inside].mean() < 0.03
    assert min(angles) < -8
    assert max(angles) > 8
