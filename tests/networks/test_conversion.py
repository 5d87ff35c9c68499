"""Dense layers as convolutions, and one value a pixel."""

import pytest
import torch
from torch import nn

from medpos.core.errors import InputError
from medpos.networks.lecture.conversion import convolutional, rarefied, shift_and_stitch


def classifier(padding=0):
    """Whole numbers for weights, so that no sum is rounded and equal means equal."""
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


class TestConvolutional:
    def test_native_size_is_exactly_equal(self):
        dense, x = classifier(), image(4, 2, 12, 12)
        found = convolutional(dense, (3, 3))(x)
        assert found.shape == (4, 3, 1, 1)
        assert torch.equal(found[..., 0, 0], dense(x))

    def test_larger_image_is_exactly_every_window(self):
        dense, x = classifier(), image(2, 2, 18, 22)
        found = convolutional(dense, (3, 3))(x)
        assert found.shape == (2, 3, 4, 6)
        for row in range(4):
            for column in range(6):
                window = x[..., 2 * row : 2 * row + 12, 2 * column : 2 * column + 12]
                assert torch.equal(found[..., row, column], dense(window))

    def test_with_padding_only_the_native_size_is_equal(self):
        dense, x = classifier(padding=1), image(1, 2, 10, 10)
        found = convolutional(dense, (4, 4))(image(1, 2, 8, 8))
        assert torch.equal(found[..., 0, 0], dense(image(1, 2, 8, 8)))
        assert not torch.equal(convolutional(dense, (4, 4))(x)[..., 0, 0], dense(x[..., :8, :8]))

    def test_a_global_mean_leaves_1_x_1(self):
        dense = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2, bias=False))
        found = convolutional(dense, (1, 1))
        assert found[1].kernel_size == (1, 1)
        torch.testing.assert_close(found(torch.ones(1, 4, 5, 5))[..., 0, 0], dense(torch.ones(1, 4, 5, 5)))

    def test_a_wrong_size_is_explained(self):
        with pytest.raises(InputError, match="takes 45 values, needed is a multiple of 2 x 2"):
            convolutional(classifier(), (2, 2))


class TestShiftAndStitch:
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(3, 2, 2)
    ).double()  # stride 4, sees 11 x 11 px

    @pytest.mark.parametrize("size", [(20, 23), (11, 11), (13, 18)])
    @torch.no_grad()
    def test_equals_the_rarefied_network(self, size):
        x = image(2, 1, *size)
        found = shift_and_stitch(self.network, x, 4)
        assert found.shape == (2, 2, size[0] - 10, size[1] - 10)
        torch.testing.assert_close(found, rarefied(self.network)(x), rtol=0, atol=1e-12)

    @torch.no_grad()
    def test_is_the_value_of_every_window(self):
        x = image(1, 1, 14, 15)
        found = shift_and_stitch(self.network, x, 4)
        for row, column in ((0, 0), (1, 3), (3, 4)):
            window = x[..., row : row + 11, column : column + 11]
            torch.testing.assert_close(found[..., row, column], self.network(window)[..., 0, 0], rtol=0, atol=1e-12)

    def test_padding_is_refused(self):
        with pytest.raises(InputError, match=r"layer 0 has padding \(1, 1\), needed is 0"):
            rarefied(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1)))
