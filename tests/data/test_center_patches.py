"""Test the patches with the labels of their center pixels."""

from collections import Counter

import numpy as np
import pytest
import torch

from medpos.core.errors import InputError
from medpos.data import CenterPatches


class Images(list):
    """Two images [1, 8, 6] of unique values with labels: class 1 has one pixel, class 2 a column, one is ignored."""

    epoch = 0

    def __init__(self):
        values = torch.arange(96.0).reshape(2, 1, 8, 6)
        labels = torch.zeros(2, 8, 6, dtype=torch.uint8)
        labels[0, 0, 5] = 1
        labels[:, 3] = 2
        labels[1, 7, 0] = 255
        super().__init__(
            {"image": v, "label": y, "case": n} for n, (v, y) in enumerate(zip(values, labels, strict=True))
        )


def test_the_label_is_that_of_the_center_pixel_and_the_border_is_repeated():
    images = Images()
    for item in CenterPatches(images, 3, 200):
        whole, center = images[item["case"]], float(item["image"][0, 1, 1])
        [[x, y]] = (whole["image"][0] == center).nonzero().tolist()
        assert item["label"].tolist() == [[whole["label"][x, y]]]
        columns, rows = (np.arange(at - 1, at + 2).clip(0, n - 1) for at, n in ((x, 8), (y, 6)))
        assert torch.equal(item["image"][0], whole["image"][0][columns][:, rows])


@pytest.mark.parametrize(
    ("balanced", "shares"), [(True, {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}), (False, {0: 82 / 95, 2: 12 / 95})]
)
def test_rare_classes_are_resampled(balanced, shares):
    """Of 95 pixels with a label one is of class 1; without resampling it is hardly ever a center."""
    counts = Counter(int(item["label"]) for item in CenterPatches(Images(), 3, 3000, balanced))
    for label, share in shares.items():
        assert counts[label] / 3000 == pytest.approx(share, abs=0.03)
    assert 255 not in counts


def test_patches_depend_on_seed_epoch_and_number_alone():
    def drawn(epoch=0, **options):
        patches = CenterPatches(Images(), 3, 20, **options)
        patches.epoch = epoch
        return [item["image"].sum().item() for item in patches]

    assert drawn() == drawn()
    assert drawn() != drawn(epoch=1)
    assert drawn() != drawn(seed=1)


@pytest.mark.parametrize("options", [{"size": 32}, {"samples": 0}])
def test_refusals(options):
    with pytest.raises(InputError, match="expected an odd size and samples of at least 1"):
        CenterPatches(Images(), **options)
