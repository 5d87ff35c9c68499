"""Train every bundle, and check its run folder and the table of every entry point."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from running import COLUMNS, NAMES, TRAINED_EPOCHS, leave_to_torture, newest, parser, refusal, run_bundle, run_here
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medpos.bundle import phantoms
from medpos.report.sources import read
from medpos.runs.cases import load_cases

ORGANS = {"jsrt": ["right_lung", "left_lung", "heart"], "acdc": ["rv_cavity", "myocardium", "lv_cavity"]}
FIRST = {"unet": "conv1_1.", "small": "conv1.", "mean_mask": "probability"}
METRICS = [
    "dice",
    "iou",
    "sensitivity",
    "precision",
    "hd95_mm",
    "assd_mm",
    "surface_dice",
    "specificity",
    "accuracy",
    "npv",
]


def rows_of(path):
    with path.open(newline="") as stream:
        assert stream.readline() == COLUMNS + "\n"
        return list(csv.DictReader(stream, COLUMNS.split(",")))


def network(name):
    return next((kind for kind in ("small", "mean_mask") if kind in name), "unet")


def cases_of(prepared, kind, split="test"):
    return [case["case"] for case in json.loads((prepared[kind] / "dataset.json").read_text())[split]]


@pytest.mark.parametrize(
    "name", leave_to_torture(NAMES, {*NAMES} - {"acdc_mean_mask", "acdc_pe", "jsrt_reflect_pe", "jsrt_small"})
)
def test_a_run_folder_is_complete(name, prepared, tiny):
    kind = name.split("_")[0]
    run = run_here(name, **{**tiny, "dataset_dir": str(prepared[kind]), "train_cases": 2, "run_name": "first"})
    assert run.parts[-2:] == (name, "first")
    found = {path.name for path in run.iterdir()}
    plain = {
        "config.json",
        "environment.json",
        "data.json",
        "training_cases.csv",
        "log.txt",
        "model.pt",
        "resume.pt",
        "metrics.csv",
        "confusion.csv",
        "calibration.csv",
        "reliability.csv",
        "summary.json",
        "cases.npz",
    }
    assert found == plain | {"overlays", "tensorboard"} | ({"subgroups.csv"} if kind == "acdc" else set())
    check_config(json.loads((run / "config.json").read_text()), name)
    check_environment(*json.loads((run / "environment.json").read_text()))
    weights = torch.load(run / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    assert next(key for key in weights if key.startswith(FIRST[network(name)]))
    check_rows(rows_of(run / "metrics.csv"), cases_of(prepared, kind), ORGANS[kind])
    check_summary(json.loads((run / "summary.json").read_text()), name, kind, cases_of(prepared, kind))
    check_confusion(run, ["background", *ORGANS[kind]])
    check_calibration(run, ORGANS[kind], cases_of(prepared, kind))
    check_overlays(run / "overlays", len(cases_of(prepared, kind)))
    log = (run / "log.txt").read_text()
    assert "epoch 1/1" in log
    assert "PHANTOM DATA" in log
    assert "mean of organs" in log
    check_events(run / "tensorboard", ORGANS[kind], learned="mean_mask" not in name)
    assert not list(run.rglob("*partial*"))


def check_confusion(run, names):
    """Count the confusions again from the saved cases."""
    wanted = np.zeros((len(names), len(names)), int)
    for case in load_cases(run / "cases.npz"):
        np.add.at(wanted, (case.truth, case.prediction), 1)
    with (run / "confusion.csv").open() as stream:
        rows = [list(row.values()) for row in csv.DictReader(stream)]
    pairs = [["none", "0", "0", true, predicted] for true in names for predicted in names]
    assert rows == [[*pair, str(n)] for pair, n in zip(pairs, wanted.ravel(), strict=True)]


def check_config(config, name):
    assert config["bundle_name"] == name
    assert (config["max_epochs"], config["image_size"], config["run_name"], config["seed"]) == (1, 32, "first", 0)
    assert config["device"] in ("cpu", "cuda")
    assert config["network_def"]["in_channels"] == (3 if name.endswith("_pe") else 1) if "mean" not in name else True
    if "mean" not in name:
        assert config["padding_mode"] == ("reflect" if "reflect" in name else "zeros")
    assert ("pe_alpha" in config) == name.endswith("_pe")


def check_environment(environment):
    assert environment["seed"] == 0
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["packages"]["monai"] == "1.6.1"
    assert environment["device"]["threads"] == 1
    assert environment["commit"] is None or len(environment["commit"].removesuffix("-dirty")) == 40


def check_rows(rows, cases, organs):
    assert [(row["case"], row["organ"]) for row in rows] == [(case, organ) for case in cases for organ in organs]
    for row in rows:
        assert (row["split"], row["degradation"], row["severity"], row["shift"]) == ("test", "none", "0", "0")
        assert row["case"].startswith(row["subject"])
        assert row["dice"] == "nan" or 0 <= float(row["dice"]) <= 1
        # The paper's policy: an organ that isn't found has an infinite distance.
        assert (float(row["dice"]) == 0) <= (row["hd95_mm"] in ("inf",) or float(row["hd95_mm"]) > 0)


def check_summary(summary, name, kind, cases):
    assert (summary["bundle"], summary["data"], summary["phantom"], summary["split"]) == (name, kind, True, "test")
    assert summary["cases"] == len(cases)
    [condition] = summary["conditions"]
    assert (condition["degradation"], condition["severity"], condition["shift"]) == ("none", 0, "0")
    assert list(condition["organs"]) == ORGANS[kind]
    for organ in condition["organs"].values():
        assert list(organ) == METRICS
        for values in organ.values():
            assert set(values) == {"mean", "sd", "ci95", "median", "n", "missing", "infinite"}
            assert values["n"] + values["missing"] + values["infinite"] == len(cases)
            assert (values["mean"] is None) == (values["n"] == 0)
    assert condition["mean_foreground_dice"]["n"] <= len(cases)


def check_calibration(run, organs, cases):
    """Check that every case has a row for each organ, and that the diagrams have every pixel once."""
    with (run / "calibration.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["case"], row["organ"]) for row in rows] == [(c, o) for c in cases for o in (*organs, "all classes")]
    [condition] = json.loads((run / "summary.json").read_text())["conditions"]
    assert list(condition["calibration"]) == [*organs, "all classes"]
    expected = [float(row["expected_dice"] or "nan") for row in rows if row["organ"] == organs[0]]
    assert condition["failures"][organs[0]]["n"] == np.isfinite(expected).sum()
    brier = np.mean([float(row["brier"]) for row in rows if row["organ"] == organs[0]])
    assert condition["calibration"][organs[0]]["brier"]["mean"] == pytest.approx(brier)
    with (run / "reliability.csv").open() as stream:
        points = list(csv.DictReader(stream))
    total = sum(case.truth.size for case in load_cases(run / "cases.npz"))
    for organ in (*organs, "all classes"):
        assert sum(int(point["pixels"]) for point in points if point["organ"] == organ) == total


def check_overlays(folder, cases):
    files = sorted(path.name for path in folder.iterdir())
    assert [file.split("_")[0] for file in files] == ["best", "median", "worst"]
    assert len({file.split("_", 1)[1] for file in files}) == min(cases, 3)
    for file in files:
        with Image.open(folder / file) as picture:
            assert picture.width >= 3 * 256
            assert picture.convert("L").getextrema()[1] > 200


def check_events(folder, organs, learned):
    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()
    scalars = set(tags["scalars"])
    validated = {"mean_dice", *(f"dice/{organ}" for organ in organs)}
    learns = {"loss", "loss/training", "loss/validation", "learning_rate"}
    assert validated | {"best_mean_dice"} <= scalars
    # Infinite distances can't be drawn; all others must be.
    drawn = {*validated, "best_mean_dice", *(f"hd95_mm/{o}" for o in organs), *(f"test/{tag}" for tag in validated)}
    assert scalars <= drawn | learns
    assert (learns <= scalars) == learned
    ranks = ("worst", "median", "best")
    pictures = {f"{part}overlay/{rank}" for part in ("", "test/") for rank in ranks}
    assert set(tags["images"]) == {"test/reliability", *pictures}
    assert {"configuration/text_summary", "test/results/text_summary", "custom_scalars__config__"} <= {*tags["tensors"]}
    # One folder, because TensorBoard lists each as a run.
    assert [path for path in folder.iterdir() if path.is_dir()] == []
    assert "bundle" in str(events.summary_metadata["_hparams_/session_start_info"].plugin_data.content)
    assert json.dumps(json.loads((folder.parent / "config.json").read_text())["bundle_name"]) in text_of(
        events, "configuration"
    )
    assert "PHANTOM DATA" in text_of(events, "test/results")


def text_of(events, tag):
    return events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()


def test_distances_reach_tensorboard(trained):
    tags = EventAccumulator(str(trained / "tensorboard")).Reload()
    scalars = tags.Tags()["scalars"]
    assert any(tag.startswith("hd95_mm/") for tag in scalars)
    assert [event.step for event in tags.Scalars("mean_dice")] == list(range(1, TRAINED_EPOCHS + 1))
    # 5 cases make one batch
    assert [event.step for event in tags.Scalars("loss")] == list(range(1, TRAINED_EPOCHS + 1))
    assert [event.value for event in tags.Scalars("learning_rate")] == pytest.approx([1e-3] * TRAINED_EPOCHS)


def test_evaluate_gives_the_numbers_of_the_run(run_of, tiny):
    run_here("jsrt_small_pe", entry="evaluate", **tiny)
    for name in ("metrics.csv", "confusion.csv", "calibration.csv", "reliability.csv"):
        assert (run_of / "evaluate" / name).read_text() == (run_of / name).read_text()
    assert {path.name for path in (run_of / "evaluate").iterdir()} == {
        "config.json",
        "environment.json",
        "metrics.csv",
        "confusion.csv",
        "calibration.csv",
        "reliability.csv",
        "summary.json",
        "cases.npz",
        "overlays",
    }


def test_every_subject_of_other_data_is_tested_and_never_pooled(run_of, tiny, data):
    path = data / "dataset.json"
    content = {**json.loads(path.read_text()), "name": "other"}
    everyone = {**tiny, "entry": "evaluate", "dataset_dir": str(data), "dataset__data": "$@source.cases('all')"}
    cases = [case for part in ("training", "validation", "test") for case in content[part]]
    path.write_text(json.dumps(content))
    assert "expected cases that the model was not trained on" in refusal("jsrt_small_pe", **everyone)
    for case in cases:
        case["image_sha256"] = case["image_sha256"][::-1]  # as if the images were others
    path.write_text(json.dumps(content))
    run_here("jsrt_small_pe", **everyone)
    rows = rows_of(run_of / "evaluate/metrics.csv")
    assert {row["case"] for row in rows} == {case["case"] for case in cases}
    assert {row["split"] for row in rows} == {"all"}
    assert json.loads((run_of / "evaluate/summary.json").read_text())["subjects"] == len(cases)
    [run] = read([run_of]).runs
    assert [(e.name, e.data, e.differs) for e in run.external] == [("evaluate", "other", ("data", "split"))]
    assert [e.name for e in run.pooled] == ["test"]


def test_evaluate_selects_the_latest_run_or_the_named_one(run_of, tiny):
    later = shutil.copytree(run_of, run_of.with_name("0-later"))
    (later / "config.json").touch()
    run_here("jsrt_small_pe", entry="evaluate", **tiny)
    assert [(run / "evaluate").exists() for run in (run_of, later)] == [False, True]
    run_here("jsrt_small_pe", entry="evaluate", run_name="a", **tiny)
    assert (run_of / "evaluate/metrics.csv").exists()


def test_evaluate_from_a_checkpoint_gets_a_run_folder_of_its_own(run_of, tiny):
    tiny["runs_dir"] += "-else"
    run = run_here("jsrt_small_pe", entry="evaluate", checkpoint=str(run_of / "model.pt"), run_name="b", **tiny)
    assert (run / "evaluate/metrics.csv").read_text() == (run_of / "metrics.csv").read_text()
    assert not (run_of / "evaluate").exists()


def test_robustness_covers_sixteen_conditions_starting_with_clean_images(run_of, tiny, prepared):
    run_here("jsrt_small_pe", entry="robustness", **tiny)
    rows = rows_of(run_of / "robustness/metrics.csv")
    cases = cases_of(prepared, "jsrt")
    kinds = ("gaussian_noise", "gaussian_blur", "shot_noise")
    wanted = {("none", "0"), *((kind, str(severity)) for kind in kinds for severity in range(1, 6))}
    assert len(rows) == 16 * len(cases) * 3
    assert {(row["degradation"], row["severity"]) for row in rows} == wanted
    clean = [row for row in rows if row["severity"] == "0"]
    assert clean == rows_of(run_of / "metrics.csv") == rows[: len(clean)]
    noisy = [row["dice"] for row in rows if (row["degradation"], row["severity"]) == ("gaussian_noise", "5")]
    assert noisy != [row["dice"] for row in clean]
    conditions = json.loads((run_of / "robustness/summary.json").read_text())["conditions"]
    assert len(conditions) == 16
    guidance = {"images": 0, "tensors": 0}
    events = EventAccumulator(str(run_of / "tensorboard"), size_guidance=guidance).Reload()  # the training's too
    noise = [conditions[0], *(c for c in conditions if c["degradation"] == "gaussian_noise")]
    curve = events.Scalars("robustness/gaussian_noise/dice/heart")
    assert [event.step for event in curve] == list(range(6))
    assert [event.value for event in curve] == pytest.approx([c["organs"]["heart"]["dice"]["mean"] for c in noise])
    assert [event.step for event in events.Images("robustness/gaussian_noise/example")] == list(range(6))
    assert len(events.Tensors("configuration/text_summary")) == 1
    assert (
        b"^robustness/gaussian_noise/dice/" in events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0]
    )
    check_conditions_of_confusions(run_of, "robustness", wanted)


def check_conditions_of_confusions(run, entry, wanted):
    """Find the matrix of every condition, the clean one that of the test, each of all pixels."""
    with (run / entry / "confusion.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    with (run / "confusion.csv").open() as stream:
        clean = list(csv.DictReader(stream))
    assert rows[: len(clean)] == clean
    sums = {}
    for row in rows:
        key = (row["degradation"], row["severity"]) if entry == "robustness" else row["shift"]
        sums[key] = sums.get(key, 0) + int(row["pixels"])
    assert sums == dict.fromkeys(wanted, sum(int(row["pixels"]) for row in clean))


def test_shift_covers_both_directions_of_both_axes(run_of, tiny, prepared):
    run_here("jsrt_small_pe", entry="shift", **tiny)
    rows = rows_of(run_of / "shift/metrics.csv")
    wanted = {"0", *(f"{axis}{sign}{n}" for axis in "xy" for sign in "+-" for n in range(8, 65, 8))}
    assert len(wanted) == 33
    assert {row["shift"] for row in rows} == wanted
    assert len(rows) == 33 * len(cases_of(prepared, "jsrt")) * 3
    clean = [row for row in rows if row["shift"] == "0"]
    assert clean == rows_of(run_of / "metrics.csv")
    check_conditions_of_confusions(run_of, "shift", wanted)
    # A shift of 32 px or more moves every organ out of a picture of 32 px, so the truth is empty.
    for row in rows:
        if row["shift"][1:] in ("+64", "-64"):
            assert row["dice"] in ("nan", "0.0"), row


def test_robustness_and_shift_of_volumes(prepared, tiny):
    tiny["dataset_dir"] = str(prepared["acdc"])
    run = run_here("acdc_small_pe", train_cases=1, **tiny)
    run_here("acdc_small_pe", entry="shift", shift_pixels=[4], **tiny)
    rows = rows_of(run / "shift/metrics.csv")
    assert [row for row in rows if row["shift"] == "0"] == rows_of(run / "metrics.csv")
    assert len(rows) == 5 * len(cases_of(prepared, "acdc")) * 3


def test_as_a_user_from_any_folder(prepared, tmp_path):
    """Read arguments from a file, override a nested value, and tell the user that the data are phantoms."""
    arguments = {"dataset_dir": str(prepared["jsrt"]), "image_size": 32, "train#trainer#max_epochs": 2}
    (tmp_path / "arguments.json").write_text(json.dumps(arguments))
    (tmp_path / "overlay.json").write_text(
        json.dumps({"lr": 0.01, "train::dataloader::batch_size": "@my_batch", "my_batch": 2})
    )
    done = run_bundle("jsrt_small_pe", tmp_path / "overlay.json", args_file="arguments.json", seed=3, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    run = newest(tmp_path / "runs")
    assert run.parent.name == "jsrt_small_pe"
    config = json.loads((run / "config.json").read_text())
    assert (config["lr"], config["seed"], config["my_batch"]) == (0.01, 3, 2)
    assert "epoch 2/2" in done.stdout
    assert "jsrt_small_pe: test split of jsrt PHANTOMS, 2 cases of 2 subjects" in done.stdout
    assert "PHANTOM DATA" in done.stdout
    for organ in ("right lung", "left lung", "heart", "mean of organs"):
        assert f"\n  {organ} " in done.stdout
    losses = EventAccumulator(str(run / "tensorboard")).Reload().Scalars("loss")
    assert len(losses) == 6  # 5 cases in batches of 2, twice


def test_config_of_a_run_gives_the_same_weights_again(trained, tmp_path):
    run = run_here(trained / "config.json", run_name="b", runs_dir=str(tmp_path / "runs"))
    one, other = (torch.load(folder / "model.pt", weights_only=True) for folder in (trained, run))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (run / "metrics.csv").read_text() == (trained / "metrics.csv").read_text()


def test_another_seed_gives_different_weights(trained, tiny):
    run = run_here("jsrt_small_pe", **{**tiny, "max_epochs": TRAINED_EPOCHS, "seed": 1})
    one, other = (torch.load(folder / "model.pt", weights_only=True) for folder in (trained, run))
    assert not torch.equal(one["score.weight"], other["score.weight"])


def test_number_of_workers_changes_nothing(trained, tiny):
    run = run_here("jsrt_small_pe", **{**tiny, "max_epochs": TRAINED_EPOCHS, "num_workers": 2})
    one, other = (torch.load(folder / "resume.pt", weights_only=True)["network"] for folder in (trained, run))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_phantoms_are_made_with_a_warning_where_there_are_no_data(tmp_path, tiny):
    """Start without any data, as in a fresh clone, with the bundle's short schedule except for the number of epochs."""
    del tiny["dataset_dir"]
    run = run_here("jsrt_mean_mask", bundle_root=str(tmp_path), phantom_cases=6, **tiny)
    assert json.loads((tmp_path / "data/phantoms/jsrt/dataset.json").read_text())["phantom"] is True
    assert json.loads((run / "summary.json").read_text())["phantom"] is True
    assert (tmp_path / "data/phantoms/jsrt/images").is_dir()
    assert [path.name for path in (tmp_path / "data/phantoms").iterdir() if path.is_dir()] == ["jsrt"]  # no raw left
    made = (tmp_path / "data/phantoms/jsrt/dataset.json").stat().st_mtime_ns
    run_here("jsrt_mean_mask", bundle_root=str(tmp_path), phantom_cases=6, run_name="again", **tiny)
    assert (tmp_path / "data/phantoms/jsrt/dataset.json").stat().st_mtime_ns == made


def test_real_data_at_the_default_place_give_no_message_about_phantoms(prepared, tmp_path, tiny, caplog):
    del tiny["dataset_dir"]
    shutil.copytree(prepared["jsrt"], tmp_path / "data/jsrt")
    content = json.loads((tmp_path / "data/jsrt/dataset.json").read_text())
    (tmp_path / "data/jsrt/dataset.json").write_text(json.dumps({**content, "phantom": False}))
    run = run_here("jsrt_mean_mask", bundle_root=str(tmp_path), **tiny)
    assert json.loads((run / "summary.json").read_text())["phantom"] is False
    assert "phantom" not in (run / "log.txt").read_text().lower()
    assert not (tmp_path / "data/phantoms").exists()


@pytest.mark.parametrize("name", ["jsrt_pe", "acdc_small_pe"])  # the latter has a phantom schedule of its own
def test_paper_schedule_on_real_data_and_short_one_on_phantoms(name, prepared, tmp_path):
    computed = prepared[name.partition("_")[0]]
    data = shutil.copytree(computed, tmp_path / "data")
    content = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**content, "phantom": False}))
    keys = ("image_size", "batch_size", "max_epochs", "lr")
    real = parser(name, dataset_dir=str(data))
    phantoms.apply(real)
    assert [real.get_parsed_content(key) for key in keys] == [256, 20, 100, 1e-3]
    assert isinstance(real.get_parsed_content("train::loss"), torch.nn.CrossEntropyLoss)
    assert isinstance(real.get_parsed_content("train::optimizer"), torch.optim.Adam)
    short = parser(name, dataset_dir=str(computed))
    phantoms.apply(short)
    assert short.get_parsed_content("max_epochs") < 100
    assert short.get_parsed_content("image_size") < 256


def test_train_cases_draws_subjects_by_seed(prepared):
    drawn = [
        parser("jsrt_small", dataset_dir=str(prepared["jsrt"]), train_cases=2, seed=seed).get_parsed_content(
            "train::dataset"
        )
        for seed in (0, 0, 1, 2)
    ]
    names = [[case["case"] for case in dataset.data] for dataset in drawn]
    assert len(names[0]) == 2
    assert names[0] == names[1]
    assert names[0] != names[2] or names[0] != names[3]


@pytest.mark.parametrize("value", [0, 6, "all", 1.5])
def test_train_cases_out_of_range(value, tiny):
    message = refusal("jsrt_small", train_cases=value, **tiny)
    assert "train_cases: expected" in message
    assert ("1 to 5" if value == 6 else "an integer of at least 1") in message
