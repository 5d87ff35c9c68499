"""Check the fully connected CRF against exact mean field, by brute force over all pairs of pixels."""

import sys

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED, JSRT, Label
from medpos.inferers import (
    BackgroundInferer,
    CRFInferer,
    DenseCRF,
    FastInferer,
    crf_cases,
    describe_network_input,
    search_crf,
)
from medpos.inferers.crf import PAPERS

pytest.importorskip("pydensecrf", reason="pip install 'medpos[crf]'")

# The lattice of pydensecrf approximates the Gaussians: it was found to differ by up to 0.017 (gray) and 0.023 (color),
# by 0.003 and 0.004 in the mean.
LARGEST, MEAN = 0.03, 0.005
POINTS = ((3, 3), (9, 9), (10, 1), (6, 6))
# Foreground pixels, and its probability at the points, after so many iterations.
ORACLE = {
    1: (37, (0.346427, 0.639970, 0.696439, 0.844692)),
    5: (36, None),
    10: (36, (0.587332, 0.175278, 0.236469, 0.966387)),
}


def scene():
    """Draw a bright square; its probabilities are a pixel too far down and right, and high at an isolated pixel."""
    image = torch.zeros(1, 12, 12)
    image[0, 3:9, 3:9] = 200 / 255
    foreground = torch.full((12, 12), 0.35)
    foreground[4:10, 4:10] = 0.7
    foreground[10, 1] = 0.8
    return torch.stack([1 - foreground, foreground]), image


def small(iterations=10):
    return DenseCRF(w_pos=1, s_pos=1, w_bi=2, s_xy=4, s_rgb=20, iterations=iterations)


def by_brute_force(probabilities, image, crf):
    """Compute mean field with the exact kernels in double precision."""
    beliefs = probabilities.double().numpy().reshape(len(probabilities), -1)
    places = np.indices(image.shape[1:]).reshape(2, -1).T.astype(float)
    colors = 255 * image.double().numpy().reshape(len(image), -1).T
    colors = np.broadcast_to(colors, (len(colors), 3))

    def squares(values, sigma):
        return ((values[:, None] - values[None]) ** 2).sum(-1) / (2 * sigma**2)

    def normalized(exponent):
        kernel = np.exp(-exponent)
        roots = np.sqrt(kernel.sum(1))
        return kernel / roots[:, None] / roots[None]

    kernel = crf.w_pos * normalized(squares(places, crf.s_pos))
    kernel += crf.w_bi * normalized(squares(places, crf.s_xy) + squares(colors, crf.s_rgb))
    unary = np.log(beliefs)
    for _ in range(crf.iterations):
        beliefs = np.exp(unary + beliefs @ kernel)
        beliefs /= beliefs.sum(0)
    return beliefs.reshape(probabilities.shape)


@pytest.mark.parametrize("iterations", ORACLE)
def test_brute_force_is_the_oracle(iterations):
    count, values = ORACLE[iterations]
    found = by_brute_force(*scene(), small(iterations))[1]
    assert (found > 0.5).sum() == count
    if values:
        assert [found[point] for point in POINTS] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("iterations", ORACLE)
def test_pydensecrf_is_the_oracle_within_its_lattice(iterations, channels):
    probabilities, image = scene()
    found = small(iterations)(probabilities, image.expand(channels, -1, -1)).double()
    difference = (found - torch.from_numpy(by_brute_force(probabilities, image, small(iterations)))).abs()
    assert difference.max() < LARGEST
    assert difference.mean() < MEAN
    assert (found[1] > 0.5).sum() == ORACLE[iterations][0]
    torch.testing.assert_close(found.sum(0), torch.ones(12, 12).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "change", [{"w_pos": 0}, {"s_pos": 3}, {"w_bi": 0}, {"s_xy": 1}, {"s_rgb": 1000}, {"w_bi": 4}, {"iterations": 1}]
)
def test_every_parameter_has_an_effect(change):
    """Check that a parameter changes the result as with exact kernels, and by more than the lattice's error."""
    probabilities, image = scene()
    crf = DenseCRF(**{"w_pos": 1, "s_pos": 1, "w_bi": 2, "s_xy": 4, "s_rgb": 20, **change})
    found = crf(probabilities, image).double()
    assert (found - by_brute_force(probabilities, image, crf)).abs().mean() < 3 * MEAN
    assert (found - small()(probabilities, image)).abs().max() > 2 * LARGEST


def test_neither_axes_nor_classes_are_mixed_up():
    torch.manual_seed(0)
    image, probabilities = torch.zeros(3, 9, 14), torch.randn(4, 9, 14).softmax(0)
    image[:, 2:5, 3:12], image[0, 6:] = 0.7, 0.4
    crf = DenseCRF(1, 2, 3, 5, 60, iterations=1)
    found = crf(probabilities, image)
    exact = torch.from_numpy(by_brute_force(probabilities, image, crf))
    assert (found - exact).abs().mean() < MEAN
    turned = crf(probabilities, image.mT.reshape(3, 9, 14))
    assert (turned - exact).abs().mean() > 2 * MEAN
    torch.testing.assert_close(crf(probabilities[[2, 0, 3, 1]], image), found[[2, 0, 3, 1]], rtol=0, atol=1e-5)


def test_the_papers_widths_are_those_of_colors_up_to_255():
    image = torch.tensor([[[0.0, 0.2]]])
    for channels in (1, 3):
        place, both = small().features(image.expand(channels, -1, -1))
        squares = [((features[:, 0] - features[:, 1]) ** 2).sum() for features in (place, both)]
        assert squares == pytest.approx([1, 1 / 4**2 + 3 * (51 / 20) ** 2])


def test_the_papers_parameters():
    crf = DenseCRF.of_paper("v1_large_fov")
    assert (crf.w_bi, crf.s_xy, crf.s_rgb, crf.w_pos, crf.s_pos, crf.iterations) == (4, 49, 5, 3, 3, 10)
    crf = DenseCRF.of_paper("v2_vgg")
    assert (crf.w_bi, crf.s_xy, crf.s_rgb, crf.w_pos, crf.s_pos) == (4, 65, 3, 2, 2)
    crf = DenseCRF.of_paper("v2_resnet")
    assert (crf.w_bi, crf.s_xy, crf.s_rgb, crf.w_pos, crf.s_pos) == (4, 67, 3, 3, 1)
    with pytest.raises(InputError, match="crf_name: expected one of v1_large_fov, v2_vgg, v2_resnet, got 'v3'"):
        DenseCRF.of_paper("v3")


def test_impossible_classes_become_very_unlikely():
    foreground = torch.full((9, 9), 0.9)
    foreground[4, 4] = 0
    crf = DenseCRF(0, 1, 300, 4, 20)
    assert crf(torch.stack([1 - foreground, foreground]), torch.zeros(1, 9, 9))[1, 4, 4] > 0.5


def test_impossible_classes_stay_finite():
    probabilities, image = scene()
    probabilities = torch.cat([torch.zeros(1, 12, 12), probabilities])
    found = small()(probabilities, image)
    assert found.isfinite().all()
    assert found[0].max() < 1e-30
    torch.testing.assert_close(found[1:], small()(probabilities[1:], image), rtol=0, atol=1e-5)


class TestInferer:
    MEAN, STD = (0.2, 0.3, 0.1), (0.5, 0.25, 2.0)

    def logits(self, *channels):
        """Return a network that gives the scene's logits, and the list of its inputs."""
        seen = []

        def network(inputs):
            seen.append(inputs)
            return torch.cat([scene()[0].log()[list(channels or (0, 1))][None] + 3] * len(inputs))

        return network, seen

    def image(self):
        return torch.cat([scene()[1] * share for share in (1.0, 0.5, 0.8)])

    def test_it_undoes_the_standardization(self):
        image = self.image()
        mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (self.MEAN, self.STD))
        inputs = torch.stack([(image - mean) / std, (image.roll(2, 1) - mean) / std])
        network, _ = self.logits()
        found = CRFInferer(FastInferer(SimpleInferer()), small(), self.MEAN, self.STD)(inputs, network)
        for one, seen in zip(found, (image, image.roll(2, 1)), strict=True):
            torch.testing.assert_close(one.exp(), small()(scene()[0], seen), rtol=0, atol=1e-4)
        torch.testing.assert_close(found.softmax(1), found.exp(), rtol=0, atol=1e-6)
        assert not torch.allclose(found[0], found[1], atol=0.1)

    def test_each_images_own_range_where_none_is_known(self):
        """Use gray images with position channels; the bright square is the maximum, so its gray value becomes 255."""
        network, seen = self.logits()
        inputs = torch.cat([scene()[1] * 7 - 3, torch.rand(2, 12, 12)])[None]
        found = CRFInferer(SimpleInferer(), small(), channels=1)(inputs, network)
        assert seen[0].shape[1] == 3
        torch.testing.assert_close(found[0].exp(), small()(scene()[0], scene()[1] * 255 / 200), rtol=0, atol=1e-4)
        empty = CRFInferer(SimpleInferer(), small(), channels=1)(torch.full((1, 1, 12, 12), 5.0), network)
        torch.testing.assert_close(empty[0].exp(), small()(scene()[0], torch.zeros(1, 12, 12)), rtol=0, atol=1e-4)

    def test_volumes_slice_by_slice(self):
        volume = torch.stack([scene()[1], scene()[1].flip(1)], dim=3)[None]
        probabilities = torch.stack([scene()[0], scene()[0].flip(0)], dim=3)
        found = CRFInferer(SimpleInferer(), small(), 0.0, 1.0, channels=1)(volume, lambda _: probabilities.log()[None])
        assert found.shape == (1, 2, 12, 12, 2)
        for z in range(2):
            wanted = small()(probabilities[..., z], volume[0, ..., z])
            torch.testing.assert_close(found[0, ..., z].exp(), wanted, rtol=0, atol=1e-5)

    def test_a_sigmoid_with_its_background(self):
        probabilities, image = scene()
        inferer = CRFInferer(BackgroundInferer(SimpleInferer()), small(), 0.0, 1.0, channels=1)
        found = inferer(image[None], lambda _: probabilities[1].logit()[None, None])
        torch.testing.assert_close(found[0].exp(), small()(probabilities, image), rtol=0, atol=1e-5)
        with pytest.raises(InputError, match=r"got logits \[1, 1, 12, 12\] .* in a BackgroundInferer"):
            CRFInferer(SimpleInferer(), small(), channels=1)(image[None], self.logits(1)[0])

    def test_zero_iterations_change_nothing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
        network, _ = self.logits()
        found = CRFInferer(SimpleInferer(), small(0))(self.image()[None], network)
        assert torch.equal(found, network(self.image()[None]))
        with pytest.raises(InputError, match=r"needs pydensecrf; install it by pip install 'medpos\[crf\]'"):
            small()

    def test_prediction_finds_the_windows_inside(self):
        from medpos.inferers import OverlapTileInferer

        assert describe_network_input(CRFInferer(OverlapTileInferer(252), small()), 3) == (3, (252, 252))

    def test_refusals(self):
        network, _ = self.logits()
        with pytest.raises(InputError, match=r"got mean 0.5, std None, channels 3"):
            CRFInferer(SimpleInferer(), small(), mean=0.5)
        with pytest.raises(InputError, match="channels 2"):
            CRFInferer(SimpleInferer(), small(), channels=2)
        with pytest.raises(InputError, match="3 image channels"):
            CRFInferer(SimpleInferer(), small())(scene()[1][None], network)
        with pytest.raises(InputError, match=r"for an input \[1, 3, 14, 12\]"):
            CRFInferer(SimpleInferer(), small())(torch.zeros(1, 3, 14, 12), network)


@pytest.mark.parametrize(
    "wrong", [{"s_pos": 0}, {"s_rgb": -1}, {"w_bi": -1}, {"iterations": -1}, {"s_xy": float("nan")}]
)
def test_parameters_out_of_range(wrong):
    with pytest.raises(InputError, match=r"expected widths s_pos, s_xy, s_rgb above 0"):
        DenseCRF(**{**PAPERS["v2_vgg"], **wrong})


def test_shapes_that_do_not_fit():
    with pytest.raises(InputError, match=r"got \[2, 12, 12\] and \[2, 12, 12\]"):
        small()(scene()[0], torch.zeros(2, 12, 12))


class TestSearch:
    LABELS = JSRT[:2]

    def cases(self):
        probabilities, image = scene()
        truth = (image[0] > 0).numpy().astype(np.uint8)
        truth[11] = IGNORED
        return [(probabilities, image, truth), (probabilities.flip(1), image.flip(1), truth[::-1].copy())]

    def test_all_combinations_the_best_first(self):
        rows = search_crf(self.cases(), self.LABELS, w_bi=(2, 4), s_xy=(1, 4), s_rgb=(20, 2000), w_pos=1, s_pos=1)
        assert len({(row.w_bi, row.s_xy, row.s_rgb) for row in rows}) == len(rows) == 8
        assert [row.mean_iou for row in rows] == sorted((row.mean_iou for row in rows), reverse=True)
        # A wide kernel that tells colors apart finds the square, one that doesn't shifts nothing.
        assert (rows[0].s_xy, rows[0].s_rgb) == (4, 20)
        assert rows[0].mean_iou == 1
        assert rows[-1].mean_iou < 0.9
        # Before, 25 of the square's 36 px are found, and 12 px too many; one more of these lies on ignored pixels.
        plain = (25 / (36 + 12) + (132 - 48) / (132 - 25)) / 2
        assert rows[0].gain == pytest.approx(1 - plain)

    def test_void_is_not_a_class(self):
        void = (Label(0, "void", "#000000"), *self.LABELS[1:])
        rows = search_crf(self.cases(), void, w_bi=(2,), s_xy=(4,), s_rgb=(20,), w_pos=1, s_pos=1)
        assert (rows[0].mean_iou, rows[0].gain) == (1, pytest.approx(1 - 25 / 36))

    def test_no_image(self):
        with pytest.raises(InputError, match="expected labeled pixels"):
            search_crf([], self.LABELS, w_bi=(2,), s_xy=(4,), s_rgb=(20,))

    def test_cases_come_from_network_and_data(self):
        network = torch.nn.Conv2d(1, 2, 1)
        image, label = torch.rand(3, 1, 12, 10), torch.randint(0, 2, (3, 1, 12, 10), dtype=torch.uint8)
        inferer = CRFInferer(SimpleInferer(), small(), 0.25, 0.5, channels=1)
        batches = [{"image": image[:2], "label": label[:2]}, {"image": image[2:], "label": label[2:]}]
        assert len(list(crf_cases(network, batches, inferer, images=2))) == 2
        found = list(crf_cases(network, batches, inferer))
        assert len(found) == 3
        torch.testing.assert_close(found[2][0], network(image)[2].softmax(0).detach())
        torch.testing.assert_close(found[2][1], image[2] * 0.5 + 0.25)
        assert (found[2][2] == label[2, 0].numpy()).all()
        volumes = [
            {"image": image[..., None].expand(-1, -1, -1, -1, 4), "label": label[..., None].expand(-1, -1, -1, -1, 4)}
        ]
        slices = list(crf_cases(torch.nn.Conv3d(1, 2, 1), volumes, inferer))
        assert [part.shape for part in slices[11]] == [(2, 12, 10), (1, 12, 10), (12, 10)]
        assert len(slices) == 12
