"""Predict the Dice of a run's predictions, measure it on test images, and write it beside new predictions."""

import csv
import json
import shutil

import pandas as pd
import pytest
import torch
from running import load_docs_script
from typer.testing import CliRunner

from medpos.calibrate import Options, calibrate_run
from medpos.calibrate.failures import find_truth, fit_quality, score_predictors
from medpos.calibrate.outputs import Changes, load_split
from medpos.cli.main import app
from medpos.core.errors import InputError
from medpos.data.conditions import CLEAN, Condition
from medpos.data.folder import DataFolder
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model
from medpos.trust import failure
from medpos.trust.failure import score_failures
from medpos.trust.quality import DicePredictor

ORGANS = ["right_lung", "left_lung", "heart"]
PLAIN = {"members": [], "tta": "", "dropout": 0}


def rows_of(path):
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_run_has_curves_for_its_plain_predictions(calibrated):
    [fit] = DicePredictor.read(calibrated / "quality.npz").fits
    assert (fit.settings, fit.cases) == (PLAIN, {"validation": 1, "training": 5})
    assert list(fit.curves) == ["probabilities", "plausibility"]
    assert all(set(curves) <= set(ORGANS) and curves for curves in fit.curves.values())


def test_failures_are_scored_for_each_condition_and_for_all_together(calibrated):
    cases = pd.read_csv(calibrated / "predicted_dice.csv")
    assert len(cases) == 2 * 16 * 3 * 3  # cases, conditions, organs; all predictors, and each of two
    scores = rows_of(calibrated / "failures.csv")
    assert len(scores) == (16 + 1) * 3 * 3
    for row in scores:
        if row["degradation"] == "all":
            part = cases[(cases["organ"] == row["organ"]) & (cases["predictor"] == row["predictor"])]
            wanted = score_failures(part["predicted"], part["dice"], part["case"])
            assert int(row["n"]) == wanted["n"] == 32
            assert (row["aurc"], row["pearson"], wanted["aurc"]) == ("", "", None)  # of two cases
            assert float(row["error"]) == pytest.approx((part["predicted"] - part["dice"]).abs().mean())
        else:
            assert (row["n"], row["aurc"], row["auroc"], row["pearson"]) == ("2", "", "", "")
    together = cases[cases["predictor"] == "all"].set_index(["case", "degradation", "severity", "organ"])["predicted"]
    each = cases[cases["predictor"] != "all"].groupby(["case", "degradation", "severity", "organ"])["predicted"].mean()
    pd.testing.assert_series_equal(each.sort_index(), together.sort_index())


def test_measured_dice_is_that_of_the_test(calibrated):
    cases, metrics = (pd.read_csv(calibrated / name) for name in ("predicted_dice.csv", "metrics.csv"))
    clean = cases[(cases["severity"] == 0) & (cases["predictor"] == "all")]
    both = clean.merge(metrics, on=["case", "organ"])
    assert both["dice_x"].to_numpy() == pytest.approx(both["dice_y"].to_numpy(), abs=0.01)  # bf16 in batches


def test_predict_writes_the_dice_that_the_test_had_predicted(calibrated, prepared, tmp_path):
    [name, *_] = {row["case"] for row in rows_of(calibrated / "predicted_dice.csv")}
    image = next((prepared["jsrt"] / "images").glob(f"*{name}*.nii.gz"))
    arguments = ["predict", str(calibrated), str(image), "--device", "cpu", "--out"]
    shown = CliRunner().invoke(app, [*arguments, str(tmp_path / "a")])
    assert shown.exit_code == 0, shown.output
    found = {(r["structure"], r["measure"]): r["value"] for r in rows_of(tmp_path / "a/measurements.csv")}
    low = []
    for row in rows_of(calibrated / "predicted_dice.csv"):
        if row["case"] == name and row["severity"] == "0":
            measure = "predicted Dice" + ("" if row["predictor"] == "all" else f" by {row['predictor']}")
            assert float(found[row["organ"], measure] or "nan") == pytest.approx(
                float(row["predicted"]), rel=1e-5, nan_ok=True
            )
            if row["predictor"] == "all" and float(row["predicted"]) < 0.8:
                low.append(row["organ"].replace("_", " "))
    warned = [row["warning"] for row in rows_of(tmp_path / "a/warnings.csv") if "is predicted to be" in row["warning"]]
    assert [text.partition(":")[0] for text in warned] == low
    # No curves were fitted to predictions of changed images.
    assert CliRunner().invoke(app, [*arguments, str(tmp_path / "b"), "--tta", "noise"]).exit_code == 0
    assert not [row for row in rows_of(tmp_path / "b/measurements.csv") if "Dice" in row["measure"]]


def test_members_and_views_are_predictors_of_their_own_ensemble(calibrated, prepared, tmp_path):
    """The member has other weights, so that the two disagree."""
    run, other = (shutil.copytree(calibrated, tmp_path / name) for name in ("a", "b"))
    (other / "quality.npz").unlink()
    (other / "detectors.npz").unlink()
    weights = torch.load(other / "model.pt", weights_only=True)
    torch.save({key: value * 1.1 for key, value in weights.items()}, other / "model.pt")
    source = DataFolder(prepared["jsrt"])
    ensemble = Ensemble([Model(run, device="cpu"), Model(other, device="cpu")], ("noise",))
    changes = Changes([CLEAN, Condition("gaussian_noise", 3)], "study", 0)
    fit_quality(ensemble, source, changes)
    plain, several = DicePredictor.read(run / "quality.npz").fits
    assert (plain.settings, several.settings) == (PLAIN, ensemble.settings)
    assert list(several.curves) == ["probabilities", "members", "views", "plausibility"]
    again = Ensemble([Model(run, device="cpu"), Model(other, device="cpu")], ("noise",))
    assert again.dice_fit.settings == ensemble.settings
    assert Ensemble(again.models[:1], ("noise",)).dice_fit is None
    assert Ensemble(again.models[:1]).dice_fit.settings == PLAIN


def test_a_member_that_may_know_the_test_images_is_refused(calibrated, tmp_path):
    other = shutil.copytree(calibrated, tmp_path / "b")
    text = (other / "config.json").read_text()
    (other / "config.json").write_text(text.replace('"fold": ""', '"fold": "1/5"'))
    assert text != (other / "config.json").read_text()
    with pytest.raises(InputError, match=r"--member .*b: expected other weights than those of .*a"):
        calibrate_run(calibrated, device="cpu", options=Options(members=[other]))
    for name in ("detectors.npz", "quality.npz"):
        (other / name).unlink(missing_ok=True)
    weights = torch.load(other / "model.pt", weights_only=True)
    torch.save({key: value * 1.01 for key, value in weights.items()}, other / "model.pt")
    with pytest.raises(InputError, match=r"--member .*b: expected the data and the fold of"):
        calibrate_run(calibrated, device="cpu", options=Options(members=[other]))


def test_curves_of_other_weights_are_refused_and_fitted_again(calibrated, tmp_path):
    run = shutil.copytree(calibrated, tmp_path / "a")
    weights = torch.load(run / "model.pt", weights_only=True)
    torch.save({key: value * 1.01 for key, value in weights.items()}, run / "model.pt")
    (run / "detectors.npz").unlink()
    with pytest.raises(InputError, match=r"quality.npz: expected curves of this network"):
        Ensemble([Model(run, device="cpu")])
    model = Model(run, device="cpu")
    model.forget_others()
    assert not (run / "quality.npz").exists()
    assert Ensemble([model]).dice_fit is None
    assert Ensemble([model]).predict_dice(Ensemble([model]).begin_signs()) == {}


def test_one_temperature_keeps_the_predicted_dice_and_one_for_each_class_has_none(calibrated):
    models = [Model(calibrated, device="cpu")]
    assert Ensemble(models, calibrated="one").dice_fit == Ensemble(models).dice_fit
    assert Ensemble(models, calibrated="class").dice_fit is None


def test_the_truth_of_a_run_at_one_pixel_size_is_that_of_its_predictions(calibrated, prepared, tmp_path):
    """X-rays of 358 mm have 26 of the 32 pixels of 14 mm; the rest is padding."""
    run = shutil.copytree(calibrated, tmp_path / "a")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "spacing_mm": [14.0, 14.0]}))
    ensemble = Ensemble([Model(run, device="cpu")])
    image = next(load_split(ensemble.models[0], DataFolder(prepared["jsrt"]), "validation", 1))
    truth = find_truth(ensemble, image)
    found = ensemble.segment([image.decoded], ensemble.find_sizes(image.case["shape"][:2], image.case["spacing_mm"]))
    assert truth.shape == found.for_labels.shape[1:] == (26, 26)
    before, after = ([int((values == n).sum()) for n in (1, 2, 3)] for values in (image.truth, truth))
    assert before == after


def test_the_table_of_the_results_has_the_scores_of_the_run(calibrated, monkeypatch):
    monkeypatch.setattr(failure, "LEAST", 2)  # the run has two test cases
    docs = load_docs_script("failures")
    table = docs.read(calibrated)
    scores = pd.DataFrame(score_predictors(table.to_dict("records")))
    head, *rows = docs.tabulate(table)
    together = scores[scores["degradation"] == "all"].groupby("predictor")["excess_aurc"].mean()
    assert {row[0]: float(row[head.index("excess AURC")]) for row in rows} == pytest.approx(
        together.to_dict(), abs=6e-4
    )
    head, *rows = docs.tabulate_auroc(table)
    assert [row[0] for row in rows] == ["clean", "Gaussian noise", "Gaussian blur", "shot noise"]
    assert rows[0][1].endswith(" of 6")
