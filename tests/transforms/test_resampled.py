"""Test resampling to a pixel size with a centered pad or crop, and the way back to the image's grid."""

import monai
import numpy as np
import pytest
import torch
from monai.transforms import Resized

from medpos.core.errors import InputError
from medpos.predict.label_maps import compute_label_map, undo_centering
from medpos.transforms import Resampled
from medpos.transforms.spatial.resampled import MAX_SIDE

MODES = {2: ["bilinear", "nearest-exact"], 3: ["trilinear", "nearest-exact"]}


@pytest.fixture(autouse=True)
def _plain_tensors():
    monai.data.set_track_meta(False)
    yield
    monai.data.set_track_meta(True)


def resample(image, label, spacing_mm, side, pixdim=(1.0, 1.0)):
    """Bring an image [C, X, Y] or [C, X, Y, Z] and its label map to a square."""
    axes = image.ndim - 1
    step = Resampled(["image", "label"], [side, side, *[-1] * (axes - 2)], MODES[axes], pixdim=pixdim)
    return step({"image": image, "label": label, "spacing_mm": spacing_mm})


def disk(shape, spacing_mm, radius_mm=20.0):
    """Draw a disk in the middle of an image, as a label map [1, X, Y]."""
    x, y = ((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True))
    return torch.from_numpy(np.hypot(x[:, None], y[None]) < radius_mm).to(torch.uint8)[None]


def extents(label):
    """Return the pixels that a label map spans along x and y."""
    return [int(places.max() - places.min()) + 1 for places in torch.where(label[0] > 0)]


def test_a_circle_of_anisotropic_pixels_stays_a_circle():
    label = disk((80, 40), (1.0, 2.0))
    assert extents(label) == [40, 20]
    found = resample(label.float(), label, (1.0, 2.0), 96)["label"]
    assert found.shape == (1, 96, 96)
    assert extents(found) == [40, 40]
    assert abs(int(found.sum()) - np.pi * 20**2) < 30
    assert torch.equal(found, found.flip(1))  # centered: no shift by a pixel or half of one
    assert torch.equal(found, found.flip(2))


def test_a_phantom_at_two_spacings_gets_the_same_grid():
    fine, coarse = ((disk(shape, mm), mm) for shape, mm in (((160, 240), (0.5, 0.5)), ((64, 96), (1.25, 1.25))))
    one, other = (resample(label.float(), label, mm, 128) for label, mm in (fine, coarse))
    assert one["resampled_size"].tolist() == other["resampled_size"].tolist() == [80, 120]
    assert extents(one["label"]) == extents(other["label"]) == [40, 40]
    assert int((one["label"] != other["label"]).sum()) < 0.05 * int(one["label"].sum())


@pytest.mark.parametrize("shape", [(12, 12), (12, 12, 3)])
def test_the_same_pixel_size_and_side_change_nothing(shape):
    image = torch.rand(2, *shape)
    label = (image[:1] > 0.5).to(torch.uint8)
    found = resample(image, label, (1.0, 1.0, 8.0), 12)
    assert torch.equal(found["image"], image)
    assert torch.equal(found["label"], label)


def test_without_a_pixel_size_it_is_monais_resizing():
    item = {"image": torch.rand(1, 20, 30, 3), "label": torch.randint(4, (1, 20, 30, 3), dtype=torch.uint8)}
    options = {"spatial_size": [16, 16, -1], "mode": MODES[3], "anti_aliasing": [True, False]}
    found, wanted = (kind(["image", "label"], **options)(item) for kind in (Resampled, Resized))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_padding_takes_the_lowest_value_of_each_channel_and_slice():
    image = torch.rand(2, 5, 4, 3) + torch.arange(6.0).reshape(2, 1, 1, 3)
    found = resample(image, torch.ones(1, 5, 4, 3), (1.0, 1.0, 1.0), 8)
    lowest = image.amin(dim=(1, 2), keepdim=True)
    assert torch.equal(found["image"][:, 1:6, 2:6], image)
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[1:6, 2:6] = False
    assert torch.equal(found["image"][:, outside], lowest.reshape(2, 1, 3).expand(2, 44, 3))
    assert found["label"].sum() == 5 * 4 * 3


@pytest.mark.parametrize("side", [4, 5, 8, 9, 16, 17])
@pytest.mark.parametrize("shape", [(8, 11), (9, 8), (13, 7)])
@pytest.mark.parametrize("factor", [1, 2])  # of enlargement
def test_each_pixel_comes_back_to_its_place(shape, side, factor):
    """Send a single pixel of each place there and back; one outside the square comes back as background."""
    for place in [(0, 0), (shape[0] // 2, shape[1] // 2), (shape[0] - 1, shape[1] - 1), (1, shape[1] - 2)]:
        delta = torch.zeros(1, *shape)
        delta[0][place] = 1
        step = Resampled("image", [side, side], "nearest-exact", pixdim=(1.0, 1.0))
        item = step({"image": delta, "spacing_mm": (float(factor), float(factor))})
        probabilities = torch.cat([1 - item["image"], item["image"]])
        found = compute_label_map(undo_centering(probabilities, item["resampled_size"].tolist()), (*shape, 1))
        if (seen := int(item["image"].sum())) == factor**2:
            assert torch.equal(torch.from_numpy(found[..., 0]), delta[0].to(torch.uint8)), place
        elif seen == 0:
            assert not found.any()


def test_pixels_outside_the_square_come_back_as_background():
    probabilities = torch.tensor([0.1, 0.9]).reshape(2, 1, 1, 1).expand(2, 4, 4, 2)
    found = compute_label_map(undo_centering(probabilities, (8, 6)), (8, 6, 2))
    assert found[2:6, 1:5].all()
    assert found.sum() == 4 * 4 * 2


def test_a_crop_that_cuts_labeled_pixels_is_refused():
    label = torch.zeros(1, 12, 12, dtype=torch.uint8)
    label[:, 6:12, 6] = 1
    with pytest.raises(InputError, match=r"12 x 12 px, of which 2 labeled .* an --image_size of at least 12,"):
        resample(label.float(), label, (1.0, 1.0), 8)
    label[label == 1] = 255  # such pixels count nowhere
    assert resample(label.float(), label, (1.0, 1.0), 8)["label"].shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("spacing_mm", "message"), [(None, "expected a known pixel size"), ((2.0 * MAX_SIDE, 1.0), "expected at most")]
)
def test_an_unknown_or_senseless_pixel_size_is_refused(spacing_mm, message):
    with pytest.raises(InputError, match=message):
        resample(torch.rand(1, 8, 8), torch.zeros(1, 8, 8), spacing_mm, 8)


@pytest.mark.parametrize("side", [12, 40])
def test_metadata_keep_each_pixel_at_its_place_in_the_patient(side):
    monai.data.set_track_meta(True)
    affine = torch.diag(torch.tensor([2.0, 3.0, 8.0, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([5.0, -7.0, 11.0])
    image = monai.data.MetaTensor(torch.zeros(1, 21, 15, 2), affine=affine)
    image[0, 10, 7, 1] = 1.0  # its center stays the center of a pixel, as the number of pixels is odd
    step = Resampled("image", [side, side, -1], "nearest-exact", pixdim=(2 / 3, 1.0))
    found = step({"image": image, "spacing_mm": (2.0, 3.0, 8.0)})["image"]
    assert found.meta["resampled_size"].tolist() == [63, 45]
    places = torch.stack(torch.where(found[0].as_tensor() > 0)).double().mean(dim=1)
    assert torch.allclose(
        (found.affine @ torch.cat([places, torch.ones(1)]))[:3], torch.tensor([25.0, 14.0, 19.0]).double()
    )
