import base64
import io

import numpy as np
import pytest
from PIL import Image

from medpos.core.labels import ACDC, JSRT
from medpos.report.pictures import EXTRA, MISSED, draw_case
from medpos.runs.cases import CaseView


def view(truth, prediction, spacing=(1.0, 1.0, 10.0)):
    image = np.arange(truth.size, dtype=np.uint8).reshape(truth.shape)
    return CaseView("c", "s", "", spacing[: truth.ndim], image, truth, prediction)


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def colors(uri):
    """The colors that are seen at all."""
    pixels = np.asarray(opened(uri).convert("RGBA")).reshape(-1, 4)
    return {f"#{r:02X}{g:02X}{b:02X}" for r, g, b, a in pixels if a}


def test_an_image_is_upright_and_in_its_organs_colors():
    truth = np.zeros((32, 24), np.uint8)
    truth[24:30, 2:8] = 3  # right above
    found = draw_case(view(truth, np.zeros_like(truth)), JSRT)
    picture = np.asarray(opened(found.truth).convert("RGBA"))
    assert picture.shape[:2] == (24, 32)
    assert picture[4, 26, 3] > 0
    assert picture[20, 4, 3] == 0
    assert colors(found.truth) == {JSRT[3].color}
    assert colors(found.prediction) == set()
    assert colors(found.difference) == {MISSED}
    assert (found.columns, found.rows, found.middle) == (1, 1, (0, 0))


def test_differences():
    truth, prediction = np.zeros((2, 32, 32), np.uint8)
    truth[:8], prediction[24:] = 1, 1
    assert colors(draw_case(view(truth, prediction), JSRT).difference) == {MISSED, EXTRA}
    assert colors(draw_case(view(truth, truth), JSRT).difference) == set()
    # Another organ is a chequer of both.
    chequer = np.asarray(opened(draw_case(view(truth, 2 * truth), JSRT).difference))[:, :8]
    assert set(np.unique(chequer)) == {1, 2}


@pytest.mark.parametrize(("held", "shown"), [(range(10), 6), (range(2, 5), 3), ((), 6)])
def test_up_to_six_slices_that_hold_an_organ(held, shown):
    truth = np.zeros((16, 16, 10), np.uint8)
    for z in held:
        truth[4:8, 4:8, z] = 2
    found = draw_case(view(truth, truth), ACDC)
    assert len(found.slices) == shown
    assert set(found.slices) <= set(held or range(10))
    assert opened(found.image).size == (found.columns * 16, found.rows * 16)
    assert opened(found.truth).size == opened(found.image).size


def test_proportions_are_those_of_the_body():
    truth = np.zeros((64, 64), np.uint8)
    assert draw_case(view(truth, truth, (1.0, 2.0)), JSRT).ratio == 0.5
    assert draw_case(view(truth, truth, (1.0, 0.0)), JSRT).ratio == 1


def test_large_pictures_are_made_small():
    truth = np.zeros((1000, 500), np.uint8)
    assert opened(draw_case(view(truth, truth), JSRT).image).size == (256, 128)


def test_an_unknown_label_is_drawn_too():
    truth = np.full((16, 16), 9, np.uint8)
    assert colors(draw_case(view(truth, truth), JSRT).truth) == {"#FFFFFF"}
