"""Check the mean over rotated versions against rotations by SciPy and by quarter turns."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from scipy import ndimage
from torch import nn

from medpos.core.errors import InputError
from medpos.inferers import OverlapTileInferer, RotationMeanInferer
from medpos.inferers.rotations import rotate
from medpos.networks import UNet2015


@pytest.fixture(scope="module")
def network():
    """Build a network with a receptive field of several pixels and without symmetry."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)).eval()


def by_scipy(image, angle, size):
    """Rotate an image [X, Y] about its center onto another grid, bilinear and mirrored."""
    matrix = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centers = [(np.array(shape) - 1) / 2 for shape in (image.shape, size)]
    offset = centers[0] - matrix @ centers[1]
    return ndimage.affine_transform(image, matrix, offset, size, order=1, mode="mirror")


def mean_by_scipy(image, network, rotations):
    """Compute the inferer's result, one image and one class after the other."""
    total = 0
    for turn in range(rotations):
        angle = 2 * math.pi * turn / rotations
        cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
        height, width = image.shape
        canvas = [
            math.ceil(round(side, 9)) for side in (height * cosine + width * sine, width * cosine + height * sine)
        ]
        turned = by_scipy(image, angle, canvas)
        probabilities = network(torch.from_numpy(turned)[None, None].float()).softmax(1)[0].double().numpy()
        total = total + np.stack([by_scipy(one, -angle, image.shape) for one in probabilities])
    return total / rotations


@pytest.mark.parametrize(("size", "angle"), [((20, 31), 0.7), ((31, 20), -2.2), ((9, 9), 4.0), ((1, 12), 1.0)])
def test_rotated_is_scipys(size, angle):
    image = torch.randn(2, 3, *size)
    found = rotate(image, angle, (41, 37))
    for one, wanted in zip(found.flatten(0, 1), image.flatten(0, 1), strict=True):
        np.testing.assert_allclose(one, by_scipy(wanted.double().numpy(), angle, (41, 37)), atol=1e-4)


@pytest.mark.parametrize("rotations", [1, 2, 4, 7, 8])
def test_mean_is_that_by_scipy(network, rotations):
    image = torch.randn(2, 1, 24, 33)
    with torch.no_grad():
        found = RotationMeanInferer(SimpleInferer(), rotations)(image, network).softmax(1)
        for one, source in zip(found, image, strict=True):
            np.testing.assert_allclose(one, mean_by_scipy(source[0].double().numpy(), network, rotations), atol=1e-4)


def test_quarter_turns_are_exact(network):
    image = torch.randn(1, 1, 20, 20)
    with torch.no_grad():
        found = RotationMeanInferer(SimpleInferer(), 4)(image, network)
        parts = [network(image.rot90(k, (2, 3))).softmax(1).rot90(-k, (2, 3)) for k in range(4)]
    assert torch.equal(found, ((parts[0] + parts[1] + parts[2] + parts[3]) / 4).log())
    assert torch.allclose(found.softmax(1), found.exp())


def test_one_rotation_is_the_inferer(network):
    image = torch.randn(1, 1, 20, 20)
    with torch.no_grad():
        assert torch.equal(RotationMeanInferer(SimpleInferer(), 1)(image, network), network(image))


def test_corners_are_those_of_a_mirrored_image(network):
    """Check corners, which a canvas of the image's size, or one filled up with zeros, would change for even sizes."""
    image = torch.full((1, 1, 16, 40), 3.0)
    with torch.no_grad():
        found = RotationMeanInferer(SimpleInferer())(image, lambda x: torch.cat([x, 2 * x], 1))
    assert torch.allclose(found.softmax(1)[:, 1], torch.tensor(3.0).sigmoid(), atol=1e-5)


def test_it_is_a_mean_of_probabilities_not_of_logits():
    scores = iter((torch.tensor([0.0, 9.0]), torch.tensor([0.0, -1.0])))
    found = RotationMeanInferer(SimpleInferer(), 2)(
        torch.zeros(1, 1, 4, 4), lambda x: next(scores)[None, :, None, None].expand(1, 2, 4, 4)
    )
    wanted = (torch.tensor([9.0, -1.0]).sigmoid()).mean()
    assert torch.allclose(found.exp()[:, 1], wanted)


def test_impossible_classes_stay_finite():
    found = RotationMeanInferer(SimpleInferer(), 2)(
        torch.zeros(1, 1, 4, 4), lambda x: torch.cat([x, torch.full_like(x, -1e4)], 1)
    )
    assert bool(found.isfinite().all())
    assert found.softmax(1)[:, 1].max() < 1e-30


def test_within_it_tiles_of_any_image():
    torch.manual_seed(0)
    unet = UNet2015(width=1 / 16).eval()
    with torch.no_grad():
        found = RotationMeanInferer(OverlapTileInferer(252, step=64))(MetaTensor(torch.randn(1, 1, 50, 30)), unet)
    assert found.shape == (1, 2, 50, 30)
    assert type(found) is torch.Tensor


def test_refusals(network):
    with pytest.raises(InputError, match="rotations: expected 1 or more, got 0"):
        RotationMeanInferer(SimpleInferer(), 0)
    with pytest.raises(InputError, match=r"expected an input \[N, C, X, Y\]"):
        RotationMeanInferer(SimpleInferer())(torch.zeros(1, 1, 8, 8, 2), network)
