"""Test the networks of the position study."""

import copy
import functools
import hashlib

import numpy as np
import pytest
import torch

from medpos.core.errors import InputError
from medpos.networks import MeanMask, SmallCNN, UNet


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Limit PyTorch to one thread: on such small images more threads cost more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def _seeded(network, *args):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network(*args).eval()


def seeded(network, in_channels=1, out_channels=4, padding_mode="zeros", conv_bias=True):
    return copy.deepcopy(_seeded(network, in_channels, out_channels, padding_mode, conv_bias))


def image(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def test_unet_has_19_convolutions_named_and_sized_as_in_the_paper():
    table = {name: layer for name, layer in seeded(UNet).named_modules() if isinstance(layer, torch.nn.Conv2d)}
    stages = [f"conv{stage}_{layer}.conv" for stage in range(1, 10) for layer in (1, 2)]
    assert list(table) == [*stages, "score"]
    channels = [64, 64, 128, 128, 256, 256, 512, 512, 512, 512, 256, 256, 128, 128, 64, 64, 64, 64, 4]
    assert [layer.out_channels for layer in table.values()] == channels
    assert [table[f"conv{stage}_1.conv"].in_channels for stage in range(6, 10)] == [1024, 512, 256, 128]


def test_wrong_padding_is_explained():
    with pytest.raises(
        InputError, match="padding_mode: expected one of zeros, reflect, replicate, circular, got 'mirror'"
    ):
        SmallCNN(padding_mode="mirror")


def fitted():
    return MeanMask(3).fit([torch.tensor([[0, 1], [2, 2]]), torch.tensor([[[0, 1], [1, 2]]])])


@pytest.mark.parametrize(
    ("network", "mode", "mean", "std", "argmax"),
    [
        (UNet, "zeros", 0.14492, 0.32729, 0.7061),
        (UNet, "reflect", 0.16757, 0.30301, 0.6855),
        (SmallCNN, "zeros", -0.34602, 0.40991, 0.8506),
        (SmallCNN, "reflect", -0.36656, 0.41775, 0.8535),
    ],
)
@torch.no_grad()
def test_golden_output(network, mode, mean, std, argmax):
    """Use random weights of NumPy, so that the numbers don't depend on PyTorch's initialization."""
    model, rng = seeded(network, 3, 4, mode), np.random.default_rng(0)
    for parameter in model.parameters():
        width = (24 / parameter[0].numel()) ** 0.5 if parameter.dim() == 4 else 0.2
        values = (rng.random(tuple(parameter.shape)) - 0.5) * width
        parameter.copy_(torch.from_numpy(values))
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            parameter += 1
    y = model(torch.from_numpy(rng.random((1, 3, 32, 32)) - 0.5).float())
    assert y.mean().item() == pytest.approx(mean, rel=1e-3)
    assert y.std().item() == pytest.approx(std, rel=1e-3)
    assert y.argmax(1).float().mean().item() == pytest.approx(argmax, abs=5e-3)


@torch.no_grad()
def test_small_cnn_is_shift_equivariant_in_the_interior():
    model, x = seeded(SmallCNN).double(), image(1, 1, 40, 40).double()
    y = model(x)
    moved = model(x.roll((5, -4), (2, 3)))
    torch.testing.assert_close(moved[..., 8:-3, 3:-8], y[..., 3:-8, 7:-4], rtol=0, atol=1e-14)


@torch.no_grad()
def test_small_cnn_with_circular_padding_is_shift_equivariant_everywhere():
    """No pixel of a torus lies at a border, so such a network can't know positions."""
    model, x = seeded(SmallCNN, padding_mode="circular").double(), image(1, 1, 24, 20).double()
    torch.testing.assert_close(model(x.roll((5, -4), (2, 3))), model(x).roll((5, -4), (2, 3)), rtol=0, atol=1e-14)


@torch.no_grad()
def test_zero_padding_perturbs_exactly_three_pixels_of_a_constant_image():
    y = seeded(SmallCNN).double()(torch.full((1, 1, 24, 20), 0.7, dtype=torch.float64))
    differs = (y - y[..., 12:13, 10:11]).abs().amax((0, 1)) > 1e-12
    expected = torch.ones(24, 20, dtype=torch.bool)
    expected[3:-3, 3:-3] = False
    assert torch.equal(differs, expected)


@pytest.mark.parametrize("network", [UNet, SmallCNN])
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@torch.no_grad()
def test_padding_from_the_image_keeps_a_constant_image_constant(network, mode, dtype, limit):
    constant = torch.full((1, 1, 64, 64), 0.7, dtype=dtype)
    assert seeded(network, padding_mode=mode).to(dtype)(constant).std((2, 3)).max() < limit
    assert seeded(network, padding_mode="zeros").to(dtype)(constant).std((2, 3)).max() > 1e-4


def test_padding_mode_changes_no_parameter():
    reflect, zeros = seeded(UNet, padding_mode="reflect"), seeded(UNet)
    assert digest(reflect) == digest(zeros)


def digest(model):
    state = model.state_dict()
    return hashlib.sha256(b"".join(key.encode() + value.numpy().tobytes() for key, value in state.items())).hexdigest()


class TestMeanMask:
    def test_prediction_is_the_most_frequent_class(self):
        generator = torch.Generator().manual_seed(0)
        labels = [torch.randint(0, 4, (9, 7), generator=generator) for _ in range(12)]
        model = MeanMask(4).fit(iter(labels))
        logits = model(image(2, 3, 9, 7))
        mean = torch.nn.functional.one_hot(torch.stack(labels), 4).float().mean(0).permute(2, 0, 1)
        torch.testing.assert_close(model.probability, mean)
        assert logits.shape == (2, 4, 9, 7)
        assert torch.isfinite(logits).all()
        assert torch.equal(logits.argmax(1), mean.argmax(0).expand(2, 9, 7))
        torch.testing.assert_close(logits[0].exp(), mean, rtol=0, atol=1e-6)

    def test_state_dict_of_any_size_round_trips(self):
        model = fitted()
        for other in (MeanMask(3), MeanMask(3).fit([torch.zeros(5, 4, dtype=torch.uint8)])):
            other.load_state_dict(model.state_dict())
            assert torch.equal(other.probability, model.probability)
        with pytest.raises(RuntimeError, match="size mismatch"):
            MeanMask(4).load_state_dict(model.state_dict())

    def test_loading_copies(self):
        state, model = fitted().state_dict(), MeanMask(3)
        model.load_state_dict(state)
        model.probability.zero_()
        assert state["probability"].sum() > 0

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([], "expected at least one label map"),
            (
                [torch.zeros(2, 2), torch.zeros(2, 3)],
                r"expected a label map of \(2, 2\) px, as the first, got \(2, 3\) px",
            ),
            ([torch.full((2, 2), 3)], "expected label values 0 to 2, got 3 to 3"),
        ],
    )
    def test_bad_labels(self, labels, message):
        with pytest.raises(InputError, match=message):
            MeanMask(3).fit(labels)

    def test_bad_use(self):
        with pytest.raises(InputError, match="not fitted"):
            MeanMask(3)(image(1, 1, 2, 2))
        with pytest.raises(InputError, match=r"expected an image of 2 x 2 px, .* got 4 x 2 px"):
            fitted()(image(1, 1, 4, 2))
