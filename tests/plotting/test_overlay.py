import numpy as np
import pytest
from PIL import ImageColor
from scipy import ndimage

from medpos.core.labels import JSRT
from medpos.plotting.overlay import draw_page, draw_panels


@pytest.fixture
def case():
    image = np.linspace(-2, 3, 40 * 30).reshape(40, 30)  # x, y
    truth, prediction = np.zeros((2, 40, 30), np.uint8)
    truth[5:15, 10:20], prediction[25:35, 10:20] = 1, 3
    return image, truth, prediction


def test_panels(case):
    rgb = draw_panels(*case, JSRT)
    assert (rgb.shape, rgb.dtype) == ((30, 120, 3), np.uint8)
    plain, truth, prediction = np.split(rgb.astype(int), 3, axis=1)
    assert plain.min() == 0
    assert plain.max() == 255
    assert (plain == plain[..., :1]).all()
    # Rows come first: the truth's columns 5 to 14 (x) and rows 10 to 19 (y) are tinted, nothing else.
    changed = (truth != plain).any(-1)
    assert changed[10:20, 5:15].all()
    assert changed.sum() == 100
    assert tuple(truth[10, 5]) == (0x00, 0x72, 0xB2)  # the outline in full color
    assert tuple(prediction[10, 25]) == (0xD5, 0x5E, 0x00)
    assert tuple(truth[15, 10]) != tuple(truth[10, 5])
    assert ((prediction != plain).any(-1)).sum() == 100


def test_the_outline_of_an_organ_is_one_pixel_wide_toward_its_neighbors_and_the_frame():
    index = np.random.default_rng(0).integers(0, len(JSRT), (6, 5)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    index[8:11, 8:11] = 255  # no class
    image = np.full(index.shape, 0.5)
    image[0, 0], image[0, 1] = 0, 1
    plain, painted = draw_panels(image, None, index, JSRT).transpose(1, 0, 2).reshape(2, *index.shape, 3)
    assert np.array_equal((painted != plain).any(-1), (index > 0) & (index < 255))
    for label in JSRT[1:]:
        inside = index == label.index
        outline = inside & ~ndimage.binary_erosion(inside)
        full = (painted == ImageColor.getrgb(label.color)).all(-1)
        assert np.array_equal(full, outline)


def test_constant_image(case):
    image, truth, prediction = case
    assert draw_panels(np.full_like(image, 7), truth, prediction, JSRT).shape == (30, 120, 3)


def test_picture_is_large_enough_to_look_at(case):
    one = draw_panels(*case, JSRT)
    page = draw_page([one, one], JSRT, ["a line"])
    assert page.width % 120 == 0
    assert page.width >= 3 * 256
    scale = page.width // 120
    assert page.height > 2 * 30 * scale
    stack = np.asarray(page)[page.height - 2 * 30 * scale :]
    assert np.array_equal(stack[::scale, ::scale], np.concatenate([one, one]))
    text = np.asarray(page)[: page.height - 2 * 30 * scale]
    assert {tuple(int(label.color[n : n + 2], 16) for n in (1, 3, 5)) for label in JSRT[1:]} <= {
        tuple(map(int, pixel)) for pixel in text.reshape(-1, 3)
    }
