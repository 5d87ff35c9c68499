"""Check multi-scale and flip inference against the authors' order of operations, by Pillow and scikit-image."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from skimage.transform import resize

from medpos.core.errors import InputError
from medpos.inferers import FastInferer, MultiScaleInferer, describe_network_input

CROP = 24


@pytest.fixture(scope="module")
def network():
    """Build a network that depends on position and neighbors and has no symmetry, so that a swap would show."""
    generator = torch.Generator().manual_seed(0)
    place = 2 * torch.randn(3, CROP, CROP, generator=generator)
    weight = torch.randn(3, 2, 3, 3, generator=generator)

    def forward(crops):
        assert crops.shape[2:] == (CROP, CROP)
        return torch.nn.functional.conv2d(crops, weight, padding=1) + place

    return forward


def by_the_book(image, network, scales, short_side, crop, stride, fill):
    """Infer one image [C, X, Y], one crop and one scale after the other."""
    size, total = image.shape[1:], 0
    for scale in scales:
        side = int(short_side * scale)
        new = [side if length == min(size) else int(side * length / min(size)) for length in size]
        # Pillow counts (width, height): transposed, the last axis is the width.
        scaled = np.stack(
            [np.array(Image.fromarray(c).resize((new[1], new[0]), Image.Resampling.BILINEAR)) for c in image]
        )
        canvas = [max(length, crop) for length in new]
        begin = [int((wide - length) / 2) for wide, length in zip(canvas, new, strict=True)]
        padded = np.empty((len(image), *canvas), dtype=np.float32)
        padded[:] = np.reshape(fill, (-1, 1, 1))
        inside = (slice(None), *(slice(b, b + length) for b, length in zip(begin, new, strict=True)))
        padded[inside] = scaled
        sums, counts = 0, np.zeros(canvas)
        for i in range(int(np.ceil((canvas[0] - crop) / stride)) + 1):
            for j in range(int(np.ceil((canvas[1] - crop) / stride)) + 1):
                x, y = min(i * stride + crop, canvas[0]), min(j * stride + crop, canvas[1])
                field = (slice(None), slice(x - crop, x), slice(y - crop, y))
                part = padded[field]
                two = network(torch.from_numpy(np.stack([part, part[:, ::-1]])))
                logits = (two[0] + two[1].flip(1)).double()
                whole = np.zeros((3, *canvas))
                whole[field] = logits.softmax(0).numpy()
                sums = sums + whole
                counts[field[1:]] += 1
        maps = (sums / counts)[inside]
        total = total + np.stack([resize(m, size, order=1, mode="symmetric", anti_aliasing=False) for m in maps])
    return total / len(scales)


@pytest.mark.parametrize("size", [(20, 31), (47, 30), (9, 5), (1, 3), (60, 60)])
def test_order_of_operations(network, size):
    images = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(1))
    settings = {"scales": (0.5, 0.75, 1.0, 1.25), "short_side": 30, "crop": CROP, "fill": (-1.0, 2.0)}
    found = MultiScaleInferer(**settings, sw_batch_size=3)(images, network)
    assert found.shape == (2, 3, *size)
    assert found.dtype == torch.float32
    for one, image in zip(found.softmax(1), images, strict=True):
        expected = by_the_book(image.numpy(), network, **settings, stride=16)
        np.testing.assert_allclose(one.numpy(), expected, atol=2e-5)


def constant(*logits):
    """Build a network with logits that depend only on the first pixel of the crop, 0 or 1 before and after the flip."""
    table = torch.tensor(logits)

    def forward(crops):
        return table[crops[:, 0, 0, 0].long()][:, :, None, None].expand(-1, -1, *crops.shape[2:])

    return forward


def test_logits_of_the_flip_are_summed_before_the_softmax():
    """Set half the image to 1: the crop begins with 0, its mirror image with 1; a mean of softmaxes would be 0.5."""
    image = torch.zeros(1, 1, 4, 4)
    image[:, :, 2:] = 1
    found = MultiScaleInferer([1.0], 4, 4)(image, constant([0.0, 0.0], [0.0, 3.0]))
    torch.testing.assert_close(found.exp()[:, 1], torch.tensor(3.0).sigmoid().expand(1, 4, 4))
    alone = MultiScaleInferer([1.0], 4, 4, flip=False)(image, constant([0.0, 0.0], [0.0, 3.0]))
    torch.testing.assert_close(alone.exp()[:, 1], torch.full((1, 4, 4), 0.5))


def test_crops_and_scales_are_averaged_as_probabilities():
    """Overlap two crops of 4 px that begin with 0 and 1 by their half."""
    image = torch.tensor([0.0, 0, 1, 1, 1, 1]).reshape(1, 1, 6, 1).expand(1, 1, 6, 4)
    found = MultiScaleInferer([1.0], None, 4, 2, flip=False)(image, constant([0.0, 0.0], [0.0, 3.0])).exp()[0, 1, :, 0]
    one = torch.tensor(3.0).sigmoid().item()
    assert found.tolist() == pytest.approx([0.5, 0.5, (0.5 + one) / 2, (0.5 + one) / 2, one, one], abs=1e-6)
    logits = iter(([0.0, 9.0], [0.0, -1.0]))
    found = MultiScaleInferer([1.0, 1.0], None, 4, flip=False)(
        torch.zeros(1, 1, 4, 4), lambda x: torch.tensor(next(logits))[None, :, None, None].expand(1, 2, 4, 4)
    )
    torch.testing.assert_close(found.exp()[0, 1, 0, 0], torch.tensor([9.0, -1.0]).sigmoid().mean())


def test_strides_are_two_thirds_rounded_up():
    inferer = MultiScaleInferer()
    assert (inferer.crop, inferer.stride, inferer.scales) == (512, 342, (0.5, 0.75, 1.0, 1.25))
    assert MultiScaleInferer(crop=3).stride == 2
    assert describe_network_input(inferer, 3) == (3, (512, 512))
    seen = []

    def network(crops):
        seen.append(tuple(crops.shape))
        return torch.zeros(len(crops), 2, 512, 512, device="meta")

    maps = inferer._probabilities(torch.zeros(1, 3, 640, 900, device="meta"), network)
    assert seen == [(2, 3, 512, 512)] * 6  # 0, 128 and 0, 342, 388
    assert maps.shape == (1, 2, 640, 900)


def test_short_side():
    assert MultiScaleInferer()._scaled((500, 375), 1.25) == [853, 640]
    assert MultiScaleInferer()._scaled((375, 500), 0.5) == [256, 341]
    assert MultiScaleInferer(short_side=None)._scaled((375, 500), 0.5) == [187, 249]


def test_impossible_classes_stay_finite_and_metadata_outside():
    inferer = FastInferer(MultiScaleInferer([0.5, 1.0], None, 8))
    found = inferer(MetaTensor(torch.zeros(1, 1, 9, 9)), lambda x: torch.cat([x, torch.full_like(x, -1e4)], 1))
    assert type(found) is torch.Tensor
    assert bool(found.isfinite().all())


def test_refusals():
    with pytest.raises(InputError, match=r"got scales \[\]"):
        MultiScaleInferer([])
    with pytest.raises(InputError, match="expected scales and short_side above 0"):
        MultiScaleInferer([1.0, 0.0])
    with pytest.raises(InputError, match="got crop 8, stride 9"):
        MultiScaleInferer(crop=8, stride=9)
    inferer = MultiScaleInferer([1.0], 8, 8)
    with pytest.raises(InputError, match="got one channel"):
        inferer(torch.zeros(1, 1, 8, 8), lambda x: x)
    with pytest.raises(InputError, match=r"expected an input \[N, C, X, Y\]"):
        inferer(torch.zeros(1, 1, 8, 8, 2), lambda x: x)
