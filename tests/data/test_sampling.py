"""Test the items of a training: the same in every run with one seed, different in every epoch."""

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandFlipd, RandGaussianNoised

from medpos.core.errors import InputError
from medpos.data.cached import CachedDataset
from medpos.data.folder import DataFolder
from medpos.data.patches import Patches, starts
from medpos.data.sampler import EpochSampler
from medpos.transforms.spatial.neighbors import slice_with_neighbors


def decode(files):
    """Make gray values that encode their position: column + 100 row + 10,000 slice."""
    x, y, z = torch.meshgrid(torch.arange(50.0), torch.arange(46.0), torch.arange(4.0), indexing="ij")
    image = (x + 100 * y + 10_000 * z)[None]
    return {"image": image, "label": (image % 3).to(torch.uint8), "weight": image / 2, "other": image}


@pytest.fixture
def volumes(prepared, monkeypatch):
    """Build a data set of the prepared hearts' cases with decode() in place of their files."""
    cases = DataFolder(prepared["acdc"]).cases("training")
    monkeypatch.setattr(CachedDataset, "_decode", lambda self, case: {**self.decode(case), "case": case["case"]})
    return lambda transform=dict, **settings: CachedDataset(cases, decode, transform, slices=True, **settings)


def test_random_transforms_depend_on_seed_epoch_and_item(volumes):
    chain = Compose([RandFlipd("image", prob=0.5, spatial_axis=0), RandGaussianNoised("image", prob=1.0, std=5.0)])

    def served(seed, epoch, items=(0, 1)):
        dataset = volumes(chain, seed=seed)
        dataset.epoch = epoch
        return torch.stack([dataset[item]["image"] for item in items])

    first = served(0, 1)
    assert torch.equal(first, served(0, 1))
    assert torch.equal(first.flip(0), served(0, 1, (1, 0)))
    assert not torch.equal(first, served(0, 2))
    assert not torch.equal(first, served(1, 1))
    assert not torch.equal(first[0] - decode({})["image"][..., 0], first[1] - decode({})["image"][..., 1])


def test_repeats_draw_differently_from_the_same_items(volumes):
    dataset = volumes(Compose([RandGaussianNoised("image", prob=1.0)]), repeats=3)
    once = len(dataset) // 3
    assert len(list(dataset)) == 3 * once  # a loop over it ends
    assert dataset[0]["case"] == dataset[once]["case"] == dataset[2 * once]["case"]
    assert not torch.equal(dataset[0]["image"], dataset[once]["image"])


def test_slices_have_weights_and_neighbors(volumes):
    dataset = volumes(neighbours=1)
    above, here, below = (dataset[n]["image"] for n in range(3))
    assert here.shape == (3, 50, 46)
    assert torch.equal(here, torch.stack([above[1], decode({})["image"][0, ..., 1], below[1]]))
    assert torch.equal(above[0], above[1])  # the first slice stands in for the one before it
    assert torch.equal(dataset[1]["weight"], decode({})["weight"][..., 1])
    volume = torch.arange(24.0).reshape(2, 1, 3, 4)
    assert slice_with_neighbors(volume, 3, 2)[:, 0, 0].tolist() == [1, 13, 2, 14, 3, 15, 3, 15, 3, 15]


def test_sampler_sets_the_epoch_and_draws_a_subset(volumes):
    dataset = volumes()
    sampler = EpochSampler(dataset, seed=3, samples=5)
    sampler.set_epoch(2)
    drawn = list(sampler)
    assert dataset.epoch == 2
    assert len(drawn) == len(sampler) == len(set(drawn)) == 5
    sampler.set_epoch(3)
    assert list(sampler) != drawn
    assert len(list(EpochSampler(dataset, samples=10_000))) == len(dataset)


def test_counts_of_classes(volumes):
    counts = volumes().class_counts(2)
    labels = decode({})["label"]
    assert counts[0].tolist() == [int((labels == n).sum()) for n in range(2)]


@pytest.mark.parametrize(("length", "expected"), [(40, [0]), (41, [0, 1]), (60, [0, 10, 20]), (63, [0, 10, 20, 23])])
def test_the_last_patch_ends_with_the_axis(length, expected):
    assert starts(length, 40, 10) == expected


def test_patches_cover_every_slice(volumes):
    patches = Patches(volumes(), 40, 10)
    per_slice = len(starts(50, 40, 10)) * len(starts(46, 40, 10))
    assert len(patches) == per_slice * len(patches.dataset)
    corners = {tuple(np.divmod(int(patches[n]["image"][0, 0, 0]), 100)[::-1]) for n in range(per_slice)}
    assert corners == {(x, y) for x in (0, 10) for y in (0, 6)}
    item = patches[per_slice - 1]
    assert item["image"].shape == (1, 40, 40)
    assert torch.equal(item["label"], (item["image"] % 3).to(torch.uint8))
    assert int(patches[per_slice]["image"][0, 0, 0]) == 10_000  # the next slice
    patches.epoch = 7
    assert patches.dataset.epoch == 7
    with pytest.raises(InputError, match="patch size 60 px exceeds the slice"):
        len(Patches(volumes(), 60, 10))
