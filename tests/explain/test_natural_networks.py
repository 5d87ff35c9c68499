"""Explain the networks of natural images, as their bundles build them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from running import kept_state, leave_to_torture, parser, run_here
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from medpos import explain
from medpos.__main__ import app
from medpos.data.folder import DataFolder
from medpos.data.training_data import TrainingData
from medpos.explain import explanation, figures
from medpos.explain.figures import LEVELS
from medpos.explain.layers import compute_features
from medpos.networks.sunet.network import select_strongest
from medpos.predict.model import Model

PICTURES = ["filters", "activations", "activations_own_scale", "ascent"]
WHOLE = (83, 125)  # size in pixels of the first test image, for networks that take images of any size
# Overrides; first filters; deepest layer with stride and field; size of image and ascent; another layer.
BUNDLES = {
    "voc_fcn32s": ({}, "conv1.conv1_1", ("fc6", 32, 404), WHOLE, "score_fr"),
    "voc_fcn16s": ({}, "conv1.conv1_1", ("fc6", 32, 404), WHOLE, "score_pool4"),
    "voc_fcn8s": ({}, "conv1.conv1_1", ("fc6", 32, 404), WHOLE, "pool:3"),
    "voc_fcn8s_at_once": ({}, "conv1.conv1_1", ("fc6", 32, 404), WHOLE, "scale_pool3"),
    "voc_fcn_alexnet": ({}, "conv1", ("fc6", 32, 355), WHOLE, "norm:2"),
    "voc_fcn_googlenet": ({}, "conv1.conv", ("inception5b", 32, 715), WHOLE, "inception4a"),
    "voc_deeplab_largefov": ({"window": 65}, "trunk.conv1_1", ("heads.0", 8, 435), (65, 65), "heads.0.fc6"),
    "voc_deeplab_aspp": ({"window": 65}, "trunk.conv1_1", ("heads.3", 8, 611), (65, 65), "trunk.pool5"),
    # Of three scales the smallest has the largest field in the image, about twice that of the full scale.
    "voc_deeplab_resnet101": ({"window": 65}, "trunk.conv1", ("heads.3:3", 16, 2821), (65, 65), "trunk.layer2:2"),
    "voc_sunet64": ({"image_size": 64}, "features.conv1", ("features.unet3_3.down.1", 64, 2491), (64, 64), "final"),
    "retina_unet": ({}, "backbone.encoder1.0.conv", ("backbone.encoder5", 16, 140), (64, 64), "decode_head"),
}


def made(name, secondary, folder, **changes):
    """Make a run of a bundle with a narrow network and random weights."""
    data = secondary[name.split("_")[0]]
    overrides = {**BUNDLES[name][0], "data_folder": str(data), "device": "cpu", "network_def__width": 1 / 16, **changes}
    run = folder / "runs" / name / "a"
    run.mkdir(parents=True)
    with kept_state():
        config = parser(name, **overrides)
        torch.manual_seed(0)
        network = config.get_parsed_content("network_def")
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d) and not layer.weight.any():  # scores begin at zero
            torch.nn.init.normal_(layer.weight)
    torch.save(network.state_dict(), run / "model.pt")
    (run / "config.json").write_text(json.dumps({key: value for key, value in config.get().items() if key != "_meta_"}))
    TrainingData.from_folder(DataFolder(data)).write(run)
    return run


# The largest networks take as long as all the others.
@pytest.mark.parametrize("name", leave_to_torture(BUNDLES, {"voc_deeplab_resnet101", "voc_sunet64"}))
def test_every_bundle(name, secondary, tmp_path):
    _, first, deepest, size, other = BUNDLES[name]
    model = Model(made(name, secondary, tmp_path))
    seen = explain.load_input_image(model, "", None)
    options = explain.ExplainOptions(goal="center", settings=explain.AscentSettings(steps=3))
    found = explain.explain_network(model, seen, options)
    record = found.record
    activations = record["activations"]
    assert record["filters"]["layer"] == first
    assert tuple(activations[key] for key in ("layer", "stride_px", "receptive_field_px")) == deepest
    assert tuple(record["image"]["size"]) == tuple(record["ascent"]["size"]) == size
    assert list(found.figures)[:4] == PICTURES
    assert np.isfinite(found.activations).all()
    assert found.activations[-1] > found.activations[0]
    assert other in record["layers"]
    assert compute_features(model.network, other, seen.values[None]).isfinite().all()


def test_ascent_takes_the_sizes_of_the_network(secondary, tmp_path):
    """Expect sides up to 256 px: 32 k + 1 for DeepLab's three scales, 8 k + 1 for one."""
    for name, side in (("voc_deeplab_largefov", 249), ("voc_deeplab_resnet101", 225)):
        model = Model(made(name, secondary, tmp_path, window=321))
        assert explanation._ascent_sides(model.network, torch.zeros(3, 321, 321)) == [side, side]


def test_channels_of_caffe_are_named_and_shown_in_their_colors(secondary, tmp_path):
    """Expect pictures in red, green, blue for weights that take blue, green, red in [0, 255]."""
    publishers = ("caffe", "torchvision")
    models = [Model(made("voc_fcn32s", secondary, tmp_path / name, publisher=name)) for name in publishers]
    caffe, torchvision = (explain.load_input_image(model, "", None) for model in models)
    assert caffe.channels == ("blue", "green", "red")
    assert torchvision.channels == ("red", "green", "blue")
    assert (caffe.colors, torchvision.colors) == ([2, 1, 0], [0, 1, 2])
    shown = [
        figures.channel_pictures(seen.values * torch.ones(1), seen)["red, green, blue"] for seen in (caffe, torchvision)
    ]
    assert np.corrcoef(shown[0].ravel(), shown[1].ravel())[0, 1] > 0.99
    assert np.corrcoef(shown[0][..., ::-1].ravel(), shown[1].ravel())[0, 1] < 0.95
    found = explain.explain_network(
        models[0], caffe, explain.ExplainOptions("conv1", settings=explain.AscentSettings(steps=2))
    )
    page = found.figures["filters"].axes[0].images[0].get_array()
    tile = models[0].network.conv1.conv1_1.weight[0].flip(0).permute(2, 1, 0).detach().numpy()
    np.testing.assert_allclose(page[:3, :3], (tile - tile.min()) / np.ptp(tile), atol=1e-5)
    assert found.record["ascent"]["scale"] == pytest.approx(float(caffe.values.std()))
    assert found.record["ascent"]["scale"] > 30


def test_ascent_is_in_standard_deviations_of_the_image():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3)).eval()
    start, free = torch.zeros(1, 9, 9), torch.ones(1, dtype=torch.bool)
    one, fifty = (explain.ascend(network, "0", 0, start, free, scale=scale).image for scale in (1.0, 50.0))
    torch.testing.assert_close(fifty, 50 * one)


def test_levels_of_sunet(secondary, tmp_path):
    run = made("voc_sunet64", secondary, tmp_path)
    (run / "tensorboard").mkdir()
    model = Model(run)
    seen = explain.load_input_image(model, "", None)
    found = explain.explain_network(model, seen, explain.ExplainOptions(settings=explain.AscentSettings(steps=1)))
    axes = found.figures["levels"].axes
    sides = dict(zip(LEVELS, (16, 16, 8, 4, 4, 4), strict=True))
    titles = ["red, green, blue", *(f"{name}, {side} x {side} px" for name, side in sides.items())]
    assert [each.get_title() for each in axes if each.get_title()] == titles
    with torch.no_grad():
        levels = model.network.levels(seen.values[None])
    for place, features in zip(axes[1:], levels, strict=False):
        wanted = select_strongest(features)[0].T
        np.testing.assert_allclose(place.images[0].get_array().filled(np.nan), wanted, rtol=1e-4, atol=1e-5)
    folder = explain.write_explanation(found, run)
    assert np.ptp(np.asarray(Image.open(folder / "levels.png").convert("L"))) > 100
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert "explain/levels" in events.Tags()["images"]


def test_command_on_a_trained_fcn(secondary, tmp_path):
    overrides = {"dataset_dir": str(secondary["voc"]), "runs_dir": str(tmp_path / "runs"), "network_def__width": 1 / 16}
    run = run_here("voc_fcn32s", run_name="a", max_epochs=1, image_size=65, publisher="caffe", **overrides)
    result = CliRunner().invoke(app, ["explain", str(run), "--layer", "fc7", "--steps", "2"], catch_exceptions=False)
    assert result.exit_code == 0
    folder = run / "explain"
    assert {path.name for path in folder.iterdir()} == {f"{name}.png" for name in PICTURES} | {"explain.json"}
    record = json.loads((folder / "explain.json").read_text())
    assert record["channels"] == ["blue", "green", "red"]
    assert record["activations"]["receptive_field_px"] == 404
