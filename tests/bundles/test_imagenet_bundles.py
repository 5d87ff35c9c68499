"""Test the bundles that classify whole images: SUNet's pretraining, its recipe, and the use of its runs."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from metadata_schema import SCHEMA
from monai.bundle import verify_metadata, verify_net_in_out
from PIL import Image
from running import (
    BUNDLES,
    CLASSIFIERS,
    at,
    config_file,
    kept_state,
    leave_to_torture,
    parser,
    refusal,
    run_here,
    targets,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from data_prep.phantoms import write
from medpos.__main__ import app
from medpos.bundle.pretrained import begin
from medpos.core.colors import PUBLISHED as PUBLISHED
from medpos.core.errors import InputError
from medpos.explain import AscentSettings, ExplainOptions, explain_network, load_input_image
from medpos.predict.model import Model
from medpos.study import declaration, models

# From 64 px on; where a strided convolution gets 1 x 1 px, PyTorch 2.13's bf16 leaves its gradient uninitialized.
SMALL = {"image_size": 64, "batch_size": 8, "network_def#width": 1 / 32}
FILES = {"config.json", "environment.json", "data.json", "log.txt", "model.pt", "resume.pt", "predictions.csv"}
FILES |= {"summary.json", "tensorboard"}
RECIPE = {
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "image_size": 224,
    "publisher": "torchvision",
    "max_epochs": 100,
    "phantom::values": {"batch_size": 8, "max_epochs": 2},
    "network_def::out_channels": "@classes",
    "color_jitter": 0.4,
    "lighting": 0.1,
    "steps::vary_colors::amount": "@color_jitter",
    "steps::vary_lighting::std": "@lighting",
    "train::loss::_target_": "torch.nn.CrossEntropyLoss",
    "train::optimizer::_target_": "torch.optim.SGD",
    "train::optimizer::nesterov": True,
    "train::optimizer::momentum": "@momentum",
    "train::optimizer::weight_decay": "@weight_decay",
    "train::schedule::_target_": "medpos.optim.schedules.step",
    "train::handlers::-1::_target_": "medpos.handlers.LearningRate",
    "steps::crop::size": "@image_size",
    "steps::flip::spatial_axis": 0,
    "validate::key_metric::top1::_target_": "medpos.handlers.TopK",
    "key_metric::top1::_target_": "medpos.handlers.TopK",
}
SUNET = {
    **RECIPE,
    "network_def::_target_": "medpos.networks.SUNetClassifier",
    "network_def::depth": "@depth",
    "network_def::dense": "@dense",
    "depth": 2,
    "dense": False,
}
OTHER = {
    **RECIPE,
    "lr": 0.1,
    "weight_decay": 0.0001,
    "max_epochs": 90,
    "batch_size": 256,
    "network_def::depth": "$int(@variant)",
}
RECIPES = {
    "imagenet_sunet64": {**SUNET, "variant": "64", "batch_size": 256},
    "imagenet_sunet128": {**SUNET, "variant": "128", "batch_size": 256},
    "imagenet_sunet7_128": {**SUNET, "variant": "7-128", "batch_size": 212},
    "imagenet_resnet": {
        **OTHER,
        "variant": 50,
        "network_def::_target_": "medpos.networks.ResNetClassifier",
        "color_jitter": 0.0,
        "lighting": 0.0,
        "train::optimizer::nesterov": False,
    },
    "imagenet_densenet": {**OTHER, "variant": 161, "network_def::_target_": "medpos.networks.DenseNetClassifier"},
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Write phantoms, which are read in place: ten classes, 40 training images, ten validation images."""
    folder = tmp_path_factory.mktemp("photographs") / "imagenet"
    write("imagenet", folder, cases=50)
    return folder


@pytest.fixture(scope="module")
def trained(photographs, tmp_path_factory):
    """Finish a run of two epochs; copy it, don't write to it."""
    runs_dir = str(tmp_path_factory.mktemp("runs"))
    return run_here(
        "imagenet_sunet64", dataset_dir=str(photographs), runs_dir=runs_dir, run_name="a", max_epochs=2, **SMALL
    )


@pytest.fixture
def options(photographs, tmp_path):
    return {"dataset_dir": str(photographs), "runs_dir": str(tmp_path / "runs"), **SMALL}


@pytest.fixture
def two_colors(tmp_path):
    """Write two classes of dark and bright noise, 80 training images each and four for validation."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 80), ("val", 4)):
        for name, low in (("n1", 0), ("n2", 128)):
            (tmp_path / "two" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(low, low + 128, (40, 50, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / f"two/{part}/{name}/{number}.png")
    return str(tmp_path / "two")


def scalars(run, name):
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars(name)]


def built(key, options, name="imagenet_sunet64", **overrides):
    with kept_state():
        return parser(name, **{**options, **overrides}).get_parsed_content(key)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_recipe_is_complete(name):
    config = parser(name).get()
    assert {path: at(config, path) for path in RECIPES[name]} == RECIPES[name]
    colors = ["medpos.transforms.RandColorJitter", "medpos.transforms.RandLighting"]
    assert targets(config, "train::preprocessing") == [
        "medpos.transforms.RandResizedCrop",
        *colors,
        "RandFlipd",
        "@standardise",
    ]
    assert targets(config, "decode")[3:] == ["medpos.transforms.ResizeShortSide", "CenterSpatialCropd"]
    assert targets(config, "train::dataset::decode") == targets(config, "decode")[:3]


@pytest.mark.parametrize("name", leave_to_torture(CLASSIFIERS, {"imagenet_densenet", "imagenet_sunet7_128"}))
def test_two_epochs_give_a_complete_run_folder(name, trained, options):
    # Two epochs are the default with phantoms.
    run = trained if name == "imagenet_sunet64" else run_here(name, run_name="a", **options)
    assert {path.name for path in run.iterdir()} == FILES
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    assert len({row["case"] for row in rows}) == len(rows) == 10
    assert all(row["case"].split("/")[1] == row["class"] for row in rows)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["bundle"], summary["phantom"], summary["split"]) == (name, True, "validation")
    [condition] = summary["conditions"]
    for k in (1, 5):
        assert condition[f"top{k}"] == sum(int(row["rank"]) <= k for row in rows) / 10
    config = json.loads((run / "config.json").read_text())
    assert (config["classes"], config["max_epochs"], config["short_side"]) == (10, 2, 73)
    assert len(json.loads((run / "data.json").read_text())["labels"]) == 10
    log = (run / "log.txt").read_text()
    assert "epoch 2/2; loss " in log
    assert "; top1 0." in log
    assert "; best 0." in log
    assert "PHANTOM DATA" in log
    assert len(scalars(run, "loss")) == 10
    for metric in ("learning_rate", "top1", "top5"):
        assert len(scalars(run, metric)) == 2
    weights = torch.load(run / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_the_rate_falls_tenfold_every_30_epochs(options):
    schedule, loader = (built(f"train::{key}", options) for key in ("schedule", "dataloader"))
    assert len(loader) == 5
    rates = [schedule(0.01, epoch * 5) for epoch in (0, 29, 30, 60, 90, 99)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-5, 1e-5])
    assert schedule(0.01, 149) == 0.01


def test_validation_resizes_the_short_side_and_crops_the_center(options):
    large = {"image_size": 112}
    data = built("validate::dataset", options, **large)
    assert built("short_side", options, **large) == 128
    assert built("short_side", options, image_size=224) == 256
    item = data[0]
    with Image.open(data.data[0]["image"]) as image:
        sides = [128 * side // min(image.size) for side in image.size]
        pixels = np.asarray(image.convert("RGB").resize(sides, Image.Resampling.BILINEAR), np.float32) / 255
    x, y = ((side - 112) // 2 for side in sides)
    mean, std = (np.array(values) for values in PUBLISHED["torchvision"])
    wanted = ((pixels[y : y + 112, x : x + 112] - mean) / std).transpose(2, 1, 0)
    assert item["image"].shape == (3, 112, 112)
    np.testing.assert_allclose(item["image"].numpy(), wanted, atol=0.02)  # Pillow rounds to 8 bits


def test_training_crops_differ_in_every_epoch(options):
    data = built("train::dataset", options)
    first = data[0]["image"]
    assert first.shape == (3, 64, 64)
    assert torch.equal(data[0]["image"], first)
    data.epoch = 1
    assert not torch.equal(data[0]["image"], first)


def test_a_killed_training_resumes_bit_identically(trained, options):
    part = run_here("imagenet_sunet64", run_name="part", max_epochs=1, **options)
    (part / "summary.json").unlink()
    run_here("imagenet_sunet64", run_name="part", max_epochs=2, resume=True, **options)
    for name in ("model.pt", "resume.pt"):
        one, other = (torch.load(run / name, weights_only=True) for run in (trained, part))
        one, other = one.get("network", one), other.get("network", other)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    for name in ("predictions.csv", "summary.json"):
        assert (part / name).read_text() == (trained / name).read_text()


def test_it_learns_and_keeps_the_model_of_the_best_top1(two_colors, options):
    # Wide margins, so that no rounding of a processor matters: at width 1/32 gradients explode, and the running
    # statistics of batch normalization take about 50 steps to follow.
    given = {"dataset_dir": two_colors, "network_def#width": 1 / 8, "lr": 0.003, "max_epochs": 3}
    run = run_here("imagenet_sunet64", **{**options, **given})
    epoch_losses = np.array(scalars(run, "loss")).reshape(3, 20).mean(axis=1)
    assert epoch_losses[-1] < 0.5 * epoch_losses[0]
    top1 = scalars(run, "top1")
    assert max(top1) == 1
    best_epoch = 1 + int(np.argmax(top1))
    state = torch.load(run / "resume.pt", weights_only=True)
    assert (state["best_metric_epoch"], state["best_metric"]) == (best_epoch, 1)
    kept, last = torch.load(run / "model.pt", weights_only=True), state["network"]
    assert all(torch.equal(kept[name], last[name]) for name in kept) == (best_epoch == 3)
    # The test is of the best model, on the same images.
    assert json.loads((run / "summary.json").read_text())["conditions"][0]["top1"] == 1


def test_conditions_of_a_run(trained, options, tmp_path):
    shutil.copytree(trained, tmp_path / "runs/imagenet_sunet64/a")
    counts = {"evaluate": 1, "robustness": 16, "shift": 5}
    for entry, count in counts.items():
        run_here("imagenet_sunet64", entry=entry, run_name="a", shift_pixels=[8], **options)
        folder = tmp_path / "runs/imagenet_sunet64/a" / entry
        conditions = json.loads((folder / "summary.json").read_text())["conditions"]
        assert len(conditions) == count
        assert conditions[0] == json.loads((trained / "summary.json").read_text())["conditions"][0]
        with (folder / "predictions.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == 10 * count


@pytest.mark.parametrize("weights", [False, True], ids=["transplant", "weights"])
def test_segmentation_starts_from_the_classifier(trained, weights, tmp_path):
    """Load a run's file unchanged; a published file has rows before columns, so its kernels are transposed."""
    given = {"weights" if weights else "transplant": str(trained / "model.pt")}
    with kept_state():
        config = parser("voc_sunet64", network_def__width=1 / 32, image_size=32, device="cpu", **given)
        network = config.get_parsed_content("network_def")
        before = network.final.conv1.weight.clone()
        config.get_parsed_content("initialize")
    state = torch.load(trained / "model.pt", weights_only=True)
    own = network.state_dict()
    features = [name for name in state if name.startswith("features.")]
    assert {*features, "linear.weight", "linear.bias"} == set(state)
    assert set(own) - set(features) == {"final.conv1.weight", "final.conv1.bias"}
    for name in features:
        turned = weights and state[name].dim() == 4
        assert torch.equal(own[name], state[name].mT if turned else state[name])
    assert torch.equal(network.final.conv1.weight, before)


def test_transplanting_another_variant_is_refused(trained):
    with kept_state():
        network = parser("voc_sunet128", network_def__width=1 / 32).get_parsed_content("network_def")
        with pytest.raises(InputError, match=r"model.pt: SUNet: these weights can't be transplanted: .* another shape"):
            begin(network, transplant=str(trained / "model.pt"))


def test_explain_shows_what_the_classifier_sees(trained, photographs):
    model = Model(trained, device="cpu")
    image = next((photographs / "val").rglob("*.JPEG"))
    seen = load_input_image(model, str(image), None)
    assert seen.values.shape == (3, 64, 64)
    cases = {"image": str(image), "label": 0, "case": "a"}
    data = built("validate::dataset", {"dataset_dir": str(photographs), **SMALL})
    data.data = [cases]
    torch.testing.assert_close(seen.values, data[0]["image"], atol=1e-4, rtol=1e-4)
    found = explain_network(model, seen, ExplainOptions(settings=AscentSettings(steps=2)))
    assert list(found.figures) == ["filters", "activations", "activations_own_scale", "ascent"]
    assert found.record["filters"]["layer"] == "features.conv1"
    assert found.record["activations"]["layer"].startswith("features.unet4_0")
    assert found.record["activations"]["stride_px"] == 64  # a u-net+ pools once more
    with pytest.raises(InputError, match=r"--image: expected a file, .* got ''"):
        load_input_image(model, "", None)


def test_commands_for_segmentations_refuse_a_classifier(trained, photographs, tmp_path):
    calls = [
        ["report", trained, "--out", tmp_path / "report"],
        ["predict", trained, photographs / "val", "--out", tmp_path / "predicted"],
        ["export", trained, "--out", tmp_path / "exported"],
        ["card", trained, "--out", tmp_path / "card.md"],
        ["study", "table1", "--bundle", BUNDLES / "imagenet_sunet64.json"],
    ]
    for call in calls:
        error = CliRunner().invoke(app, [str(part) for part in call]).exception
        assert isinstance(error, InputError)
        assert "expected a segmentation, got a classification of whole images; give a segmentation" in str(error)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="got a classification of whole images"):
        models.resolve_configuration(BUNDLES / "imagenet_sunet64.json", {})
    with pytest.raises(InputError, match="does not exist, and the study needs it"):
        declaration.load(BUNDLES / "studies", "table1", bundle=BUNDLES / "nowhere.json")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"variant": "256"}, ["got '256'", "64, 128, 7-128"]),
        ({"dataset_dir": "/nowhere/at-all"}, ["/nowhere/at-all: expected a folder with train and val, found none"]),
        ({"train_cases": 41}, ["train_cases: expected 1 to 40", "got 41"]),
        ({"image_size": 16}, ["image_size 16", "29"]),
        ({"shortside": 3}, ["--shortside:", "--short_side?"]),
        ({"weights": "a", "transplant": "b"}, ["expected --weights or --transplant, got both"]),
    ],
)
def test_bad_input(override, words, options, tmp_path):
    message = refusal("imagenet_sunet64", **{**options, **override})
    assert [word for word in words if word not in message] == []
    assert not (tmp_path / "runs").exists()


def test_a_broken_image_is_named(two_colors, options, tmp_path):
    (tmp_path / "two/val/n1/0.png").write_text("no image")
    message = refusal("imagenet_sunet64", **{**options, "dataset_dir": two_colors})
    assert "val/n1/0.png: can't be read as an image" in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_metadata(name, tmp_path):
    meta = str(BUNDLES / "metadata_imagenet.json")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    verify_metadata(meta_file=meta, filepath=str(tmp_path / "schema.json"))
    small = {"classes": 1000, "network_def#width": 1 / 16}
    with kept_state():
        verify_net_in_out("network_def", meta, config_file(name), device="cpu", n=2, **small)
