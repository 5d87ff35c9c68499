import pytest
import torch

from medpos.core.errors import InputError
from medpos.core.labels import ACDC, JSRT
from medpos.predict.views import SHIFT, make_views, parse_kinds

SHAPES = [(1, 20, 30), (2, 20, 30, 3)]


@pytest.mark.parametrize("text", ["flips", "flip,", "flip,flip", "flip, noise", ","])
def test_unknown_kinds_are_refused(text):
    with pytest.raises(InputError, match="--tta: expected flip, shift or noise"):
        parse_kinds(text)


def test_numbers_of_views():
    assert parse_kinds("") == ()
    assert len(make_views((), ACDC)) == 1
    assert len(make_views(parse_kinds("noise,flip,shift"), ACDC)) == 8


@pytest.mark.parametrize("shape", SHAPES)
def test_undone_the_inside_is_as_before(shape):
    image = torch.rand((len(ACDC), *shape[1:]))
    for view in make_views(("flip", "shift"), ACDC):
        found = view.undo(view.change(image))
        inside = (slice(None), slice(SHIFT, -SHIFT), slice(SHIFT, -SHIFT))
        assert torch.equal(found[inside], image[inside])


@pytest.mark.parametrize("shape", SHAPES)
def test_shifts_repeat_the_border(shape):
    image = torch.rand(shape)
    right, left, down, up = (view.change(image) for view in make_views(("shift",), ACDC)[1:])
    assert torch.equal(right[:, SHIFT:], image[:, :-SHIFT])
    assert torch.equal(right[:, :SHIFT], image[:, :1].expand_as(right[:, :SHIFT]))
    assert torch.equal(left[:, :-SHIFT], image[:, SHIFT:])
    assert torch.equal(down[:, :, SHIFT:], image[:, :, :-SHIFT])
    assert torch.equal(up[:, :, -1], image[:, :, -1])


def test_sides_change_places_where_the_image_is_mirrored():
    probabilities = torch.rand(4, 5, 6)
    flip = make_views(("flip",), JSRT)[1]
    assert torch.equal(flip.undo(probabilities), probabilities.flip(1)[[0, 2, 1, 3]])


def test_noise_is_the_same_for_every_part_of_a_volume():
    volume = torch.rand(1, 20, 30, 6)
    one, other = (view.change for view in make_views(("noise",), ACDC)[1:])
    assert torch.equal(one(volume)[..., 2:4], one(volume[..., 2:4]))
    assert torch.equal(one(volume), one(volume))
    assert not torch.equal(one(volume), other(volume))
    assert (one(volume) - volume).std() == pytest.approx(0.02, rel=0.1)
