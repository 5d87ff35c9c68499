"""Test UNet++: the nested dense skips, deep supervision, its two modes, and pruning."""

import functools

import pytest
import torch
from torch import nn

from medpos.core.errors import InputError
from medpos.networks import PlainUNet, UNetPlusPlus


def narrow(network=UNetPlusPlus, **options):
    torch.manual_seed(0)
    return network(width=1 / 8, **options).eval()


def image(*shape):
    return torch.rand(shape or (2, 1, 32, 48), generator=torch.Generator().manual_seed(1))


def inside(model):
    """Record the outputs of all nodes and the inputs of their convolutions."""
    outputs, inputs = {}, {}

    def remember(name, node, _, output):
        outputs[name] = output

    for name, node in model.nodes.items():
        node.register_forward_hook(functools.partial(remember, name))
        node.unit.register_forward_pre_hook(lambda _, given, name=name: inputs.update({name: given[0]}))
    with torch.no_grad():
        model(image())
    return outputs, inputs


class TestNestedSkips:
    def test_41_convolutions_whose_inputs_grow_along_the_row(self):
        with torch.device("meta"):
            model = UNetPlusPlus()
        layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]
        assert len(layers) == 41
        for name, node in model.nodes.items():
            i, j = int(name[1]), int(name[2])
            if j:
                assert node.unit[0].in_channels == (j + 1) * 32 * 2**i
        assert len(model.nodes) == 15

    def test_each_node_takes_the_upsampled_then_all_nodes_to_its_left(self):
        model = narrow()
        outputs, inputs = inside(model)
        for name, node in model.nodes.items():
            i, j = int(name[1]), int(name[2])
            if j:
                up = node.resample(outputs[f"x{i + 1}{j - 1}"])
                expected = torch.cat([up, *(outputs[f"x{i}{k}"] for k in range(j))], 1)
            else:
                expected = node.resample(outputs[f"x{i - 1}0"]) if i else image()
            assert torch.equal(inputs[name], expected), name

    def test_the_plain_unet_takes_the_encoder_only(self):
        model = narrow(PlainUNet)
        outputs, inputs = inside(model)
        assert list(outputs) == ["x00", "x10", "x20", "x30", "x40", "x31", "x22", "x13", "x04"]
        for name, below in {"x31": "x40", "x22": "x31", "x13": "x22", "x04": "x13"}.items():
            up = model.nodes[name].resample(outputs[below])
            assert torch.equal(inputs[name], torch.cat([up, outputs[f"x{name[1]}0"]], 1))

    def test_dropout_follows_every_3_x_3_convolution(self):
        for node in narrow().nodes.values():
            assert [type(layer) for layer in node.unit] == [nn.Conv2d, nn.ReLU, nn.Dropout] * 2
            assert {layer.p for layer in node.unit if isinstance(layer, nn.Dropout)} == {0.5}


class TestDeepSupervision:
    def test_training_gives_the_logits_of_all_four(self):
        model = narrow(deep_supervision=True)
        heads = model.logits(image())
        for layer in model.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0
        found = model.train()(image())
        assert found.shape == (2, 4, 1, 32, 48)
        assert torch.equal(found, torch.stack(heads, 1))

    @pytest.mark.parametrize("classes", [1, 3])
    @torch.no_grad()
    def test_accurate_mode_is_the_mean_of_the_probabilities(self, classes):
        model = narrow(deep_supervision=True, out_channels=classes)
        to_probability = torch.sigmoid if classes == 1 else functools.partial(torch.softmax, dim=1)
        expected = sum(to_probability(logits) for logits in model.logits(image())) / 4
        torch.testing.assert_close(to_probability(model(image())), expected)

    @torch.no_grad()
    def test_accurate_mode_stays_finite_for_large_logits(self):
        model = narrow(deep_supervision=True)
        for head, logit in zip(model.heads.values(), (-200.0, -200.0, -200.0, -190.0), strict=True):
            nn.init.zeros_(head.weight)
            nn.init.constant_(head.bias, logit)
        assert model(image()).mean().item() == pytest.approx(-190 - 1.3862, abs=1e-3)

    @torch.no_grad()
    def test_fast_mode_is_the_last_head(self):
        model = narrow(deep_supervision=True, mode="fast")
        assert torch.equal(model(image()), model.logits(image())[3])

    def test_an_unknown_mode_is_explained(self):
        with pytest.raises(InputError, match="mode: expected one of accurate, fast"):
            UNetPlusPlus(mode="slow")


class TestPruning:
    @pytest.mark.parametrize("level", [1, 2, 3, 4])
    @torch.no_grad()
    def test_reproduces_its_head_to_the_bit(self, level):
        model = narrow(deep_supervision=True)
        before = list(model.state_dict())
        pruned = model.pruned(level)
        assert torch.equal(pruned(image()), model.logits(image())[level - 1])
        assert sorted(pruned.nodes) == sorted(name for name in model.nodes if int(name[1]) + int(name[2]) <= level)
        assert list(model.state_dict()) == before
        assert pruned(image(1, 1, 2**level, 3 * 2**level)).shape == (1, 1, 2**level, 3 * 2**level)

    @torch.no_grad()
    def test_without_deep_supervision_only_the_whole_network_has_a_head(self):
        model = narrow()
        assert torch.equal(model.pruned(4)(image()), model(image()))
        with pytest.raises(InputError, match="level: expected one of 4, got 2; train with deep_supervision"):
            model.pruned(2)
        with pytest.raises(InputError, match="level: expected one of 1, 2, 3, 4"):
            narrow(deep_supervision=True).pruned(5)
