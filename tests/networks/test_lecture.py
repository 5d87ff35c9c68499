"""Check the constructions of the lecture against PyTorch and the examples of the slides."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.losses.dense import random_mask, summed_loss
from medpos.networks.lecture import (
    PatchClassifier,
    bed_of_nails,
    convolutionalize,
    make_atrous,
    masked_batch_size,
    nearest,
    patch_loss,
    shift_and_stitch,
    transposed_convolution,
)


def classifier(padding=0):
    """Build a classifier with integer weights, so that sums are exact and can be compared for equality."""
    torch.manual_seed(0)
    size = 4 if padding else 3
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3, padding=padding),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * size**2, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    ).double()
    for parameter in network.parameters():
        nn.init.trunc_normal_(parameter, std=2, a=-4, b=4).data.round_()
    return network


def image(*shape):
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(1)).double()


class TestConvolutionalize:
    def test_native_size_is_exactly_equal(self):
        dense, x = classifier(), image(4, 2, 12, 12)
        found = convolutionalize(dense, (3, 3))(x)
        assert found.shape == (4, 3, 1, 1)
        assert torch.equal(found[..., 0, 0], dense(x))

    def test_larger_image_is_exactly_every_patch(self):
        dense, x = classifier(), image(2, 2, 18, 22)
        found = convolutionalize(dense, (3, 3))(x)
        assert found.shape == (2, 3, 4, 6)
        for row in range(4):
            for column in range(6):
                patch = x[..., 2 * row : 2 * row + 12, 2 * column : 2 * column + 12]
                assert torch.equal(found[..., row, column], dense(patch))

    def test_with_padding_only_the_native_size_is_equal(self):
        dense, x = classifier(padding=1), image(1, 2, 10, 10)
        found = convolutionalize(dense, (4, 4))(image(1, 2, 8, 8))
        assert torch.equal(found[..., 0, 0], dense(image(1, 2, 8, 8)))
        assert not torch.equal(convolutionalize(dense, (4, 4))(x)[..., 0, 0], dense(x[..., :8, :8]))

    def test_a_global_mean_leaves_1_x_1(self):
        dense = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2, bias=False))
        found = convolutionalize(dense, (1, 1))
        assert found[1].kernel_size == (1, 1)
        torch.testing.assert_close(found(torch.ones(1, 4, 5, 5))[..., 0, 0], dense(torch.ones(1, 4, 5, 5)))

    def test_a_wrong_size_is_explained(self):
        with pytest.raises(InputError, match="expected a dense layer of a multiple of 2 x 2 inputs, got 45"):
            convolutionalize(classifier(), (2, 2))


class TestPatchClassifier:
    def test_parameters(self):
        """Count by hand: weights and biases of two convolutions and two dense layers."""
        count = (36 * 16 + 16) + (16 * 25 * 32 + 32) + (32 * 25 * 64 + 64) + (64 * 4 + 4)
        assert sum(parameter.numel() for parameter in PatchClassifier().parameters()) == count == 64_948

    @torch.no_grad()
    def test_a_larger_image_gets_the_scores_of_every_fourth_patch(self):
        torch.manual_seed(0)
        network, x = PatchClassifier(2, 3).double(), torch.rand(2, 2, 41, 46, dtype=torch.float64)
        found = network(x)
        assert found.shape == (2, 3, 3, 4)
        for row, column in ((0, 0), (1, 3), (2, 2)):
            patch = x[..., 4 * row : 4 * row + 33, 4 * column : 4 * column + 33]
            torch.testing.assert_close(found[..., row, column], network.layers(patch), rtol=0, atol=1e-12)
            torch.testing.assert_close(network(patch)[..., 0, 0], network.layers(patch), rtol=0, atol=1e-12)
        torch.testing.assert_close(found, network.convolutional()(x), rtol=0, atol=1e-12)

    def test_every_parameter_gets_a_gradient(self):
        torch.manual_seed(0)
        network = PatchClassifier()
        network(torch.rand(8, 1, 33, 33)).square().sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())

    def test_a_small_image_is_refused(self):
        with pytest.raises(InputError, match="at least 33 px, got 32 x 40"):
            PatchClassifier()(torch.zeros(1, 1, 32, 40))

    def test_the_mean_image_is_loaded_with_the_weights(self):
        items = [{"image": torch.full((1, 2, 2), value)} for value in (1.0, 2.0, 6.0)]
        fitted, other, none = (PatchClassifier(mean_size=size) for size in (2, 2, 1))
        fitted.mean_image.fit(items)
        assert torch.equal(fitted.mean_image.read(), torch.full((1, 2, 2), 3.0))
        other.load_state_dict(fitted.state_dict())
        assert torch.equal(other.mean_image.read(), fitted.mean_image.read())
        none.mean_image.fit(items)
        assert torch.equal(none.mean_image.read(), torch.zeros(1, 1, 1))


class TestShiftAndStitch:
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(3, 2, 2)
    ).double()  # stride 4, sees 11 x 11 px

    @pytest.mark.parametrize("size", [(20, 23), (11, 11), (13, 18)])
    @torch.no_grad()
    def test_equals_the_atrous_network(self, size):
        x = image(2, 1, *size)
        found = shift_and_stitch(self.network, x, 4)
        assert found.shape == (2, 2, size[0] - 10, size[1] - 10)
        torch.testing.assert_close(found, make_atrous(self.network)(x), rtol=0, atol=1e-12)

    @torch.no_grad()
    def test_is_the_value_of_every_patch(self):
        x = image(1, 1, 14, 15)
        found = shift_and_stitch(self.network, x, 4)
        for row, column in ((0, 0), (1, 3), (3, 4)):
            patch = x[..., row : row + 11, column : column + 11]
            torch.testing.assert_close(found[..., row, column], self.network(patch)[..., 0, 0], rtol=0, atol=1e-12)

    def test_padding_is_refused(self):
        with pytest.raises(InputError, match=r"layer 0: expected padding 0, got \(1, 1\)"):
            make_atrous(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1)))


def grid(*rows):
    return torch.tensor([[rows]], dtype=torch.float32)


SMALL = grid([1, 2], [3, 4])


def test_nearest():
    assert torch.equal(nearest(SMALL, 2), grid([1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]))


def test_bed_of_nails():
    assert torch.equal(bed_of_nails(SMALL, 2), grid([1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]))


class TestTransposedConvolution:
    line, filter = torch.tensor([2.0, 5.0]), torch.tensor([1.0, 10.0, 100.0])

    def one_dimension(self, stride):
        return transposed_convolution(self.line[None, None, None], self.filter[None, None, None], stride).flatten()

    def test_slide_stride_1(self):
        """Expect f1 I1, f2 I1 + f1 I2, f3 I1 + f2 I2, f3 I2."""
        assert self.one_dimension(1).tolist() == [2, 20 + 5, 200 + 50, 500]

    def test_slide_stride_2(self):
        """Expect f1 I1, f2 I1, f3 I1 + f1 I2, f2 I2, f3 I2."""
        assert self.one_dimension(2).tolist() == [2, 20, 200 + 5, 50, 500]

    def test_slide_3_x_3_stride_2_padding_1_makes_4_x_4_of_2_x_2(self):
        kernel = grid([1, 2, 3], [4, 5, 6], [7, 8, 9])
        found = transposed_convolution(SMALL, kernel, 2, padding=1, output_padding=1)
        expected = grid([5, 14, 10, 12], [14, 36, 24, 30], [15, 34, 20, 24], [24, 55, 32, 36])
        assert found.shape == (1, 1, 4, 4)
        assert torch.equal(found, F.conv_transpose2d(SMALL, kernel, stride=2, padding=1, output_padding=1))
        assert torch.equal(found, expected)
        assert transposed_convolution(SMALL, kernel, 2, padding=1).shape == (1, 1, 3, 3)

    @pytest.mark.parametrize(("stride", "padding", "more"), [(1, 0, 0), (2, 1, 1), (3, 2, 2), (2, 0, 1)])
    def test_as_pytorch(self, stride, padding, more):
        features, kernel = torch.rand(2, 3, 5, 4), torch.rand(3, 6, 3, 5)
        expected = F.conv_transpose2d(features, kernel, stride=stride, padding=padding, output_padding=more)
        torch.testing.assert_close(transposed_convolution(features, kernel, stride, padding, more), expected)

    def test_is_a_convolution_of_the_bed_of_nails(self):
        kernel = torch.rand(1, 1, 3, 3)
        nails = bed_of_nails(SMALL, 2)[:, :, :-1, :-1]
        expected = F.conv2d(nails, kernel.flip(2, 3), padding=2)
        torch.testing.assert_close(transposed_convolution(SMALL, kernel, 2), expected)


def test_whole_image_loss_is_patch_loss_and_so_are_its_gradients():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)).double()  # sees 5 x 5 px
    image, labels = torch.rand(2, 2, 9, 11, dtype=torch.float64), torch.randint(0, 3, (2, 5, 7))
    whole, patches = summed_loss(network(image), labels), patch_loss(network, image, labels, 5)
    torch.testing.assert_close(whole, patches, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, list(network.parameters())) for loss in (whole, patches)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


class TestMaskedBatchSize:
    def test_a_larger_batch_has_as_many_pixels_and_the_same_expected_loss(self):
        assert masked_batch_size(6, 0.3) == 20
        shape = (masked_batch_size(6, 0.3), 64, 64)
        mask = random_mask(shape, 0.3, torch.Generator().manual_seed(0))
        logits, labels = torch.zeros(20, 2, 64, 64), torch.zeros(shape, dtype=torch.long)
        expected = summed_loss(logits[:6], labels[:6]).item()
        assert summed_loss(logits, labels, mask).item() == pytest.approx(expected, rel=0.02)

    @pytest.mark.parametrize("keep", [0, 1.1])
    def test_no_probability(self, keep):
        with pytest.raises(InputError, match=f"got {keep}"):
            masked_batch_size(1, keep)
