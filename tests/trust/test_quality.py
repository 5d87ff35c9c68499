"""Check signs of quality by hand and against overlap, the monotone fit against scikit-learn, and the file."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression

from medpos.core.arrays import save_arrays
from medpos.core.errors import InputError
from medpos.metrics import overlap
from medpos.trust.quality import Curve, DicePredictor, Example, Fit, Plausibility
from medpos.trust.signs import FEATURES, Signs

CLASSES = 3
COUNTS = (2, 3, 2)  # members, views, passes


def draw_parts(seed, shape=(9, 11, 4)):
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 1, (math.prod(COUNTS), CLASSES, *shape))).float()
    return list((logits + 2 * logits.mean(0)).softmax(1))


def collect(parts, counts=COUNTS, step=4):
    signs = Signs(CLASSES - 1, counts)
    mean = torch.stack(parts).mean(0)
    for z in range(0, mean.shape[3], step):
        signs.add(mean[..., z : z + step], [part[..., z : z + step] for part in parts])
    return signs, mean


def one_hot(labels):
    return (labels == torch.arange(CLASSES).view(-1, *[1] * labels.ndim)).float()


@pytest.mark.parametrize(("axis", "source"), enumerate(["members", "views", "dropout"]))
def test_agreement_is_the_mean_dice_of_parts_that_differ_in_one_source(axis, source):
    parts = draw_parts(0)
    places = list(np.ndindex(*COUNTS))
    pairs = [
        (a, b)
        for a, b in itertools.combinations(range(len(places)), 2)
        if [n for n in range(3) if places[a][n] != places[b][n]] == [axis]
    ]
    labels = [part.argmax(0).numpy() for part in parts]
    wanted = np.mean([overlap(labels[a], labels[b], CLASSES)["dice"] for a, b in pairs], axis=0)
    signs, _ = collect(parts)
    assert signs.measure()[source] == pytest.approx(wanted)


def test_slices_in_parts_have_the_signs_of_the_whole():
    parts = draw_parts(1)
    (whole, mean), (pieces, _) = collect(parts), collect(parts, step=3)
    for name, values in whole.measure().items():
        assert pieces.measure()[name] == pytest.approx(values)
    mask = torch.rand(CLASSES - 1, 9, 11)
    assert whole.describe(mask) == pytest.approx(pieces.describe(mask))
    inside = mean[1:] * one_hot(mean.argmax(0))[1:]
    wanted = 2 * inside.sum((1, 2, 3)) / (one_hot(mean.argmax(0))[1:].sum((1, 2, 3)) + mean[1:].sum((1, 2, 3)))
    assert whole.measure()["probabilities"] == pytest.approx(wanted.numpy(), abs=1e-5)


def test_one_prediction_has_no_agreement_and_a_missing_organ_no_quality():
    labels = torch.zeros(6, 6, dtype=torch.long)
    labels[1:3, 1:3] = 1
    signs = Signs(CLASSES - 1)
    signs.add(one_hot(labels) * 0.8 + 0.1)
    found = signs.measure()
    assert list(found) == ["probabilities"]
    assert found["probabilities"][0] == pytest.approx(2 * 4 * 0.9 / (4 + 4 * 0.9 + 32 * 0.1))
    assert found["probabilities"][1] == 0
    # Both members of an ensemble see nothing of the second organ, and the mean neither.
    several = Signs(CLASSES - 1, (2, 1, 1))
    several.add(one_hot(labels), [one_hot(labels), one_hot(labels)])
    assert several.measure()["members"].tolist() == [1, 0]


def test_shape_and_place_by_hand():
    labels = torch.zeros(10, 20, 2, dtype=torch.long)
    labels[2:4, 4:8, 0] = 1
    labels[6, 10, 0] = labels[2:4, 4:8, 1] = 1
    signs = Signs(CLASSES - 1)
    signs.add(one_hot(labels))
    mask = torch.zeros(2, 10, 20)
    mask[0, 2:4, 4:8] = 1
    row = dict(zip(FEATURES, signs.describe(mask)[0], strict=True))
    assert row["size"] == pytest.approx(np.log(17 / 400))
    assert row["extent along x"] == pytest.approx(0.5)
    assert row["extent along y"] == pytest.approx(0.35)
    assert row["pieces"] == pytest.approx(np.log2(1.5))
    assert row["overlap with the mean mask"] == pytest.approx(2 * 8 / (8.5 + 8))
    assert row["x"] == pytest.approx((16 * 3 + 6.5) / 17 / 10)
    assert np.isnan(signs.describe(None)[0, -1])
    assert np.isnan(signs.describe(mask)[1]).all()


def test_plausibility_is_half_at_one_standard_deviation():
    draw = np.random.default_rng(2)
    rows = draw.normal(0, 3, (50, 2, len(FEATURES)))
    rows[:, 1, -1] = np.nan  # no mean mask
    found = Plausibility.fit(rows)
    np.testing.assert_allclose(found.means[0], rows[:, 0].mean(0))
    np.testing.assert_allclose(found.spreads[0], rows[:, 0].std(0))
    assert found.score(found.means) == pytest.approx([1, 1])
    assert found.score(found.means - found.spreads) == pytest.approx([0.5, 0.5])
    assert found.score(np.full(rows[0].shape, np.nan)).tolist() == [0, 0]
    unknown = Plausibility.fit(np.full((3, 1, len(FEATURES)), np.nan))
    assert np.isnan(unknown.score(np.zeros((1, len(FEATURES))))).all()


def test_the_curve_by_hand():
    """Signs 0.2 and 0.4 are in the wrong order, so they share the mean of their Dice, with a knot between them."""
    curve = Curve.fit(np.array([0.2, 0.4, 0.6, 0.6]), np.array([0.5, 0.3, 0.8, 0.9]), np.ones(4))
    assert curve.signs == pytest.approx((0.3, 0.6))
    assert curve.dice == pytest.approx((0.4, 0.85))
    assert curve.predict(0) == 0
    assert curve.predict(0.15) == pytest.approx(0.2)
    assert curve.predict(0.45) == pytest.approx(0.625)
    assert curve.predict(1) == pytest.approx(0.85)
    assert np.isnan(curve.predict(np.nan))
    weighted = Curve.fit(np.array([0.2, 0.4, 0.6, 0.6]), np.array([0.5, 0.3, 0.8, 0.9]), np.array([3, 1, 1, 4]))
    assert weighted.signs == pytest.approx((0.25, 0.6))
    assert weighted.dice == pytest.approx((0.45, 0.88))


def test_the_levels_of_the_curve_are_those_of_scikit_learn():
    draw = np.random.default_rng(3)
    signs = np.round(draw.uniform(0.05, 1, 200), 2)
    dice = np.clip(signs + draw.normal(0, 0.3, 200), 0, 1)
    weights = draw.integers(1, 5, 200).astype(float)
    curve = Curve.fit(signs, dice, weights)
    wanted = IsotonicRegression().fit(signs, dice, weights).predict(signs)
    assert curve.dice == pytest.approx(np.unique(wanted.round(12)))
    for level, knot in zip(curve.dice, curve.signs, strict=True):
        inside = np.isclose(wanted, level)
        assert knot == pytest.approx(np.average(signs[inside], weights=weights[inside]))
    order = np.argsort(signs)
    assert (np.diff([curve.predict(sign) for sign in signs[order]]) >= 0).all()


def make_predictor():
    draw = np.random.default_rng(4)
    dice = draw.uniform(0.3, 1, (20, 2))
    dice[:, 1] = np.where(np.arange(20) < 7, dice[:, 1], np.nan)  # seven measurements are too few
    rows = [Example({"probabilities": d, "members": np.sqrt(d)}, d) for d in dice]
    fit = Fit.make({"tta": "", "dropout": 0, "members": ["a"]}, {"validation": 5}, ["lung", "heart"], rows)
    plausibility = Plausibility.fit(draw.normal(size=(5, 2, len(FEATURES))))
    return DicePredictor("w", ["lung", "heart"], plausibility, np.full((2, 4, 4), 0.25), [fit]), rows


def test_each_way_of_predicting_has_its_own_curves_in_the_file(tmp_path):
    predictor, rows = make_predictor()
    [fit] = predictor.fits
    predictor.keep(Fit({**fit.settings, "tta": "flip"}, {"validation": 3}, {}))
    predictor.keep(Fit(fit.settings, {"validation": 6}, fit.curves))  # replaces
    save_arrays(tmp_path / "quality.npz", predictor.to_arrays())
    again = DicePredictor.read(tmp_path / "quality.npz")
    assert [(f.settings["tta"], f.cases["validation"]) for f in again.fits] == [("flip", 3), ("", 6)]
    assert again.find({"tta": "shift", "dropout": 0, "members": ["a"]}) is None
    found = again.find(fit.settings).predict(rows[0].signs, again.organs)
    assert list(found) == ["all", "probabilities", "members"]
    assert found["members"][0] == pytest.approx(rows[0].dice[0])
    assert found["all"][0] == pytest.approx(rows[0].dice[0])
    assert np.isnan(found["all"][1])
    assert found == {
        name: pytest.approx(values, nan_ok=True) for name, values in fit.predict(rows[0].signs, again.organs).items()
    }


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("means", lambda values: values[:, :-1]),
        ("spreads", lambda values: np.full(values.shape, "wide")),
        ("mean_mask", lambda values: values[:1]),
        ("about", lambda values: np.array("{}")),
        ("about", lambda values: np.array(str(values).replace("[0.", "[9."))),
        ("about", lambda values: np.array(str(values).replace('"curves": {', '"curves": [').replace("}}}}", "}}]}"))),
    ],
)
def test_odd_files_are_refused(tmp_path, name, change):
    arrays = make_predictor()[0].to_arrays()
    np.savez(tmp_path / "quality.npz", **{**arrays, name: change(arrays[name])})
    with pytest.raises(InputError, match=r"quality.npz: can't be read as the quality of a run"):
        DicePredictor.read(tmp_path / "quality.npz")
    (tmp_path / "quality.npz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"can't be read"):
        DicePredictor.read(tmp_path / "quality.npz")
