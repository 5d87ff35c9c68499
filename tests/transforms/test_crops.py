"""Test tiles of U-Net 2015 and crops of MMSegmentation."""

import numpy as np
import pytest
import torch

from medpos.core.errors import InputError
from medpos.networks import UNet2015
from medpos.networks.encoder_decoder import unet2015
from medpos.networks.encoder_decoder.unet2015 import BORDER
from medpos.transforms import RandCropWithClassCap, RandomTile
from medpos.transforms.spatial.crops import mirror_indices


@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_mirrored_equals_reflection_by_numpy(size):
    wanted = np.pad(np.arange(size), 30, mode="reflect")
    np.testing.assert_array_equal(mirror_indices(-30, size + 60, size), wanted)


def ramp(x, y):
    """Make image, label and weight with pixel values that encode the position."""
    numbers = torch.arange(x * y, dtype=torch.float32).reshape(1, x, y)
    return {"image": numbers.repeat(2, 1, 1), "label": numbers.int(), "weight": -numbers}


def test_the_default_border_is_that_of_unet2015():
    assert RandomTile(188).border == BORDER


class TestRandomTile:
    def test_label_and_weight_are_the_middle_of_the_image(self):
        found = RandomTile(40, border=6).set_random_state(0)(ramp(50, 60))
        assert found["image"].shape == (2, 40, 40)
        assert found["label"].shape == found["weight"].shape == (1, 28, 28)
        assert torch.equal(found["image"][1, 6:-6, 6:-6], found["label"][0].float())
        assert torch.equal(found["weight"], -found["label"].float())

    def test_pixels_outside_the_image_are_mirrored(self):
        transform, item = RandomTile((24, 30), border=6), ramp(20, 21)
        padded = torch.nn.functional.pad(item["image"], (6, 6, 6, 6), mode="reflect")
        for seed in range(10):
            found = transform.set_random_state(seed)(item)
            x, y = (int(v) for v in divmod(int(found["label"][0, 0, 0]), 21))
            assert torch.equal(found["image"], padded[:, x : x + 24, y : y + 30])

    def test_every_position_within_the_image_and_none_outside(self):
        transform, item = RandomTile(14, border=3).set_random_state(0), ramp(11, 9)
        corners = [int(transform(item)["label"][0, 0, 0]) for _ in range(300)]
        assert set(corners) == {9 * x + y for x in range(4) for y in range(2)}
        assert max(corners.count(c) for c in set(corners)) < 2 * min(corners.count(c) for c in set(corners))

    def test_an_image_smaller_than_the_tile_is_mirrored_around(self):
        transform, item = RandomTile(60, border=4).set_random_state(0), ramp(10, 7)
        places = set()
        for _ in range(40):
            found = transform(item)
            assert found["image"].shape == (2, 60, 60)
            assert torch.equal(found["image"][0, 4:-4, 4:-4], found["label"][0].float())
            assert set(found["label"].unique().tolist()) == set(range(70))  # the whole image is in it
            places.add(tuple(found["label"][0, :2, 0].tolist()))
        assert len(places) > 5

    def test_border_is_that_of_the_network(self):
        assert BORDER == unet2015.BORDER
        item = ramp(100, 120)
        found = RandomTile(188).set_random_state(0)(item)
        assert UNet2015(width=1 / 32, in_channels=2)(found["image"][None]).shape[2:] == found["label"].shape[1:]

    def test_borders_that_leave_no_middle_are_refused(self):
        with pytest.raises(InputError, match="expected a size above 184 px"):
            RandomTile(184)


def label_map(*columns, height=6):
    return torch.tensor(columns, dtype=torch.uint8)[None, :, None].expand(1, len(columns), height).contiguous()


class TestRandCrop:
    def crops(self, transform, label, count=200):
        item = {"image": label.float(), "label": label}
        return [transform.set_random_state(seed)(item) for seed in range(count)]

    def test_image_and_label_are_cropped_alike_at_every_position(self):
        item = {"image": ramp(9, 8)["image"], "label": ramp(9, 8)["label"] % 250}
        transform, corners = RandCropWithClassCap((5, 6), cap=1), set()
        for seed in range(200):
            found = transform.set_random_state(seed)(item)
            corner = int(found["label"][0, 0, 0])
            x, y = divmod(corner, 8)
            assert torch.equal(found["label"], item["label"][:, x : x + 5, y : y + 6])
            assert torch.equal(found["image"], item["image"][:, x : x + 5, y : y + 6])
            corners.add(corner)
        assert corners == {8 * x + y for x in range(5) for y in range(3)}

    def test_no_class_fills_the_crop(self):
        # 1 of 9 positions, columns 4 to 7, is mixed enough: 8 / 9 of free draws are not, (8 / 9)^11 of the capped.
        label = label_map(*[0] * 6, *[1] * 2, *[1] * 4)

        def full(cap):
            crops = self.crops(RandCropWithClassCap((4, 6), cap), label)
            return np.mean([max((c["label"] == k).float().mean() for k in (0, 1)) >= 0.75 for c in crops])

        assert full(1) == pytest.approx(8 / 9, abs=0.07)
        assert full(0.75) == pytest.approx((8 / 9) ** 11, abs=0.09)

    def test_a_class_above_three_quarters_is_refused(self):
        label = label_map(0, 0, 0, 1, 1, 1, 1, 1)  # of 4 columns: 3 to 1 at the positions 0 and 2, 2 to 2 at position 1
        kept = [int((c["label"] == 0).sum()) // 6 for c in self.crops(RandCropWithClassCap((4, 6)), label)]
        assert np.mean(np.array(kept) == 2) > 0.85  # 1 of 5 positions, 11 draws
        kept = [int((c["label"] == 0).sum()) // 6 for c in self.crops(RandCropWithClassCap((4, 6), 0.76), label)]
        assert {1, 2, 3} <= set(kept)

    def test_ignored_pixels_do_not_count(self):
        # At the positions 0 and 1 half the pixels are ignored and the others of one class; from 2 on they are mixed.
        label = label_map(0, 0, 255, 255, 0, 1, 255, 255)
        assert all((crop["label"] == 1).any() for crop in self.crops(RandCropWithClassCap((4, 6)), label))

    def test_gives_up_after_ten_tries(self):
        transform = RandCropWithClassCap((4, 6)).set_random_state(0)
        transform({"image": torch.zeros(1, 12, 6), "label": torch.zeros(1, 12, 6)})
        expected = np.random.RandomState(0)
        expected.rand()
        draws = [(expected.randint(9), expected.randint(1)) for _ in range(11)]
        assert transform._start == draws[-1]

    def test_padding_at_the_right_and_below(self):
        item = {"image": torch.ones(3, 4, 9), "label": torch.ones(1, 4, 9, dtype=torch.uint8)}
        found = RandCropWithClassCap((6, 5))(item)
        assert found["image"].shape == (3, 6, 5)
        assert (found["image"][:, :4] == 1).all()
        assert (found["image"][:, 4:] == 0).all()
        assert found["label"][0, :, 0].tolist() == [1, 1, 1, 1, 255, 255]
        found = RandCropWithClassCap((4, 11), fill=[0.5, 7])(item)
        assert found["image"][0, 0, -2:].tolist() == [0.5, 0.5]
        assert found["label"][0, 0, -3:].tolist() == [1, 7, 7]

    def test_bad_arguments(self):
        with pytest.raises(InputError, match="got size 0"):
            RandCropWithClassCap(0)
        with pytest.raises(InputError, match="cap 0"):
            RandCropWithClassCap(4, cap=0)
        with pytest.raises(InputError, match="fill: expected one value, or 2, one for each key, got 1"):
            RandCropWithClassCap(4, fill=[0.0])
