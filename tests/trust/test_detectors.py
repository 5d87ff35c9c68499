"""Check the evidence by hand, the detectors against scikit-learn and scipy, and the light on images made strange."""

import csv
import json
import logging
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from running import load_docs_script, run_here
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import OAS
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn
from typer.testing import CliRunner

from medpos.calibrate import fit_lights
from medpos.calibrate.noticed import Judged, summarize_noticed
from medpos.calibrate.outputs import load_split
from medpos.cli.main import app
from medpos.core.errors import InputError
from medpos.data.conditions import CLEAN, Condition
from medpos.data.folder import DataFolder
from medpos.networks.layers.blocks import ConvBlock
from medpos.networks.layers.folding import fold_batch_norms
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model
from medpos.runs.folder import RunFolder
from medpos.trust.detectors import NEVER, Detectors, Gaussian, Neighbors, Place, Sample, unpack
from medpos.trust.evidence import LAYOUT, Evidence, FeatureTap, find_center, find_offset, noise_levels
from medpos.trust.failure import auroc
from medpos.trust.light import Light, TrafficLight


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_noise_is_estimated_on_ramps_and_edges(sigma):
    x, y = np.meshgrid(np.linspace(0.2, 0.6, 96), np.linspace(0, 0.2, 80), indexing="ij")
    image = x + y + 0.1 * (x > 0.4)
    noisy = image + np.random.default_rng(0).normal(0, sigma, image.shape)
    [found] = noise_levels(torch.from_numpy(noisy).float()[None])
    assert 10**found == pytest.approx(sigma, rel=0.1)


def test_evidence_of_parts_is_that_of_the_whole():
    draw = np.random.default_rng(1)
    image, chance = (torch.from_numpy(draw.random((n, 20, 24, 6))).float() for n in (1, 3))
    whole, parts = Evidence((), 2), Evidence((), 2)
    whole.add(image, chance)
    for z in (0, 3):
        parts.add(image[..., z : z + 3], chance[..., z : z + 3])
    assert torch.equal(whole.planes, parts.planes)
    assert whole.layout == pytest.approx(parts.layout, abs=1e-5)
    assert whole.layout.mean() == pytest.approx(0, abs=1e-9)
    assert whole.noise == pytest.approx(parts.noise)
    assert whole.gray == pytest.approx(parts.gray)
    assert whole.gray[15] == pytest.approx(float((image < 0.5).float().mean()))
    assert float(whole.planes.sum() * 6) == pytest.approx(int((chance.argmax(0) > 0).sum()))


def test_the_size_of_an_organ_is_its_share_of_a_volume():
    chance = torch.zeros(2, 8, 8, 4)
    chance[0], chance[1, :4, :4, :2] = 0.5, 1
    evidence = Evidence((), 1)
    evidence.add(torch.rand(1, 8, 8, 4), chance)
    assert Sample.of(evidence, None).sizes == pytest.approx([32 / 256])


@pytest.mark.parametrize("moved", [(0, 0), (4, 0), (0, -5), (-3, 2)])
def test_the_offset_is_by_how_much_an_image_was_moved(moved):
    x, y = np.meshgrid(*[np.arange(LAYOUT)] * 2, indexing="ij")

    def blob(at_x, at_y):
        image = np.exp(-((x - at_x) ** 2 + 2 * (y - at_y) ** 2) / 20)
        return image - image.mean()

    found = find_offset(blob(15.5 + moved[0], 15.5 + moved[1]), blob(15.5, 15.5)) * LAYOUT
    assert found == pytest.approx(moved, abs=0.5)
    assert find_offset(np.zeros((LAYOUT, LAYOUT)), blob(15, 15)).tolist() == [0, 0]


def test_centers_are_shares_of_the_sides():
    plane = torch.zeros(10, 20)
    plane[2, 4] = plane[4, 8] = 1
    assert find_center(plane) == pytest.approx((0.35, 0.325))
    assert np.isnan(find_center(torch.zeros(3, 3))).all()


def test_features_are_those_of_the_layers_also_with_folded_norms():
    torch.manual_seed(0)
    parts = [ConvBlock(1, 4), nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)), nn.ReLU(), nn.Conv2d(6, 2, 1)]
    network, images = nn.Sequential(*parts).eval(), torch.randn(5, 1, 12, 12)
    tap, folded = FeatureTap([1]), FeatureTap([1])
    with torch.inference_mode():
        for one, run in ((tap, network), (folded, fold_batch_norms(network))):
            with one.open():
                for batch in images.split(2):
                    run(batch)
        network(images)  # not taken
        wanted = network[:3](images).mean((0, 2, 3))
    assert tap.count == 3
    assert tap.mean()[0] == pytest.approx(wanted.numpy(), abs=1e-5)
    assert folded.mean()[0] == pytest.approx(wanted.numpy(), abs=1e-5)


@pytest.mark.parametrize("count", [12, 200])
def test_the_distance_is_that_of_scikit_learns_covariance(count):
    draw = np.random.default_rng(2)
    rows = draw.normal(size=(count, 20)) @ draw.normal(size=(20, 20))
    found = Gaussian(rows)
    scaled = (rows - rows.mean(0)) / rows.std(0)
    covariance = OAS(assume_centered=True).fit(scaled)
    point = draw.normal(size=20) * 5
    wanted = mahalanobis((point - rows.mean(0)) / rows.std(0), np.zeros(20), covariance.precision_) / np.sqrt(20)
    assert found.shrinkage == pytest.approx(max(covariance.shrinkage_, 0.05), rel=1e-6)
    if found.shrinkage > 0.05:
        assert found.score(point) == pytest.approx(wanted, rel=1e-6)
    assert found.score(rows[0] + 100) > max(map(found.score, rows))


def test_neighbors_and_places_by_hand():
    rows = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert Neighbors(rows).score(np.array([2.0, 0.0])) == pytest.approx(np.sqrt(2))  # the third-nearest, at 90 degrees
    place = Place(np.array([[0.4, 0.5], [0.6, 0.5]]))
    assert place.score(np.array([0.5, 0.5])) == 0
    assert place.score(np.array([0.5, 0.6])) == pytest.approx(10)  # 0.1 of the side, at a least spread of 0.01
    rare = Place(np.array([[0.4, 0.5], [np.nan, np.nan]]))
    assert (place.is_common, rare.is_common) == (True, False)
    assert rare.score(np.full(2, np.nan)) == 0


def heart_at(x, size=0.02, noise=-2.0):
    """Return the evidence of a case with one organ at (x, 0.5); without any where x is NaN."""
    center = np.array([[x, 0.5 if np.isfinite(x) else np.nan]])
    layout = np.zeros((LAYOUT, LAYOUT))
    layout[16, 16] = 1
    return Sample(np.array([noise]), np.linspace(0, 1, 32), (), center, np.array([size]), np.array([]), layout)


@pytest.fixture
def lit():
    """Return a function that sets a light by 20 familiar cases, some of which have no organ."""
    draw = np.random.default_rng(5)
    training = [heart_at(0.5 + 0.02 * draw.normal(), noise=-2 + 0.1 * draw.normal()) for _ in range(20)]
    known = [heart_at(0.5 + 0.02 * draw.normal(), noise=-2 + 0.1 * draw.normal()) for _ in range(20)]

    def set_light(lost):
        cases = [*known[lost:], *[heart_at(np.nan, 0.0)] * lost]
        detectors = Detectors(training, ["heart"])
        about = {"weights": "", "layers": [], "organs": ["heart"], "validation": 20, "training": 0}
        return TrafficLight(about, training, np.stack([detectors.score(case) for case in cases]), np.zeros(0))

    return set_light


def test_a_familiar_case_without_an_organ_does_not_set_the_threshold(lit):
    without, with_lost = lit(0), lit(1)
    assert with_lost.threshold == pytest.approx(without.threshold, rel=0.5)
    assert (without.lost, with_lost.lost) == (0, 1)
    assert (without.rate, with_lost.rate) == (pytest.approx(1 / 21), pytest.approx(2 / 21))
    noisy = with_lost.detectors.score(heart_at(0.5, noise=-1))
    assert with_lost._standardize(noisy).max() > with_lost.threshold
    everywhere = lit(20)
    assert (everywhere.lost, everywhere.rate) == (20, 1)
    assert np.isfinite(everywhere.threshold)


@pytest.mark.parametrize(("size", "is_lost"), [(0.0, True), (0.0019, True), (0.0021, False)])
def test_an_organ_of_a_few_pixels_is_lost(lit, size, is_lost):
    detectors = lit(0).detectors
    case = heart_at(0.5, size)
    assert detectors.find_lost(case) == ([0] if is_lost else [])
    assert (detectors.score(case) == NEVER).any() == is_lost
    words = detectors.describe(detectors.names.index("place heart"), case, (10, 10))
    assert words.startswith(
        "heart not found"
        if is_lost
        else "heart predicted 0 px from where it was in training (the network sees 10 x 10 px)"
    )


def test_a_lost_organ_is_red_whatever_the_threshold(lit):
    light = lit(0)
    light.threshold = 1e9
    evidence = light.begin()
    evidence.add(torch.rand(1, 8, 8), torch.stack([torch.ones(8, 8), torch.zeros(8, 8)]))
    judged = light.judge(evidence)
    assert (judged.color, judged.score) == ("red", 2)
    assert judged.reasons == ("heart not found, though it is in nearly every training image",)


def test_a_moved_image_is_heard_by_its_layout(lit):
    detectors = lit(0).detectors
    case = heart_at(0.5)
    moved = replace(case, layout=np.roll(case.layout, 8, axis=0))
    number = detectors.names.index("offset")
    assert (detectors.score(case)[number], detectors.score(moved)[number]) == (0, pytest.approx(25))  # 8 / 32 / 0.01
    words = "image fits those of the training best when moved 32 px (the network sees 128 x 64 px)"
    assert detectors.describe(number, moved, (128, 64)) == words


def test_detectors_of_earlier_versions_know_neither_sizes_nor_layouts(lit):
    light = lit(0)
    arrays = {name: values for name, values in light.to_arrays().items() if name not in ("sizes", "layout")}
    old = Detectors(unpack(arrays), ["heart"])
    assert old.names == [name for name in light.detectors.names if name != "offset"]
    assert len(old.score(heart_at(0.5))) == len(old.names)
    assert old.find_lost(heart_at(0.5, 1e-9)) == []
    assert old.find_lost(heart_at(np.nan, 0)) == [0]


def test_auroc_is_that_of_scikit_learn():
    strange, familiar = np.random.default_rng(3).integers(0, 5, (2, 30)).astype(float)
    wanted = roc_auc_score([1] * 30 + [0] * 30, [*strange, *familiar])
    assert auroc(strange, familiar) == pytest.approx(wanted)


def test_the_run_keeps_its_detectors(calibrated):
    light = Model(calibrated, device="cpu").light
    assert light.organs == ("right_lung", "left_lung", "heart")
    # Five training X-rays and one for the validation: one alarm of seven is the lowest rate that they can show.
    assert (light.about["validation"], light.about["training"]) == (1, 5)
    assert light.rate == pytest.approx(1 / 7)
    assert light.about["test_cases"] == 2
    with (calibrated / "noticed.csv").open() as stream:
        [clean] = [row for row in csv.DictReader(stream) if (row["detector"], row["severity"]) == ("all", "0")]
    assert light.about["test_alarms"] == float(clean["alarms"]) * 2
    assert np.load(calibrated / "detectors.npz", allow_pickle=False)["familiar"].shape == (
        6,
        len(light.detectors.names),
    )


def test_a_training_mask_is_compared_with_the_mean_of_the_others(calibrated, prepared):
    images = load_split(Model(calibrated, device="cpu"), DataFolder(prepared["jsrt"]), "training", 99)
    masks = np.stack([np.stack([image.truth[0].numpy() == organ for organ in (1, 2, 3)]) for image in images])
    others = [np.delete(masks, n, axis=0).mean(0) for n in range(len(masks))]
    with np.load(calibrated / "detectors.npz", allow_pickle=False) as content:
        found = dict(content)
    assert found["mean_mask"] == pytest.approx(masks.mean(0))
    for mask, other, overlaps in zip(masks, others, found["overlaps"], strict=True):
        assert overlaps == pytest.approx([other[n][mask[n]].mean() for n in range(3)], abs=1e-5)


def test_the_training_fits_what_calibrate_fits(tiny):
    run = run_here("jsrt_small_pe", **{**tiny, "fit_lights": True})
    assert "on the test images" in (run / "log.txt").read_text()
    first = json.loads((run / "temperatures.json").read_text()), dict(np.load(run / "detectors.npz"))
    shown = CliRunner().invoke(app, ["calibrate", str(run), "--device", "cpu"])
    assert shown.exit_code == 0, shown.output
    again = json.loads((run / "temperatures.json").read_text()), dict(np.load(run / "detectors.npz"))
    assert first[0] == again[0]
    assert {name: values.tolist() for name, values in first[1].items()} == {
        name: values.tolist() for name, values in again[1].items()
    }


def test_a_training_without_lights_says_why(run_of, tiny, caplog):
    config = json.loads((run_of / "config.json").read_text())
    (run_of / "config.json").write_text(json.dumps({**config, "data_folder": str(run_of / "gone")}))
    run = RunFolder(tiny["runs_dir"], "jsrt_small_pe", "a").open("evaluate")
    fit_lights(run, fit=False)
    with caplog.at_level(logging.WARNING):
        fit_lights(run)
    [warning] = caplog.messages
    assert warning.startswith("the run has no lights: ")
    assert "give the data by --dataset-dir" in warning
    assert not (run_of / "detectors.npz").exists()


def test_conditions_are_measured(calibrated):
    with (calibrated / "noticed.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    together = [row for row in rows if row["detector"] == "all"]
    assert len(together) == 16
    assert float(together[0]["dice_lost"]) == 0
    assert float(together[0]["auroc"]) == 0.5
    noise = {(row["degradation"], row["severity"]): float(row["auroc"]) for row in rows if row["detector"] == "noise"}
    assert noise["gaussian_noise", "5"] == noise["shot_noise", "5"] == 1


def test_the_tables_of_the_docs_have_means_of_directions_and_of_kinds_of_detectors(tmp_path):
    docs = load_docs_script("shift_detection")
    rows = ["degradation,severity,shift,detector,auroc"]
    shifts = ["0", *(f"{direction}{distance}" for distance in docs.DISTANCES for direction in ("x+", "y-"))]
    for detector in ("noise", "features 0", "features 1", *sorted({*docs.KINDS} - {"noise", "features"})):
        more = 0.2 if detector == "features 1" else 0
        rows += [f"none,0,{shift},{detector},{0.1 * number + more}" for number, shift in enumerate(shifts)]
    (tmp_path / "noticed.csv").write_text("\n".join(rows))
    table = docs.read([tmp_path, tmp_path])
    head, near, far = docs.tabulate_auroc({"CNN": table})
    assert head[:4] == ["model", "shift", "offset", "features"]
    assert [near[0], near[1], near[2], near[3], near[-1]] == ["CNN", "8 px", "0.150", "0.250", "0.150"]
    assert [far[1], far[2], far[3]] == ["16 px", "0.350", "0.450"]
    lines = [
        [f"shifted {d} px {way}", f"0.{n} ± 0.1", "0.25"] for d in docs.DISTANCES for n, way in ((2, "up"), (6, "left"))
    ]
    head, alarms = docs.tabulate_alarms([("X-rays", [["condition", "CNN: alarms", "CNN: Dice lost"], *lines])])
    assert (head[1:3], alarms[:3]) == (["8 px: alarms", "8 px: Dice lost"], ["CNN, X-rays", "0.400", "0.250"])


def test_a_displaced_crop_shows_what_lies_there():
    docs = load_docs_script("displaced_crops")
    image = torch.rand(1, 64, 48, 3)
    moved = torch.roll(image, (4, -3), (1, 2))
    assert docs.read_layout(moved, 4, -3) == pytest.approx(docs.read_layout(image))
    assert docs.read_layout(moved) != pytest.approx(docs.read_layout(image), abs=0.1)


def judge(run, path, out):
    """Predict one image, and return its light as the tables and the screen show it."""
    shown = CliRunner().invoke(app, ["predict", str(run), str(path), "--out", str(out), "--device", "cpu"])
    assert shown.exit_code == 0, shown.output
    with (out / "lights.csv").open() as stream:
        [row] = csv.DictReader(stream)
    [record] = (json.loads(file.read_text())["light"] for file in (out / ".cases").glob("*.json"))
    assert (record["color"], "; ".join(record["reasons"])) == (row["light"], row["reasons"])
    assert json.loads((out / "predictions.json").read_text())["lights"]["validation"] == 1
    return row, " ".join(shown.output.split())


def save(image, values, path):
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), image.affine), path)
    return path


def test_predict_gives_a_light_with_its_reason(calibrated, prepared, tmp_path):
    content = json.loads((prepared["jsrt"] / "dataset.json").read_text())
    image = nibabel.load(prepared["jsrt"] / content["training"][0]["image"])
    values = image.get_fdata()
    row, shown = judge(calibrated, save(image, values, tmp_path / "known.nii.gz"), tmp_path / "known")
    assert (row["light"], row["reasons"]) == ("green", "")
    assert "lights: 1 green, 0 yellow, 0 red; of images like those of the training at most 14.3% aren't green" in shown
    assert "aren't green (threshold from 1 validation and 5 training images); of the run's 2 test images" in shown
    noisy = values + np.random.default_rng(0).normal(0, 0.2 * np.ptp(values), values.shape)
    noisy = np.clip(noisy, values.min(), values.max())
    row, shown = judge(calibrated, save(image, noisy, tmp_path / "noisy.nii.gz"), tmp_path / "noisy")
    assert row["light"] != "green"
    assert "noise above what the network was trained on" in row["reasons"]
    assert f"{row['light']} light: noisy:" in shown
    moved = np.roll(values, values.shape[0] // 2, axis=0)
    row, _ = judge(calibrated, save(image, moved, tmp_path / "moved.nii.gz"), tmp_path / "moved")
    assert row["light"] != "green"
    assert "image fits those of the training best when moved" in row["reasons"]


def test_detectors_of_other_weights_and_damaged_ones_are_refused(calibrated, tmp_path):
    run = shutil.copytree(calibrated, tmp_path / "a")
    weights = torch.load(run / "model.pt", weights_only=True)
    torch.save({key: value * 1.01 for key, value in weights.items()}, run / "model.pt")
    with pytest.raises(InputError, match="expected detectors of this network"):
        Ensemble([Model(run, device="cpu")])
    (run / "detectors.npz").write_bytes((run / "detectors.npz").read_bytes()[:-200])
    with pytest.raises(InputError, match="can't be read as detectors"):
        TrafficLight.read(run / "detectors.npz")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("familiar", lambda values: values[:, :-1]),
        ("familiar", lambda values: values * np.nan),
        ("familiar", lambda values: values[:0]),
        ("centers", lambda values: values[:, :1]),
        ("sizes", lambda values: values[:, :1]),
        ("layout", lambda values: values[:, :1]),
        ("gray", lambda values: np.full(values.shape, "light")),
        ("about", lambda values: np.array("{}")),
    ],
)
def test_odd_arrays_are_refused(calibrated, tmp_path, name, change):
    with np.load(calibrated / "detectors.npz", allow_pickle=False) as content:
        arrays = dict(content)
    np.savez(tmp_path / "detectors.npz", **{**arrays, name: change(arrays[name])})
    with pytest.raises(InputError, match=r"detectors.npz: can't be read as detectors of a run"):
        TrafficLight.read(tmp_path / "detectors.npz")


def test_a_run_without_detectors_gives_no_lights(trained, prepared, tmp_path):
    image = sorted((prepared["jsrt"] / "images").glob("*.nii.gz"))[0]
    shown = CliRunner().invoke(app, ["predict", str(trained), str(image), "--out", str(tmp_path), "--device", "cpu"])
    assert shown.exit_code == 0
    said = " ".join(shown.output.split())
    assert "no lights:" in said
    assert "has no detectors; 'python -m medpos calibrate" in said
    assert "green" not in said
    assert not (tmp_path / "lights.csv").exists()


@pytest.mark.parametrize("change", [{"data_sha256": "b"}, {"fold": "1/2"}])
def test_lights_are_not_fitted_to_the_data_of_an_external_evaluation(trained, tmp_path, change):
    run = shutil.copytree(trained, tmp_path / "a")
    config = json.loads((run / "config.json").read_text())
    (run / "evaluate").mkdir()
    (run / "evaluate/config.json").write_text(json.dumps({**config, **change}))
    shown = CliRunner().invoke(app, ["calibrate", str(run / "evaluate"), "--device", "cpu"])
    assert f"got one on others; give {run}" in str(shown.exception)
    assert not (run / "detectors.npz").exists()


def test_an_unknown_condition_is_refused(calibrated):
    shown = CliRunner().invoke(app, ["calibrate", str(calibrated), "--condition", "position"])
    assert "expected degradations or shifts, got 'position'" in str(shown.exception)


@pytest.mark.parametrize("count", [9, 19, 20, 21, 40, 60])
def test_fpr95_is_that_of_the_threshold_that_95_percent_of_the_changed_images_reach(count):
    draw = np.random.default_rng(count)
    scores = {CLEAN: draw.normal(0, 1, 30), Condition("blur", 1): draw.normal(1, 1, count)}
    judged = [
        Judged({}, condition, Light("green", float(score), (), {}), 0.9)
        for condition, values in scores.items()
        for score in values
    ]
    row = next(row for row in summarize_noticed(judged) if row["severity"] == 1)
    clean, changed = scores.values()
    rates, found, _ = roc_curve([0] * 30 + [1] * count, [*clean, *changed], drop_intermediate=False)
    assert row["fpr95"] == pytest.approx(min(rates[found >= 0.95]))
