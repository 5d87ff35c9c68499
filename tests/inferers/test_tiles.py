"""Check overlapping tiles against one pass over the whole image, and sliding windows against MMSegmentation's."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch.nn import functional

from medpos.core.errors import InputError
from medpos.inferers import OverlapTileInferer
from medpos.networks import UNet2015

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def unet():
    """Build a U-Net in double precision, so that a difference is one of position, not of rounding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2015(width=1 / 16).double().eval()


def one_pass(unet, image):
    """Infer the image as one large tile, mirrored by NumPy."""
    whole = [-(-(side + 184 - 60) // 16) * 16 + 60 for side in image.shape[2:]]
    ends = [(92, large - side - 92) for large, side in zip(whole, image.shape[2:], strict=True)]
    padded = torch.from_numpy(np.pad(image.numpy(), [(0, 0), (0, 0), *ends], mode="reflect"))
    return unet(padded)[:, :, : image.shape[2], : image.shape[3]]


@pytest.mark.parametrize(
    ("shape", "size", "step"),
    [
        ((2, 1, 70, 41), 204, 16),  # several tiles on both axes, two images
        ((1, 1, 128, 20), 220, 16),  # steps shorter than they could be
        ((1, 1, 37, 95), 252, 48),
        ((1, 1, 5, 3), 204, 16),  # smaller than the mirrored border: mirrored to and fro
        ((1, 1, 1, 30), 204, 16),
    ],
)
def test_equals_one_pass(unet, shape, size, step):
    image = torch.randn(shape, dtype=torch.float64)
    tiles = []

    def spy(batch):
        tiles.extend(batch)
        assert batch.shape[0] <= 3
        return unet(batch)

    with torch.no_grad():
        found, wanted = OverlapTileInferer(size, step=step, sw_batch_size=3)(image, spy), one_pass(unet, image)
    assert found.shape == (shape[0], 2, *shape[2:])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()))
    counts = [max(math.ceil((side - (size - 184)) / step), 0) + 1 for side in shape[2:]]
    assert len(tiles) == shape[0] * math.prod(counts)


def test_tiles_begin_at_multiples_of_16(unet):
    """Show why tiles are aligned: the paper's tiles side by side, here 20 px, differ from one pass."""
    image = torch.randn(1, 1, 40, 20, dtype=torch.float64)
    side_by_side = OverlapTileInferer(204, step=16)
    side_by_side._starts = lambda length: list(range(0, length, 20))
    with torch.no_grad():
        wanted = one_pass(unet, image)
        assert (side_by_side(image, unet) - wanted)[:, :, 20:].abs().max() > 1e-3 * wanted.abs().max()


def test_papers_tiles():
    inferer = OverlapTileInferer()
    assert inferer.output == 388
    assert inferer._starts(388) == [0]
    assert inferer._starts(389) == [0, 16]
    assert inferer._starts(772) == [0, 384]
    assert inferer._starts(1024) == [0, 384, 640]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 570}, r"size: expected 16 k \+ 60 .*got 570; try 556"),
        ({"size": 172}, "try 204"),
        ({"size": 188}, "at least 204"),  # gives 4 px, and the next tile begins 16 px on
        ({"step": 388}, "step: .*16 to 388.*got 388; try 384"),
        ({"step": 400}, "try 384"),
        ({"step": 0}, "step: .*got 0"),
        ({"size": 444, "step": 384}, "16 to 260.*try 256"),
    ],
)
def test_refused_sizes(arguments, message):
    with pytest.raises(InputError, match=message):
        OverlapTileInferer(**arguments)


def test_refused_inputs_and_networks():
    inferer = OverlapTileInferer(204, step=16)
    with pytest.raises(InputError, match=r"expected an input \[N, C, X, Y\], got shape \[1, 1, 8, 8, 3\]"):
        inferer(torch.zeros(1, 1, 8, 8, 3), torch.nn.Identity())
    with pytest.raises(InputError, match=r"expected 20 x 20 px from the network for 204 px .* got 204 x 204"):
        inferer(torch.zeros(1, 1, 8, 8), torch.nn.Identity())


def test_the_network_gets_plain_tensors(unet):
    found = OverlapTileInferer(204, step=16)(MetaTensor(torch.randn(1, 1, 30, 30).double()), unet)
    assert type(found) is torch.Tensor


def slide(network, image, crop, stride):
    """Slide windows as MMSegmentation does: from the top left, the last ones pushed back inside, mean of the logits."""
    total, count = torch.zeros(1, 2, *image.shape[2:]), torch.zeros(1, 1, *image.shape[2:])
    rows, columns = (math.ceil((side - crop) / stride) + 1 for side in image.shape[2:])
    for row in range(rows):
        for column in range(columns):
            bottom = min(row * stride + crop, image.shape[2])
            right = min(column * stride + crop, image.shape[3])
            window = (..., slice(bottom - crop, bottom), slice(right - crop, right))
            total[window] += network(image[window])
            count[window] += 1
    return total / count


@pytest.mark.parametrize(("crop", "stride"), [(64, 42), (128, 85), (256, 170)])
@pytest.mark.parametrize("size", [(584, 565), (605, 700), (256, 256), (298, 426)])
def test_monais_windows_are_mmsegmentations(crop, stride, size):
    """Use the windows of DRIVE, of STARE and CHASE, and of HRF; the network depends on the place in the window."""
    place = torch.rand(2, crop, crop)

    def network(batch):
        return functional.avg_pool2d(batch, 3, 1, 1) * place + place.flip(1)

    image = torch.randn(1, 1, *size)
    inferer = SlidingWindowInferer([crop, crop], sw_batch_size=5, overlap=1 - stride / crop)
    torch.testing.assert_close(inferer(image, network), slide(network, image, crop, stride))
