import base64
import io
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medpos.report.pictures import SIZES, Size, choose_size, draw_case
from medpos.runs.cases import CaseView

LARGE = Size(256, 6)


def view(truth, prediction, spacing=(1.0, 1.0, 10.0)):
    image = np.arange(truth.size, dtype=np.uint8).reshape(truth.shape)
    return CaseView("c", "s", "", spacing[: truth.ndim], image, truth, prediction)


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def maps(found):
    """Return truth and prediction [slices, Y, X] as the page reads them."""
    both = np.frombuffer(zlib.decompress(base64.b64decode(found.labels)), np.uint8)
    truth, bits = both.reshape(2, max(len(found.slices), 1), found.height, found.width)
    return truth, truth ^ bits


def test_an_image_is_upright():
    truth = np.zeros((32, 24), np.uint8)
    truth[24:30, 2:8] = 3  # right above
    found = draw_case(view(truth, np.zeros_like(truth)), LARGE)
    assert (found.width, found.height, found.slices) == (32, 24, ())
    assert np.array_equal(maps(found)[0][0], truth.T)
    assert not maps(found)[1].any()
    assert opened(found.image).size == (32, 24)
    assert found.entropy == ""


def test_label_maps_lose_nothing():
    truth, prediction = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 4), np.uint8)
    found = draw_case(view(truth, prediction), LARGE)
    assert found.slices == (1, 2, 3, 4)
    for seen, true in zip(maps(found), (truth, prediction), strict=True):
        assert np.array_equal(seen, true.transpose(2, 1, 0))


@pytest.mark.parametrize(("held", "shown"), [(range(10), 6), (range(2, 5), 3), ((), 6)])
def test_slices_are_spread_over_those_that_hold_an_organ(held, shown):
    truth = np.zeros((16, 16, 10), np.uint8)
    for z in held:
        truth[4:8, 4:8, z] = 2
    found = draw_case(view(truth, truth), LARGE)
    assert len(found.slices) == shown
    assert {z - 1 for z in found.slices} <= set(held or range(10))
    assert opened(found.image).size == (16, shown * 16)


def test_the_gray_values_and_the_entropy_stay_close():
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    image = np.broadcast_to(ramp[:, None], (64, 64)).copy()
    flat = np.zeros_like(image)
    found = draw_case(replace(view(flat, flat), image=image, entropy=image.T.copy()), LARGE)
    for uri, true in ((found.image, image.T), (found.entropy, image)):
        seen = np.asarray(opened(uri).convert("L")).astype(int)
        assert np.abs(seen - true).mean() < 4


def test_proportions_are_those_of_the_body():
    truth = np.zeros((64, 64), np.uint8)
    found = draw_case(view(truth, truth, (1.0, 2.0)), LARGE)
    assert (found.width, found.height) == (32, 64)
    found = draw_case(view(truth, truth, (1.0, 0.0)), LARGE)
    assert (found.width, found.height) == (64, 64)


def test_large_pictures_are_made_small():
    truth = np.zeros((1000, 500), np.uint8)
    assert opened(draw_case(view(truth, truth), LARGE).image).size == (256, 128)


def test_the_size_follows_from_the_bytes_of_a_sample():
    truth = np.zeros((320, 320, 12), np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, truth.shape, np.uint8)
    views = [replace(view(truth, truth), image=noise)] * 2
    sizes = [draw_case(views[0], size).bytes for size in SIZES]
    assert sizes == sorted(sizes, reverse=True)
    assert choose_size(views, sizes[0]) is SIZES[0]
    assert choose_size(views, sizes[2]) is SIZES[2]
    assert choose_size(views, 1) is SIZES[-1]
    assert choose_size([], 0) is SIZES[0]
