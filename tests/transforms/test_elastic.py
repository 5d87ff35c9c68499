"""Test the elastic deformation of U-Net 2015."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from medpos.core.errors import InputError
from medpos.transforms import RandElastic
from medpos.transforms.spatial.elastic import elastic_field, warp


def cubic_convolution(values, points):
    """Interpolate along one axis by Keys' bicubic kernel with a = -3/4; the end values are repeated."""
    result = []
    for point in points:
        first = int(np.floor(point)) - 1
        total = 0.0
        for node in range(first, first + 4):
            d = abs(point - node)
            inner, outer = 1.25 * d**3 - 2.25 * d**2 + 1, -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
            total = total + (inner if d <= 1 else outer) * values[min(max(node, 0), len(values) - 1)]
        result.append(total)
    return np.array(result)


@pytest.fixture
def vectors():
    return torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 10


@pytest.fixture
def image():
    return torch.rand(2, 31, 22, generator=torch.Generator().manual_seed(1))


class TestField:
    def test_grid_spans_the_image(self, vectors):
        field = elastic_field(vectors, (41, 21))
        torch.testing.assert_close(field[:, ::20, ::10], vectors)

    def test_bicubic_in_between(self, vectors):
        field = elastic_field(vectors, (41, 21)).numpy()
        for component, given in zip(field, vectors.numpy(), strict=True):
            rows = cubic_convolution(given, np.linspace(0, 2, 41))
            wanted = cubic_convolution(rows.T, np.linspace(0, 2, 21)).T
            np.testing.assert_allclose(component, wanted, atol=1e-9)


class TestWarp:
    @pytest.mark.parametrize(("mode", "order"), [("bilinear", 1), ("nearest", 0)])
    def test_equals_scipy_with_mirrored_border(self, image, mode, order):
        field = 8 * torch.randn(2, 31, 22, generator=torch.Generator().manual_seed(2))
        found = warp(image, field, mode)
        positions = np.mgrid[:31, :22] + field.numpy()
        for channel, plane in zip(found, image, strict=True):
            wanted = ndimage.map_coordinates(plane.numpy(), positions, order=order, mode="mirror")
            np.testing.assert_allclose(channel, wanted, atol=1e-4)

    def test_shift_by_whole_pixels(self, image):
        field = torch.zeros(2, 31, 22)
        field[0], field[1] = 3, -2
        torch.testing.assert_close(warp(image, field)[:, :28, 2:], image[:, 3:, :20], atol=1e-5, rtol=0)

    def test_bicubic(self, image):
        field = torch.full((2, 31, 22), 0.5)
        found = warp(image, field, "bicubic")[0, 5:-5, 5:-5]
        rows = cubic_convolution(image[0].double().numpy(), np.arange(31) + 0.5)
        wanted = cubic_convolution(rows.T, np.arange(22) + 0.5).T
        np.testing.assert_allclose(found, wanted[5:-5, 5:-5], atol=1e-4)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
    def test_type_and_labels_stay(self, image, dtype):
        label = (300 * image[:1] if dtype == torch.int32 else 5 * image[:1]).to(dtype)
        found = warp(label, 5 * torch.randn(2, 31, 22), "nearest")
        assert found.dtype == dtype
        assert set(found.unique().tolist()) <= set(label.unique().tolist())


class TestRandElastic:
    def test_vectors_are_normal_with_10_px(self, image):
        transform = RandElastic(keys="image", mode="bilinear").set_random_state(0)
        drawn = []
        for _ in range(400):
            transform.randomize({"image": image})
            field = transform._field
            assert field.shape == (2, 31, 22)
            drawn.append(field[:, [0, 0, -1, -1], [0, -1, 0, -1]])  # the corners are points of the grid
        drawn = torch.stack(drawn)
        assert drawn.mean().item() == pytest.approx(0, abs=0.6)
        assert drawn.std().item() == pytest.approx(10, abs=0.5)
        assert np.abs(np.corrcoef(drawn.flatten(1).T) - np.eye(8)).max() < 0.25  # each vector by itself

    def test_three_points_per_side(self, image):
        transform = RandElastic(keys="image", mode="bilinear").set_random_state(0)
        transform.randomize({"image": image[:, :, :21]})
        field = transform._field.double()
        torch.testing.assert_close(field, elastic_field(field[:, ::15, ::10], (31, 21)), atol=1e-4, rtol=0)
        assert not torch.allclose(field, elastic_field(field[:, ::30, ::20], (31, 21)), atol=1)

    def test_all_entries_by_one_field_each_in_its_mode(self, image):
        plane = image[:1]
        item = {"image": image, "label": (9 * plane).to(torch.uint8), "weight": plane}
        transform = RandElastic().set_random_state(0)
        found = transform(item)
        field = transform._field
        assert torch.equal(found["image"], warp(image, field, "bilinear"))
        assert torch.equal(found["weight"], warp(plane, field, "bilinear"))
        assert torch.equal(found["label"], warp(item["label"], field, "nearest"))
        assert not torch.equal(found["image"], image)

    def test_zero_strength_changes_nothing(self, image):
        assert torch.equal(RandElastic("image", "bilinear", sigma=0)({"image": image})["image"], image)

    def test_bad_arguments(self):
        with pytest.raises(InputError, match="got sigma -1"):
            RandElastic(sigma=-1)
        with pytest.raises(InputError, match="grid 1"):
            RandElastic(grid=1)
        with pytest.raises(InputError, match="mode: expected one value, or 3, one for each key, got 2"):
            RandElastic(mode=["bilinear", "nearest"])
