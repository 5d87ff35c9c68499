"""Fit temperatures to probabilities of known temperatures, and predict with those of a run."""

import json
import math
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_calibration import flat, images
from torch.nn.functional import nll_loss

from medpos.calibrate import calibrate_run
from medpos.core.errors import InputError
from medpos.predict import cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model
from medpos.trust.temperature import HOTTEST, fit_temperatures, scale


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 2.5])
def test_one_temperature_undoes_a_factor_of_the_logits(sharpness):
    chance, true = map(torch.from_numpy, flat(*images(7, sharpness, count=4, shape=(80, 80))))
    [found] = fit_temperatures(chance, true, "one")
    assert found == pytest.approx(sharpness, rel=0.03)
    own = true.long()[:, None]
    losses = [-scale(chance.T, [t * found]).T.gather(1, own).log().mean() for t in (1, 0.97, 1.03)]
    assert min(losses) == losses[0]


def test_a_temperature_for_each_class_undoes_factors_of_the_classes():
    chance, true = map(torch.from_numpy, flat(*images(8, 1.0, count=4, shape=(80, 80))))
    factors = torch.tensor([0.5, 1.0, 2.0, 4.0])
    found = fit_temperatures((chance.log() * factors).softmax(1), true, "class")
    # A common offset of the factors' logarithms, from the softmax, is no part of the probabilities.
    again = scale(((chance.log() * factors).softmax(1)).T, found).T
    assert (again - chance).abs().mean() < 0.05
    assert sorted(found) == found


def test_temperatures_are_bounded_where_every_pixel_is_right():
    chance = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    [cold], [hot] = (fit_temperatures(chance, torch.tensor(true), "one") for true in ([0, 1], [1, 0]))
    assert 1 / HOTTEST <= cold < 0.1
    assert 10 < hot <= HOTTEST


def test_one_temperature_keeps_the_class_of_every_pixel():
    chance, _ = flat(*images(9, 1.0))
    for temperature in (0.3, 3.0):
        scaled = scale(torch.from_numpy(chance.T), [temperature]).T
        assert torch.equal(scaled.argmax(1), torch.from_numpy(chance).argmax(1))
        assert scaled.sum(1) == pytest.approx(np.ones(len(chance)), abs=1e-5)


def test_the_run_keeps_temperatures_that_raise_the_likelihood(calibrated):
    content = json.loads((calibrated / "temperatures.json").read_text())
    model = Model(calibrated, device="cpu")
    assert content["weights"] == model.identity
    assert model.find_temperatures("one") == content["one"]
    assert len(content["class"]) == len(model.data.labels)
    # Without temperatures the scores are those that the test of the run has measured.
    [condition] = json.loads((calibrated / "summary.json").read_text())["conditions"]
    assert content["test"]["none"] == pytest.approx(condition["calibration"]["all classes"]["set"], abs=1e-3)
    assert content["test"]["one"]["nll"] < content["test"]["none"]["nll"]
    rows = pd.read_csv(calibrated / "temperature_scaling.csv")
    assert len(rows) == 16 * 4 * 3  # conditions, organs and all classes, temperatures
    [clean] = rows[
        (rows["severity"] == 0) & (rows["organ"] == "all classes") & (rows["temperatures"] == "one")
    ].to_dict("records")
    assert {score: clean[score] for score in content["test"]["one"]} == pytest.approx(content["test"]["one"])
    # One organ's scores without temperatures are those of the test too.
    [heart] = rows[(rows["severity"] == 0) & (rows["organ"] == "heart") & (rows["temperatures"] == "none")].to_dict(
        "records"
    )
    of_test = condition["calibration"]["heart"]["set"]
    assert {score: heart[score] for score in of_test} == pytest.approx(of_test, abs=1e-3)


def test_what_they_change_is_a_curve_of_tensorboard(calibrated):
    events = EventAccumulator(str(calibrated / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    rows = pd.read_csv(calibrated / "temperature_scaling.csv")
    rows = rows[rows["degradation"].isin(["none", "shot_noise"])]
    for temperatures in ("none", "one", "class"):
        part = rows[(rows["organ"] == "all classes") & (rows["temperatures"] == temperatures)].sort_values("severity")
        curve = events.Scalars(f"calibrate/shot_noise/ece/all_classes/{temperatures}")
        assert [event.step for event in curve] == list(range(6))
        assert [event.value for event in curve] == pytest.approx(list(part["ece"]))
    noticed = pd.read_csv(calibrated / "noticed.csv")
    together = noticed[(noticed["detector"] == "all") & noticed["degradation"].isin(["none", "shot_noise"])]
    curve = events.Scalars("calibrate/shot_noise/alarms/all")
    assert [event.value for event in curve] == pytest.approx(list(together.sort_values("severity")["alarms"]))
    layout = events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0]
    for beginning in (b"^calibrate/shot_noise/ece/all_classes/", b"^calibrate/shot_noise/alarms/", b"^test/dice/"):
        assert beginning in layout


def predict(run, image, out, calibrated):
    options = cohort.Options(probabilities=True, overlays=False)
    ensemble = Ensemble([Model(run, device="cpu")], calibrated=calibrated)
    summary = cohort.predict_cases(ensemble, inputs.find_cases([str(image)], out), out, options)
    assert not summary.failed
    [chance] = out.glob("*_probabilities.nii.gz")
    labels = next(path for path in out.glob("*.nii.gz") if path != chance)
    return np.asarray(nibabel.load(labels).dataobj), nibabel.load(chance).get_fdata()


def test_predictions_use_them_when_asked(calibrated, prepared, tmp_path):
    image = sorted((prepared["jsrt"] / "images").glob("*.nii.gz"))[0]
    found = {kind: predict(calibrated, image, tmp_path / f"out-{kind}", kind) for kind in ("", "one", "class")}
    assert np.array_equal(found["one"][0], found[""][0])
    for kind in ("one", "class"):
        assert np.abs(found[kind][1] - found[""][1]).max() > 0.01
        assert np.abs(found[kind][1].sum(axis=-1) - 1).max() < 0.01
    with pytest.raises(InputError, match="expected no --calibrated, as for the predictions there"):
        predict(calibrated, image, tmp_path / "out-", "one")  # a folder never mixes both


def test_missing_and_foreign_temperatures_are_refused(calibrated, trained, tmp_path):
    with pytest.raises(InputError, match=r"temperatures.json, got no such file; run .python -m medpos calibrate"):
        Ensemble([Model(trained, device="cpu")], calibrated="one")
    with pytest.raises(InputError, match="--calibrated: expected one or class, got 'two'"):
        Ensemble([Model(trained, device="cpu")], calibrated="two")
    run = shutil.copytree(calibrated, tmp_path / "a")
    path = Path(run / "temperatures.json")
    content = json.loads(path.read_text())
    for change, message in (
        ({"weights": "x"}, "expected temperatures of these weights"),
        ({"one": [-1]}, "expected 1 temperatures above 0 as 'one'"),
        ({"one": "hot"}, "expected 1 temperatures above 0 as 'one'"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(InputError, match=message):
            Ensemble([Model(run, device="cpu")], calibrated="one")


def test_a_run_without_its_data_says_what_to_give(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "a")
    with pytest.raises(InputError, match="--dataset-dir"):
        calibrate_run(run, tmp_path / "nothing", "cpu")


@pytest.mark.parametrize("kind", ["one", "class"])
@pytest.mark.parametrize("factor", [0.05, 0.2, 1.0, 4.0])
def test_the_temperature_is_the_best_one_however_far_it_is_from_1(kind, factor):
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 3, (4000, 3))
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    true = (draw.random((4000, 1)) > np.cumsum(chance, 1)).sum(1).clip(0, 2)
    given = torch.from_numpy(logits * factor).softmax(1)

    def loss(log_temperature):
        return float(nll_loss((given.log() / math.exp(log_temperature)).log_softmax(1), torch.from_numpy(true)))

    ends = (-math.log(HOTTEST), math.log(HOTTEST))
    best = optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-8})
    found = fit_temperatures(given, torch.from_numpy(true), kind)
    assert found == pytest.approx([math.exp(best.x)] * len(found), rel=1e-5 if kind == "one" else 0.1)
    again = nll_loss((given.log() / torch.tensor(found)).log_softmax(1), torch.from_numpy(true))
    assert float(again) <= best.fun + 1e-9
