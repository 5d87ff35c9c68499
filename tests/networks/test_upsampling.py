"""Upsampling with the examples of the lecture's slides."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from medpos.networks.layers.upsampling import (
    bed_of_nails,
    bilinear_kernel,
    initialize_bilinear,
    max_unpool,
    nearest,
    transposed_convolution,
)


def grid(*rows):
    return torch.tensor([[rows]], dtype=torch.float32)


SMALL = grid([1, 2], [3, 4])


def test_nearest():
    assert torch.equal(nearest(SMALL, 2), grid([1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]))


def test_bed_of_nails():
    assert torch.equal(bed_of_nails(SMALL, 2), grid([1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]))


class TestMaxUnpooling:
    def test_slide(self):
        image = grid([1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8])
        pooled, indices = F.max_pool2d(image, 2, return_indices=True)
        assert torch.equal(pooled, grid([5, 6], [7, 8]))
        assert indices.flatten().tolist() == [5, 2, 12, 15]
        found = max_unpool(SMALL, indices, [4, 4])
        assert torch.equal(found, grid([0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]))

    @pytest.mark.parametrize("size", [(1, 1), (4, 6), (45, 60), (5, 7)])
    def test_odd_sizes_with_ceil_pooling_as_in_pytorch(self, size):
        image = torch.rand(2, 3, *size, requires_grad=True)
        pooled, indices = F.max_pool2d(image, 2, ceil_mode=True, return_indices=True)
        assert pooled.shape[2:] == tuple(-(-side // 2) for side in size)
        found = max_unpool(pooled, indices, list(size))
        assert torch.equal(found, F.max_unpool2d(pooled, indices, 2, output_size=size))
        found.sum().backward()
        assert image.grad.sum() == pooled.numel()

    def test_the_first_of_equal_maxima_counts(self):
        _, indices = F.max_pool2d(torch.ones(1, 1, 5, 4), 2, ceil_mode=True, return_indices=True)
        assert indices.flatten().tolist() == [0, 2, 8, 10, 16, 18]


class TestTransposedConvolution:
    line, filter = torch.tensor([2.0, 5.0]), torch.tensor([1.0, 10.0, 100.0])

    def one_dimension(self, stride):
        return transposed_convolution(self.line[None, None, None], self.filter[None, None, None], stride).flatten()

    def test_slide_stride_1(self):
        """f1 I1, f2 I1 + f1 I2, f3 I1 + f2 I2, f3 I2."""
        assert self.one_dimension(1).tolist() == [2, 20 + 5, 200 + 50, 500]

    def test_slide_stride_2(self):
        """f1 I1, f2 I1, f3 I1 + f1 I2, f2 I2, f3 I2."""
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


class TestBilinear:
    def test_kernel_of_4(self):
        assert torch.equal(16 * bilinear_kernel(4, 2)[1], torch.tensor([3.0, 9, 9, 3]))

    @pytest.mark.parametrize(("size", "factor"), [(4, 2), (16, 8), (32, 16), (64, 32), (63, 32), (8, 2)])
    def test_sums_up_to_the_square_of_the_factor(self, size, factor):
        assert bilinear_kernel(size, factor).sum() == pytest.approx(factor**2)

    @pytest.mark.parametrize(("size", "factor"), [(4, 2), (8, 4), (8, 2)])
    def test_interpolates_each_channel_inside_the_border(self, size, factor):
        layer = nn.ConvTranspose2d(3, 3, size, stride=factor, padding=(size - factor) // 2)
        initialize_bilinear(layer)
        features = torch.rand(1, 3, 6, 5)
        expected = F.interpolate(features, scale_factor=factor, mode="bilinear")
        inside = (..., slice(factor, -factor), slice(factor, -factor))
        torch.testing.assert_close(layer(features)[inside], expected[inside])
        assert layer.weight.requires_grad
