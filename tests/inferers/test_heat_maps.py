"""Test the ways from the class heat maps of a classifier of patches to the pixels of an image."""

import pytest
import torch

from medpos.core.errors import InputError
from medpos.inferers import HeatMapInferer
from medpos.inferers.heat_maps import upsample
from medpos.networks.lecture import PatchClassifier


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PatchClassifier(1, 3).double().eval().requires_grad_(False)


@pytest.mark.parametrize("size", [(20, 17), (33, 40)])
def test_shift_and_stitch_classifies_the_patch_around_every_pixel(size, network):
    x, inferer = torch.rand(2, 1, *size, dtype=torch.float64), HeatMapInferer()
    found = inferer(x, network)
    assert found.shape == (2, 3, *size)
    padded = inferer.pad(x)
    for row, column in ((0, 0), (5, 6), (size[0] - 1, size[1] - 1)):
        patch = padded[..., row : row + 33, column : column + 33]
        assert torch.equal(patch[..., 16, 16], x[..., row, column])
        torch.testing.assert_close(found[..., row, column], network.layers(patch), rtol=0, atol=1e-12)


def test_upsampled_maps_equal_the_stitched_ones_at_every_fourth_pixel(network):
    x = torch.rand(1, 1, 22, 19, dtype=torch.float64)
    stitched, upsampled = (HeatMapInferer(mode=mode)(x, network) for mode in ("stitched", "upsampled"))
    assert upsampled.shape == stitched.shape
    torch.testing.assert_close(upsampled[..., ::4, ::4].double(), stitched[..., ::4, ::4], rtol=0, atol=1e-5)
    assert not torch.allclose(upsampled.double(), stitched, atol=1e-3)


def test_values_between_are_interpolated_and_those_beyond_repeated():
    found = upsample(torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]]), 4, (5, 7))
    assert found[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 4, 4]
    assert found[0, 0, :, 0].tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("options", [{"mode": "shifted"}, {"field": 32}, {"stride": 0}])
def test_refusals(options):
    with pytest.raises(InputError, match="expected a mode of upsampled, stitched, an odd field and a stride"):
        HeatMapInferer(**options)


def test_a_volume_is_refused(network):
    with pytest.raises(InputError, match=r"expected an input \[N, C, X, Y\]"):
        HeatMapInferer()(torch.zeros(1, 1, 8, 8, 2), network)
