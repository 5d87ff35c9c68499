"""Test what padding does to a constant image in VGG-16."""

import itertools

import pytest
import torch

from medpos.core.errors import InputError
from medpos.explain.padding import MODES, WITHOUT, build_vgg16, draw_padding, measure_padding
from medpos.networks import FCN32s

NARROW = 1 / 64


@pytest.fixture(scope="module")
def effects():
    return measure_padding(width=NARROW)


def sides(effects, mode):
    return [len(effect.change) for effect in effects if effect.mode == mode]


def test_the_network_has_the_convolutions_of_vgg16():
    """Count by hand: 9 weights per pair of channels, and one bias per channel."""
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    count = sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    with torch.device("meta"):
        own, fcn = build_vgg16("zeros"), FCN32s(3, 21)
    assert sum(p.numel() for p in own.parameters()) == count == 14_714_688
    assert count + sum(p.numel() for n, p in fcn.named_parameters() if n[0] in "fs") == 134_346_581


def test_pool5_has_7_px_with_padding_and_1_px_without(effects):
    for mode in MODES:
        assert sides(effects, mode) == ([110, 53, 23, 8, 1] if mode == WITHOUT else [112, 56, 28, 14, 7])


def test_only_zeros_make_edges_which_grow_into_the_image(effects):
    changed = {mode: [effect.changed for effect in effects if effect.mode == mode] for mode in MODES}
    zeros = changed.pop("zeros")
    assert zeros == sorted(zeros)
    assert 0 < zeros[0] < 0.2
    assert zeros[-1] > 0.9
    assert set().union(*changed.values()) == {0.0}


def test_all_paddings_have_the_same_weights(effects):
    """Expect the same features away from the border, and the global random state untouched."""
    before = torch.get_rng_state()
    again = measure_padding(["zeros"], width=NARROW)
    assert torch.equal(torch.get_rng_state(), before)
    assert all((one.change == two.change).all() for one, two in zip(again, effects, strict=False))
    assert (measure_padding(["zeros"], width=NARROW, seed=1)[-1].change != again[-1].change).any()


def test_the_picture_has_a_row_for_each_padding_and_a_column_for_each_pooling(effects):
    drawing = draw_padding(effects, 224)
    titles = [axes.get_title() for axes in drawing.figure.axes]
    assert titles[:5] == ["pool1, 112 x 112", "pool2, 56 x 56", "pool3, 28 x 28", "pool4, 14 x 14", "pool5, 7 x 7"]
    assert titles[20:25][-1] == "pool5, 1 x 1"
    assert "none: 1 x 1, 0% changed" in drawing.alt


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 100}, "conv5_1 gets 1 x 1 px with padding none, less than it needs"),
        ({"modes": ["mirror"]}, "expected one of zeros, reflect, replicate, circular, none, got 'mirror'"),
        ({"width": 0}, "width: expected a factor above 0"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        measure_padding(**{"width": NARROW, **options})
