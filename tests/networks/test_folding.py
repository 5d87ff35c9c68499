"""Fold batch normalization into convolutions, alone and on the fast path."""

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from medpos.inferers import FastInferer
from medpos.networks import MeanMask, SmallCNN, UNet, build_with_position
from medpos.networks.layers.blocks import ConvBlock
from medpos.networks.layers.folding import ConvReLU, fold_batch_norms, update_folded

NETWORKS = {
    "UNet": lambda: UNet(3),
    "SmallCNN": lambda: SmallCNN(3),
    "without bias": lambda: SmallCNN(3, conv_bias=False),
    "reflect": lambda: UNet(3, padding_mode="reflect"),
    "coordconv": lambda: build_with_position(SmallCNN, "coordconv", alpha=3.0),
    "sequential": lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 1)),
}


def lived_in(network):
    """Give the batch norm layers statistics and affine terms that a folding must preserve."""
    torch.manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.3, 3)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
    return network.eval()


def norms(network):
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_is_equal_to_1e_5_of_the_largest_logit(name):
    network = lived_in(NETWORKS[name]())
    state = {key: value.clone() for key, value in network.state_dict().items()}
    image = torch.randn(2, getattr(network, "in_channels", 3), 32, 48)
    with torch.inference_mode():
        wanted, found = network(image), fold_batch_norms(network)(image)
    assert (wanted - found).abs().max() <= 1e-5 * wanted.abs().max()
    assert norms(network) > norms(fold_batch_norms(network)) == 0
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_layers_that_cannot_be_folded_stay():
    first = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)).eval()
    assert fold_batch_norms(first) is first
    apart = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    assert fold_batch_norms(apart) is apart
    moving = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    assert fold_batch_norms(moving) is moving
    assert isinstance(fold_batch_norms(MeanMask().eval()), MeanMask)


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(ValueError, match="call eval"):
        fold_batch_norms(SmallCNN())


def test_bf16_weights_are_those_that_autocast_would_make():
    network = lived_in(SmallCNN())
    half, whole = (fold_batch_norms(network, dtype) for dtype in (torch.bfloat16, None))
    assert half.conv1.conv.weight.dtype == torch.bfloat16
    assert torch.equal(half.conv2.conv.weight, whole.conv2.conv.weight.bfloat16())
    assert half.score.weight.dtype == torch.float32


@pytest.mark.parametrize("name", NETWORKS)
def test_a_convolution_joined_with_its_relu_gives_the_same_bits(name):
    network = lived_in(NETWORKS[name]()).to(memory_format=torch.channels_last)
    apart, joined = (fold_batch_norms(network, torch.bfloat16, joins_relu) for joins_relu in (False, True))
    image = torch.randn(2, getattr(network, "in_channels", 3), 32, 48).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(apart(image), joined(image))
    blocks = [layer for layer in network.modules() if isinstance(layer, ConvBlock)]
    plain = [b for b in blocks if type(b.conv) is nn.Conv2d and b.conv.padding_mode == "zeros"]
    fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert sum(isinstance(layer, ConvReLU) for layer in joined.modules()) == (len(plain) if fast else 0)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_an_updated_copy_equals_one_that_is_folded_anew(name, dtype):
    network = lived_in(NETWORKS[name]())
    folded = fold_batch_norms(network, dtype)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.add_(tensor * 0.25 if tensor.is_floating_point() else 1)
    assert update_folded(folded, network)
    found, wanted = folded.state_dict(), fold_batch_norms(network, dtype).state_dict()
    assert found.keys() == wanted.keys()
    assert all(found[key].dtype == wanted[key].dtype and torch.equal(found[key], wanted[key]) for key in wanted)


def test_a_copy_of_other_pairs_is_not_updated():
    network = lived_in(SmallCNN())
    folded = fold_batch_norms(network)
    network.conv2.conv.register_forward_hook(lambda *_: None)
    assert not update_folded(folded, network)


class TestOnTheFastPath:
    def test_folding_follows_changes_of_the_network(self):
        network, inferer, image = (
            lived_in(SmallCNN(3)),
            FastInferer(SimpleInferer(), amp=False),
            torch.randn(1, 3, 16, 16),
        )

        def check():
            with torch.no_grad():
                found, wanted = inferer(image, network), network(image)
            assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()))
            return found

        first = check()
        assert torch.equal(check(), first)
        network.load_state_dict(SmallCNN(3).state_dict())
        second = check()
        assert not torch.equal(first, second)
        optimizer = torch.optim.Adam(network.parameters(), 0.1)
        network.train()(image).square().mean().backward()
        optimizer.step()
        network.eval()
        third = check()
        assert not torch.equal(second, third)
        network = lived_in(SmallCNN(3))
        assert not torch.equal(check(), third)

    def test_batch_normalization_runs_where_gradients_or_statistics_are_wanted(self):
        network, calls = lived_in(SmallCNN(3)), []
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.register_forward_hook(lambda *_: calls.append(1))
        inferer, image = FastInferer(SimpleInferer(), amp=False), torch.randn(1, 3, 16, 16)
        with torch.no_grad():
            inferer(image, network)
        assert not calls
        inferer(image, network).sum().backward()
        assert len(calls) == 3
        with torch.no_grad():
            inferer(image, network.train())
        assert len(calls) == 6
