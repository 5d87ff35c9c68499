"""Check the votes of patches against loops in NumPy."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from medpos.core.errors import InputError
from medpos.data.patches import starts
from medpos.inferers import VotingInferer
from medpos.inferers.voting import _log_shares
from medpos.transforms import stack_neighbors


@pytest.fixture(scope="module")
def network():
    """Build a network with zero padding, so that a pixel's class depends on the patch."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 6, 5, padding=2), nn.Tanh(), nn.Conv2d(6, 4, 5, padding=2)).eval()


def by_loops(volume, network, size, step, classes=4):
    """Count votes [classes, X, Y, Z] for a volume [X, Y, Z], patch after patch."""
    x, y, z = volume.shape
    padded = np.pad(volume, [(0, max(size - x, 0)), (0, max(size - y, 0)), (0, 0)], mode="reflect")
    votes = np.zeros((classes, *padded.shape), int)
    firsts = [sorted({*range(0, side - size + 1, step), side - size}) for side in padded.shape[:2]]
    for k in range(z):
        stack = padded[:, :, [max(k - 1, 0), k, min(k + 1, z - 1)]].transpose(2, 0, 1)
        for i in firsts[0]:
            for j in firsts[1]:
                patch = torch.from_numpy(stack[None, :, i : i + size, j : j + size].copy())
                chosen = network(patch)[0].argmax(0).numpy()
                for label in range(classes):
                    votes[label, i : i + size, j : j + size, k] += chosen == label
    return votes[:, :x, :y]


@pytest.mark.parametrize(
    "shape",
    [(25, 14, 3), (24, 16, 1), (8, 8, 2), (5, 30, 2), (3, 4, 2)],
    ids=["last patches", "divides", "one patch", "lower than a patch", "much smaller"],
)
@pytest.mark.parametrize("batch", [7, 64])
def test_equals_loops(network, shape, batch):
    volumes = torch.randn(2, 1, *shape)
    with torch.no_grad():
        found = VotingInferer(8, 3, batch=batch)(volumes, network)
        for one, volume in zip(found, volumes, strict=True):
            votes = by_loops(volume[0].numpy(), network, 8, 3)
            np.testing.assert_allclose(one.exp(), votes / votes.sum(0), atol=2e-6)
            np.testing.assert_array_equal(one.argmax(0), votes.argmax(0))  # NumPy's is the first of equal ones
    assert found.shape == (2, 4, *shape)
    assert found.dtype == torch.float32
    assert torch.allclose(found.softmax(1), found.exp(), atol=1e-5)


@pytest.mark.parametrize(
    ("length", "wanted"),
    [(256, [*range(0, 211, 10), 216]), (128, [*range(0, 81, 10), 88]), (120, [*range(0, 81, 10)]), (40, [0])],
)
def test_last_patch_ends_with_the_image(length, wanted):
    """Expect the paper's 22 and 9 patches at a step of 10 px, and one more on each axis."""
    assert starts(length, 40, 10) == wanted


def test_majority_not_mean():
    """Let two patches be slightly for 0 and one strongly for 1: the mean is 1, the vote is 0."""

    def network(batch):
        sure = batch[:, :1] > 2
        return torch.cat([torch.where(sure, -9.0, 0.6), torch.where(sure, 9.0, 0.4)], dim=1)

    class Marked(VotingInferer):
        """Give one patch of three another input."""

        def _unfolded(self, volumes):
            patches = super()._unfolded(volumes)
            return patches if volumes.dtype == torch.int64 else patches.clone().index_fill_(2, torch.tensor(2), 5.0)

    found = Marked(4, 1, neighbours=0)(torch.zeros(1, 1, 6, 4), network)
    shares = found[0, 1, :, 0].exp().numpy()
    np.testing.assert_allclose(shares, [0, 0, 1 / 3, 1 / 3, 1 / 2, 1], atol=1e-5)
    assert found.argmax(1)[0, :, 0].tolist() == [0, 0, 0, 0, 0, 1]


def test_ties_go_to_the_lowest_label():
    """Expect the winner to have the single largest value, also after a softmax, for any rule of argmax."""
    votes = torch.tensor([[0, 2, 2, 0], [3, 1, 1, 3], [1, 1, 1, 1], [0, 0, 5, 5], [1, 7, 8, 0]], dtype=torch.int32)
    shares = _log_shares(votes[..., None])[..., 0]
    for values in (shares, shares.softmax(1)):
        (best, second), (winner, _) = (part.unbind(1) for part in values.topk(2))
        assert winner.tolist() == [1, 0, 0, 2, 2]
        assert bool((best > second).all())
    torch.testing.assert_close(shares.exp(), votes / votes.sum(1, keepdim=True), rtol=0, atol=2e-6)


def test_order_of_the_neighbors():
    volume = torch.arange(4.0).expand(2, 5, 6, 4).clone()
    volume[1] += 10
    stacked = stack_neighbors(volume)
    assert stacked.shape == (6, 5, 6, 4)
    assert stacked[:, 0, 0].tolist() == [
        [0, 0, 1, 2],  # above: the one before; the first is repeated
        [10, 10, 11, 12],
        [0, 1, 2, 3],
        [10, 11, 12, 13],
        [1, 2, 3, 3],  # below: the one after; the last is repeated
        [11, 12, 13, 13],
    ]
    assert torch.equal(stack_neighbors(volume[None])[0], stacked)
    assert torch.equal(stack_neighbors(volume, 0), volume)
    assert stack_neighbors(volume, 2)[::2, 0, 0, 1].tolist() == [0, 0, 1, 2, 3]


def test_the_network_sees_the_neighbors():
    seen = []

    def network(batch):
        seen.append(batch[:, :, 0, 0].tolist())
        return torch.cat([batch[:, :1], batch[:, 1:2]], dim=1)

    VotingInferer(4, 4)(torch.arange(3.0).expand(1, 1, 4, 4, 3), network)
    assert seen == [[[0, 0, 1], [0, 1, 2], [1, 2, 2]]]


def test_one_slice_is_a_volume_of_one(network):
    image = torch.randn(2, 1, 20, 11)
    with torch.no_grad():
        found, wanted = (VotingInferer(8, 3)(given, network) for given in (image, image[..., None]))
    assert found.shape == (2, 4, 20, 11)
    assert torch.equal(found, wanted[..., 0])


def test_the_network_gets_plain_tensors(network):
    assert type(VotingInferer(8, 3)(MetaTensor(torch.randn(1, 1, 9, 9, 2)), network)) is torch.Tensor


@pytest.mark.parametrize("wrong", [{"step": 0}, {"step": 41}, {"neighbours": -1}, {"batch": 0}])
def test_refused_arguments(wrong):
    with pytest.raises(InputError, match="expected 1 <= step <= size"):
        VotingInferer(**wrong)


def test_refused_inputs():
    with pytest.raises(InputError, match="expected a channel per class"):
        VotingInferer(4, 4)(torch.zeros(1, 1, 4, 4), lambda batch: batch[:, :1])
    with pytest.raises(InputError, match=r"\[N, C, X, Y\] or \[N, C, X, Y, Z\]"):
        VotingInferer()(torch.zeros(4, 4, 4), nn.Identity())
