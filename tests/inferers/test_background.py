"""Add the background that a network lacks."""

import pytest
import torch
from monai.inferers import SimpleInferer, SliceInferer

from medpos.inferers import BackgroundInferer, FastInferer, RotationMeanInferer
from medpos.networks import PlainUNet


@pytest.mark.parametrize("shape", [(2, 1, 6, 5), (2, 1, 6, 5, 3)])
def test_one_channel_is_the_logit_of_a_sigmoid(shape):
    logits = torch.randn(shape) * 5
    found = BackgroundInferer(SimpleInferer())(logits, torch.nn.Identity())
    assert found.shape == (2, 2, *shape[2:])
    torch.testing.assert_close(found.softmax(1)[:, 1:], logits.sigmoid())
    assert torch.equal(found.argmax(1, keepdim=True), (logits > 0).long())


def test_several_channels_are_classes_without_background():
    logits = torch.randn(2, 11, 6, 5) * 5 - 50
    found = BackgroundInferer(SimpleInferer())(logits, torch.nn.Identity())
    assert torch.equal(found.argmax(1), logits.argmax(1) + 1)
    torch.testing.assert_close(found.softmax(1)[:, 1:], logits.softmax(1))
    assert found.softmax(1)[:, 0].max() == 0
    assert bool(found.isfinite().all())


def test_around_other_inferers_and_within_them():
    torch.manual_seed(0)
    network, image = PlainUNet(width=1 / 16).eval(), torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        wanted = network(image).sigmoid()
        for inferer in (
            FastInferer(BackgroundInferer(SimpleInferer()), amp=False),
            BackgroundInferer(FastInferer(SimpleInferer(), amp=False)),
            RotationMeanInferer(BackgroundInferer(SimpleInferer()), 1),
        ):
            torch.testing.assert_close(inferer(image, network).softmax(1)[:, 1:], wanted)
        volume = BackgroundInferer(SliceInferer(2, (32, 32)))(image[..., None], network)
    torch.testing.assert_close(volume.softmax(1)[:, 1:, ..., 0], wanted)
