"""Check the fast path around the papers' inferers and networks, and the inputs of their networks."""

import pytest
import torch
from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer
from torch import nn

from medpos.core import device
from medpos.inferers import (
    BackgroundInferer,
    FastInferer,
    OverlapTileInferer,
    RotationMeanInferer,
    VotingInferer,
    describe_network_input,
)
from medpos.inferers import fast as fast_path
from medpos.networks import SegNet, SegNetBasic, UNet2015, UNetPlusPlus, USegNet
from medpos.networks.encoder_decoder.segnet_basic import DECODERS

NETWORKS = {
    "UNet2015": lambda: UNet2015(width=1 / 16),
    "UNetPlusPlus": lambda: UNetPlusPlus(width=1 / 16, deep_supervision=True),
    "SegNet": lambda: SegNet(1, 4, dropout=0.5, width=1 / 16),
    "USegNet": lambda: USegNet(width=1 / 8),
    "USegNet, ReLU first": lambda: USegNet(width=1 / 8, relu_first=True),
    **{f"SegNetBasic, {name}": lambda name=name: SegNetBasic(1, 4, name, width=1 / 16) for name in DECODERS},
}
TILES = {
    "tiles": (lambda: OverlapTileInferer(204, step=16, sw_batch_size=4), "UNet2015", (40, 25)),
    "rotated tiles": (lambda: RotationMeanInferer(OverlapTileInferer(236, step=48), 3), "UNet2015", (30, 35)),
    "binary windows": (lambda: BackgroundInferer(SlidingWindowInferer((32, 32))), "UNetPlusPlus", (40, 48)),
    "rotated": (lambda: RotationMeanInferer(SimpleInferer(), 3), "SegNet", (33, 40)),
    "votes": (lambda: VotingInferer(16, 6), "USegNet", (20, 18, 3)),
}


def made(name):
    """Build a network with statistics that make errors of folding or rounding visible."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[name]()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.running_mean, std=0.1)
                nn.init.uniform_(layer.running_var, 0.5, 2)
    return network.eval()


@pytest.fixture
def fast(monkeypatch):
    """Pretend that the processor has bf16 units."""
    for module in (device, fast_path):
        monkeypatch.setattr(module, "has_fast_bf16", lambda _: True)


@pytest.mark.parametrize("name", TILES)
@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.usefixtures("fast")
def test_fast_path_around_each_inferer(name, amp):
    make, network, size = TILES[name]
    network, image = made(network), torch.randn(1, 1, *size)
    with torch.no_grad():
        wanted = make()(image, network).softmax(1)
        found = FastInferer(make(), amp=amp)(image, network)
    assert found.dtype == torch.float32
    assert found.shape == wanted.shape
    # Votes are counts: a near tie of scores that rounding decides otherwise moves one of them.
    apart = (found.softmax(1) - wanted).abs()
    assert apart.mean() < (0.02 if amp else 1e-5)
    assert apart.mean() > 0 or not amp


@pytest.mark.parametrize("name", [name for name in NETWORKS if "SegNet" in name])
@pytest.mark.usefixtures("fast")
def test_unpooling_in_bf16_and_folded(name):
    """Use odd sizes, and bound only the mean error, because rounding to bf16 can move a maximum."""
    network = made(name)
    image = torch.randn(8, network.in_channels, 37, 45, generator=torch.Generator().manual_seed(0))
    seen = []
    kept = network.pool.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].dtype))
    with torch.no_grad():
        wanted = network(image)
        seen.clear()
        found = FastInferer(SimpleInferer())(image, network)
        kept.remove()
        exact = FastInferer(SimpleInferer(), amp=False)(image, network)
    scale = float(wanted.abs().max())
    torch.testing.assert_close(exact, wanted, rtol=0, atol=1e-4 * scale)
    assert set(seen) == {torch.bfloat16}
    assert 0 < (found - wanted).abs().mean() < 0.05 * scale


@pytest.mark.parametrize(
    ("inferer", "wanted"),
    [
        (OverlapTileInferer(), (2, (572, 572))),
        (FastInferer(RotationMeanInferer(OverlapTileInferer(444, step=256))), (2, (444, 444))),
        (FastInferer(VotingInferer()), (6, (40, 40))),
        (VotingInferer(32, 8, neighbours=2), (10, (32, 32))),
        (BackgroundInferer(SlidingWindowInferer([64, 48])), (2, (64, 48))),
        (SlidingWindowInferer(64), (2, (64, 64))),
        (SlidingWindowInferer((64, -1)), (2, None)),
        (SliceInferer(2, (64, 48)), (2, (64, 48))),
        (FastInferer(SimpleInferer()), (2, None)),
    ],
)
def test_network_input(inferer, wanted):
    assert describe_network_input(inferer, 2) == wanted


def test_network_input_of_slices_after_a_volume():
    inferer = SliceInferer(2, (8, 8))
    inferer(torch.zeros(1, 1, 8, 8, 2), nn.Identity())
    assert describe_network_input(inferer, 1) == (1, (8, 8))
