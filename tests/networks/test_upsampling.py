"""Test max-unpooling and bilinear upsampling with the examples of the lecture's slides."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from medpos.networks.layers.upsampling import bilinear_kernel, initialize_bilinear, max_unpool


def grid(*rows):
    return torch.tensor([[rows]], dtype=torch.float32)


SMALL = grid([1, 2], [3, 4])


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
