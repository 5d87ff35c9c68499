"""Draw the filters, activations and preferred images of every network."""

import json
import re
import shutil

import inferer_runs
import numpy as np
import pytest
import torch
from PIL import Image
from running import ROOT
from scipy import ndimage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from typer.testing import CliRunner

from medpos import explain
from medpos.__main__ import app, main
from medpos.core.errors import InputError
from medpos.explain import drawing, explanation, figures
from medpos.explain.ascent import _blurred
from medpos.explain.layers import compute_features
from medpos.export import export
from medpos.networks import SegNet, SmallCNN
from medpos.predict.model import Model

NAMES = ["image", "position x", "position y"]
PICTURES = ["filters", "activations", "activations_own_scale", "ascent"]
FEW = explain.AscentSettings(steps=4)
WINDOWS = {"_target_": "SlidingWindowInferer", "roi_size": [32, 32], "sw_batch_size": 4}
VOTES = {"_target_": "medpos.inferers.VotingInferer", "size": 24, "step": 12}
TILES = {"_target_": "medpos.inferers.OverlapTileInferer", "size": 284}
# Options of the network, inferer, deepest layer with stride and field, size of the image and of the ascent's image.
RUNS = {
    "UNet": ({}, WINDOWS, ("conv5_2", 16, 140), 32, 32),
    "SmallCNN": ({}, WINDOWS, ("conv3", 1, 7), 32, 32),
    "UNet2015": ({}, TILES, ("conv5", 16, 140), 284, 252),
    "UNetPlusPlus": ({"out_channels": 4, "deep_supervision": True}, WINDOWS, ("nodes.x40", 16, 140), 32, 32),
    "PlainUNet": ({"out_channels": 4}, WINDOWS, ("nodes.x40", 16, 140), 32, 32),
    "SegNet": ({}, {"_target_": "SimpleInferer"}, ("pool:5", 32, 212), 128, 128),
    "SegNetBasic": ({}, {"_target_": "SimpleInferer"}, ("pool:4", 16, 106), 128, 128),
    "AuxiliaryUNet": ({}, WINDOWS, ("backbone.encoder5", 16, 140), 32, 32),
}


def made(trained, tmp_path, name):
    options, inferer, *_ = RUNS[name]
    network = {"_target_": f"medpos.networks.{name}", "in_channels": 1, "out_channels": 4, "width": 1 / 16, **options}
    return inferer_runs.made_from(trained, tmp_path / "bundle" / name, network, inferer)


@pytest.fixture(scope="module")
def model(trained):
    return Model(trained)


@pytest.fixture(scope="module")
def seen(model):
    return explain.load_input_image(model, "", None)


@pytest.fixture
def run(trained, tmp_path):
    """Copy a run, so that it may be changed."""
    return shutil.copytree(trained, tmp_path / "runs/jsrt_small_pe/a")


def call(*arguments):
    return CliRunner().invoke(app, ["explain", *map(str, arguments), "--steps", "2"], catch_exceptions=False)


def events_of(run):
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    return events


def test_command_writes_pictures_record_and_events(run):
    result = call(run)
    assert result.exit_code == 0
    assert "network trained on PHANTOMS" in result.stderr
    folder = run / "explain"
    assert {path.name for path in folder.iterdir()} == {f"{name}.png" for name in PICTURES} | {"explain.json"}
    for name in PICTURES:
        assert np.ptp(np.asarray(Image.open(folder / f"{name}.png").convert("L"))) > 100
    record = json.loads((folder / "explain.json").read_text())
    assert (record["run"], record["phantom"], record["channels"]) == ("jsrt_small_pe/a", True, NAMES)
    assert record["filters"] == {"layer": "conv1.conv", "shape": [64, 3, 3, 3]}
    activations = record["activations"]
    assert [activations[key] for key in ("layer", "stride_px", "receptive_field_px")] == ["conv3", 1, 7]
    assert record["activations"]["shape"] == [64, 32, 32]
    assert len(record["ascent"]["activation"]) == 3
    tags = events_of(run).Tags()
    unit = f"conv3/unit {record['ascent']['unit']}"
    assert {"explain/filters", *(f"explain/{name}/{unit}" for name in PICTURES[1:])} <= set(tags["images"])
    rise = [event.value for event in events_of(run).Scalars(f"explain/activation/{unit}")]
    assert rise == pytest.approx(record["ascent"]["activation"], rel=1e-5)


def test_nothing_is_overwritten(run, tmp_path, model, seen):
    assert call(run, "--unit", 3, "--layer", "conv2").exit_code == 0
    before = (run / "explain/explain.json").read_bytes()
    assert json.loads(before)["ascent"]["unit"] == 3
    other = explain.explain_network(model, seen, explain.ExplainOptions(settings=FEW))
    assert explain.write_explanation(other, run) == run / "explain-2"
    for name in ("out", "out-2"):
        assert explain.write_explanation(other, run, tmp_path / "out") == tmp_path / name
        assert (tmp_path / name / "explain.json").is_file()
    assert (run / "explain/explain.json").read_bytes() == before


@pytest.mark.parametrize("name", RUNS)
def test_every_network(name, trained, tmp_path):
    found = Model(made(trained, tmp_path, name))
    seen = explain.load_input_image(found, "", None)
    *_, (layer, stride, field), size, climbed = RUNS[name]
    result = explain.explain_network(found, seen, explain.ExplainOptions(settings=explain.AscentSettings(steps=2)))
    record = result.record
    assert list(result.figures) == PICTURES
    activations = record["activations"]
    assert (activations["layer"], activations["stride_px"], activations["receptive_field_px"]) == (layer, stride, field)
    assert record["image"]["size"] == [size, size]
    assert record["ascent"]["size"] == [climbed, climbed]
    assert record["layers"][-1] == "output"
    assert np.isfinite(result.activations).all()


def test_neighboring_slices(trained_heart, tmp_path):
    """Show U-SegNet the slice with its two neighbors; the ascent changes all three."""
    network = {"_target_": "medpos.networks.USegNet", "width": 1 / 8}
    found = Model(inferer_runs.made_from(trained_heart, tmp_path / "runs/a", network, VOTES))
    seen = explain.load_input_image(found, "", None)
    assert seen.channels == ("image, slice -1", "image", "image, slice +1")
    assert seen.free.tolist() == [True] * 3
    assert seen.values.shape == (3, 24, 24)
    result = explain.explain_network(found, seen, explain.ExplainOptions(settings=FEW))
    assert result.record["image"]["slice"] == seen.slice > 1
    assert axes_titles(result.figures["ascent"])[0].startswith("image, slice -1, ")
    assert result.activations[-1] > result.activations[0]


def axes_titles(figure):
    return [axes.get_title() or axes.get_title("left") for axes in figure.axes]


@pytest.mark.parametrize("goal", ["mean", "center"])
def test_ascent_raises_the_activation(goal, model, seen):
    features = compute_features(model.network, "conv2", seen.values[None])[0]
    unit = int(features.mean((1, 2)).argmax())
    found = explain.ascend(model.network, "conv2", unit, seen.values, seen.free, goal)
    channel = compute_features(model.network, "conv2", found.image[None])[0, unit]
    value = channel.mean() if goal == "mean" else channel[16, 16]
    assert found.activations[-1] == pytest.approx(float(value.detach()), rel=1e-5)
    assert found.activations[-1] > found.activations[0] + 0.3
    assert len(found.activations) == 101


def test_position_channels_are_fixed_and_the_start_is_noise(model, seen):
    found = explain.ascend(model.network, "conv2", 1, seen.values, seen.free, settings=FEW)
    torch.testing.assert_close(found.image[1:], seen.values[1:], rtol=0, atol=0)
    other = seen.values.clone()
    other[0] = 5.0
    again = explain.ascend(model.network, "conv2", 1, other, seen.free, settings=FEW)
    torch.testing.assert_close(found.image, again.image, rtol=0, atol=0)


def test_ascent_is_reproducible_by_seed(model, seen):
    first, again, other = (
        explain.ascend(
            model.network, "conv2", 1, seen.values, seen.free, settings=explain.AscentSettings(steps=5, seed=seed)
        )
        for seed in (3, 3, 4)
    )
    torch.testing.assert_close(first.image, again.image, rtol=0, atol=0)
    assert first.activations == again.activations
    assert not torch.allclose(first.image[0], other.image[0])


@pytest.mark.parametrize("left", ["decay", "blur", "jitter"])
def test_each_regularization_has_its_effect(left, model, seen):
    """Check that decay shrinks the values, blur smooths, and jitter spreads the image."""
    unit = int(compute_features(model.network, "conv3", seen.values[None])[0].mean((1, 2)).argmax())
    plain = explain.AscentSettings(steps=12).unregularized()
    on = explain.AscentSettings(**{**vars(plain), left: {"decay": 0.1, "blur": 1.0, "jitter": 4}[left]})
    without, regularised = (
        explain.ascend(model.network, "conv3", unit, seen.values, seen.free, "center", s).image[0] for s in (plain, on)
    )
    if left == "decay":
        assert regularised.norm() < 0.8 * without.norm()
    elif left == "blur":
        rough = [(image.diff(dim=0).norm() / image.norm()).item() for image in (regularised, without)]
        assert rough[0] < 0.7 * rough[1]
    else:
        noise = explain.ascend(model.network, "conv3", unit, seen.values, seen.free, "center", STILL).image[0]
        moved = [((image - noise).abs() > 1e-4).sum().item() for image in (regularised, without)]
        assert moved[1] <= 49 < moved[0]  # without jitter the 7 x 7 px that the pixel sees


STILL = explain.AscentSettings(steps=1, rate=0.0).unregularized()


def test_blur_is_scipys():
    image = torch.rand(2, 9, 11, generator=torch.Generator().manual_seed(0))
    wanted = np.stack([ndimage.gaussian_filter(channel.numpy(), 0.8, mode="nearest") for channel in image])
    np.testing.assert_allclose(_blurred(image, 0.8).numpy(), wanted, atol=1e-6)


def test_a_silent_unit_becomes_active():
    """Start from a unit with a bias that silences noise, so that its gradient is 0."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3), nn.ReLU()).eval()
    nn.init.constant_(network[0].bias, -0.5)
    nn.init.constant_(network[2].bias, -0.2)
    found = explain.ascend(network, "3", 0, torch.zeros(1, 16, 16), torch.tensor([True]))
    assert found.activations[0] == 0
    assert found.activations[-1] > 0.1


def test_a_silent_unit_is_reported(run):
    weights = torch.load(run / "model.pt", weights_only=True)
    weights["conv3.norm.weight"][5], weights["conv3.norm.bias"][5] = 0.0, -1.0
    torch.save(weights, run / "model.pt")
    result = call(run, "--unit", 5)
    assert result.exit_code == 0
    assert "did not rise" in result.stderr
    assert "did not rise" not in call(run).stderr


@pytest.mark.parametrize(("n", "columns"), [(1, 0), (7, 0), (64, 0), (10, 4)])
def test_a_grid_has_as_many_tiles_as_filters(n, columns):
    tiles = np.arange(n * 6, dtype=np.float32).reshape(n, 2, 3)
    page = drawing.make_grid(tiles, columns)
    _, found = ndimage.label(~np.isnan(page))
    assert found == n
    across = columns or int(np.ceil(np.sqrt(n)))
    np.testing.assert_array_equal(page[:3, :2], tiles[0].T)  # x along the columns
    last = divmod(n - 1, across)
    np.testing.assert_array_equal(page[last[0] * 4 :][:3, last[1] * 3 :][:, :2], tiles[-1].T)


def test_large_tiles_are_averaged():
    page = drawing.make_grid(np.ones((16, 700, 600), np.float32))
    assert max(page.shape) <= 1210
    assert np.nanmin(page) == np.nanmax(page) == 1


def test_filters_are_the_first_convolutions(model, seen):
    figure = explain.explain_network(model, seen, explain.ExplainOptions(settings=FEW)).figures["filters"]
    assert axes_titles(figure)[:3] == NAMES
    weight = model.network.conv1.conv.weight.detach().numpy()
    for place, axes in enumerate(figure.axes[:3]):
        page = axes.images[0].get_array().filled(np.nan)
        assert ndimage.label(~np.isnan(page))[1] == 64
        np.testing.assert_allclose(page[:3, 4:7], weight[1, place].T)
    assert figure.axes[0].images[0].get_clim() == pytest.approx((-abs(weight).max(), abs(weight).max()))
    assert "PHANTOM DATA" in figure.get_suptitle()


def test_activations_are_the_layers(model, seen):
    result = explain.explain_network(model, seen, explain.ExplainOptions("conv2.norm", 3, settings=FEW))
    with torch.no_grad():
        # Before the ReLU, which writes over what the normalisation gave.
        wanted = model.network.conv2.norm(model.network.conv2.conv(model.network.conv1(seen.values[None])))[0].numpy()
    image = result.figures["activations"].axes[0].images[0]
    np.testing.assert_allclose(image.get_array().filled(np.nan)[:32, :32], wanted[0].T, atol=1e-5)
    assert image.get_clim() == pytest.approx((wanted.min(), wanted.max()), abs=1e-5)
    own = result.figures["activations_own_scale"].axes[0].images[0].get_array().filled(np.nan)[:32, 33:65]
    assert (own.min(), own.max()) == (0, 1)
    assert "sees 5 px" in result.figures["activations"].get_suptitle()


def test_color_filters_are_shown_in_color(model, seen):
    network = SmallCNN(3, width=1 / 8)
    colour = explain.input_image.InputImage("a", None, seen.values, ("red", "green", "blue"), torch.ones(3, dtype=bool))
    name, weight = explanation.first_filters(network, colour.values)
    figure = figures.draw_filters(name, weight, colour, [])
    page = figure.axes[0].images[0].get_array()
    assert page.shape == (11, 11, 3)
    tile = weight[0].permute(2, 1, 0).detach().numpy()
    np.testing.assert_allclose(page[:3, :3], (tile - tile.min()) / np.ptp(tile), atol=1e-6)
    assert list(figures.channel_pictures(colour.values, colour)) == ["red, green, blue"]


def test_images_by_file_and_by_case(run, model, prepared, tmp_path):
    entry = json.loads((prepared["jsrt"] / "dataset.json").read_text())
    first, other = entry["test"][0], entry["training"][0]
    default = explain.load_input_image(model, "", None)
    assert default.name == first["case"]
    by_case = explain.load_input_image(model, other["case"], None)
    by_file = explain.load_input_image(model, str(prepared["jsrt"] / other["image"]), None)
    assert by_case.name == other["case"]
    torch.testing.assert_close(by_case.values, by_file.values)
    assert not torch.equal(by_case.values, default.values)
    moved = shutil.copytree(prepared["jsrt"], tmp_path / "moved")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "data_folder": str(tmp_path / "gone")}))
    without = Model(run)
    with pytest.raises(InputError, match=r"no image is given, and its data can't be read .*--image FILE, or .*--data"):
        explain.load_input_image(without, "", None)
    torch.testing.assert_close(explain.load_input_image(without, "", moved).values, default.values)


def test_exported_bundles(trained, tmp_path, prepared):
    bundle = export(trained, tmp_path / "exported", ROOT)
    image = next((prepared["jsrt"] / "images").glob("*.nii.gz"))
    assert call(bundle, "--image", image).exit_code == 0
    assert (bundle / "explain/ascent.png").is_file()
    assert not (bundle / "tensorboard").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--layer", "conv9"], r"--layer: expected one of conv1.conv, conv1.norm, .*score, output, got 'conv9'"),
        (["--unit", "64"], r"--unit: expected a channel of conv3, 0 to 63, got 64"),
        (["--unit", "-1"], r"--unit: expected a channel of conv3, 0 to 63, got -1"),
        (["--image", "nobody"], r"--image nobody: expected a file or a case of the data, got neither; cases are \w+"),
        (["--image", "DATA"], r"expected one image, got 8; give one of .*nii.gz"),
        (["--goal", "sum"], r"--goal: expected one of mean, center, got 'sum'"),
        (["--steps", "0"], r"--steps: expected 1 to 10000, got 0"),
        (["--out", ""], r"--out: expected the name of a new folder, got '\.'"),
        (["--steps", "99999999999999999999"], r"--steps: expected 1 to 10000, got 99999999999999999999"),
    ],
)
def test_bad_input(options, words, run, prepared, monkeypatch, capsys):
    given = [str(prepared["jsrt"] / "images") if word == "DATA" else word for word in options]
    monkeypatch.setattr("sys.argv", ["medpos", "explain", str(run), *given])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(words, error), error
    assert not (run / "explain").exists()


def test_mean_mask_has_nothing_to_show(trained, tmp_path):
    network = {"_target_": "medpos.networks.MeanMask", "size": [32, 32]}
    run = inferer_runs.made_from(trained, tmp_path / "a", network, WINDOWS, resized=True)
    with pytest.raises(InputError, match="MeanMask: expected a network with convolutions"):
        explain.load_input_image(Model(run), "", None)


def test_unknown_layer_of_features():
    network = SegNet(1, 2, width=1 / 64).eval()
    image = torch.zeros(1, 1, 32, 32)
    assert compute_features(network, "pool:2", image).shape == (1, 2, 8, 8)
    with pytest.raises(InputError, match=r"--layer: expected one of conv1.conv1_1.conv, .*pool:5, .*got 'pool:6'"):
        compute_features(network, "pool:6", image)
    assert not any(module._forward_hooks for module in network.modules())


def test_nothing_behind_the_layer_is_computed():
    class Refuses(nn.Module):
        def forward(self, features):
            raise AssertionError

    network = nn.Sequential(nn.Conv2d(1, 2, 3), Refuses())
    assert compute_features(network, "0", torch.zeros(1, 1, 5, 5)).shape == (1, 2, 3, 3)
