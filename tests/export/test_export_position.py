"""Export networks that append their position channels themselves, for every encoding, and compare all their forms."""

import json
import shutil

import nibabel
import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser
from running import ROOT, kept_state, leave_to_torture, run_here

from medpos.core.errors import InputError
from medpos.export import export
from medpos.networks import AppendPosition, SmallCNN, build_with_position
from medpos.predict import cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model
from medpos.transforms import ENCODINGS, PositionChannels, channel_count

OTHER = (48, 33)  # a size that nothing was exported for


def encoded(run, folder, **values):
    """Copy a run with other values of its flat keys, and drawn weights."""
    folder.mkdir()
    config = {**json.loads((run / "config.json").read_text()), **values}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("data.json", "environment.json"):
        shutil.copy(run / name, folder)
    torch.manual_seed(0)
    with kept_state():
        network = ConfigParser({**config, "_meta_": {}}).get_parsed_content("network_def")
    torch.save(network.state_dict(), folder / "model.pt")
    return folder


def forms(bundle):
    """Return the functions from an image to logits of the eager network, TorchScript and ONNX."""
    with kept_state():
        parser = ConfigParser()
        parser.read_config(bundle / "configs/inference.json")
        eager = parser.get_parsed_content("network_def").eval()
    eager.load_state_dict(torch.load(bundle / "models/model.pt", weights_only=True))
    session = onnxruntime.InferenceSession(str(bundle / "models/model.onnx"), providers=["CPUExecutionProvider"])
    return {
        "model.pt": eager,
        "model.ts": torch.jit.load(str(bundle / "models/model.ts")),
        "model.onnx": lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0]),
    }


def read_card(bundle):
    """Return the text of the model card as one line."""
    return " ".join((bundle / "docs/README.md").read_text().split())


def logits_of(run, image):
    """Return the run's own logits for a standardized image without position channels [N, 1, X, Y]."""
    model = Model(run, device="cpu")
    prepared = torch.stack([model._standardise.transforms[-1]({"image": one})["image"] for one in image])
    return model.network(prepared)


@pytest.mark.parametrize("range", leave_to_torture(["symmetric", "positive"], ["positive"]))
@pytest.mark.parametrize("encoding", ENCODINGS)
@torch.no_grad()
def test_every_encoding_is_in_the_exported_network(encoding, range, trained, tmp_path):
    run = encoded(trained, tmp_path / "run", encoding=encoding, pe_range=range, encoding_bands=3, pe_alpha=2.5)
    bundle = export(run, tmp_path / "bundle", ROOT)
    taken = json.loads((bundle / "configs/metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    assert (taken["num_channels"], taken["channel_def"]) == (1, {"0": "image"})
    for count, size in ((1, (32, 32)), (3, (32, 32)), (2, OTHER)):
        image = torch.randn(count, 1, *size)
        wanted = logits_of(run, image)
        for name, form in forms(bundle).items():
            torch.testing.assert_close(form(image), wanted, rtol=0, atol=1e-4, msg=f"{name} at {size}")
    card = read_card(bundle)
    assert "Sizes of `model.ts` and `model.onnx`: any width and height, though training used 32 x 32 px." in card
    assert ("They append the channels of the position themselves" in card) == (channel_count(encoding, 3) > 0)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.torture
def test_predictions_stay(encoding, trained_heart, first_image, tmp_path):
    run = encoded(trained_heart, tmp_path / "run", encoding=encoding)
    bundle = export(run, tmp_path / "bundle", ROOT)
    maps = {}
    for folder in (run, bundle):
        for backend in ("torch", "onnxruntime"):
            out = tmp_path / f"{folder.name}-{backend}"
            ensemble = Ensemble([Model(folder, device="cpu", backend=backend)])
            cohort.predict_cases(ensemble, inputs.find_cases([str(first_image("acdc"))], out), out)
            [file] = out.glob("*.nii.gz")
            maps[out.name] = np.asarray(nibabel.load(file).dataobj)
    assert np.array_equal(maps["run-torch"], maps["bundle-torch"])
    assert np.array_equal(maps["run-onnxruntime"], maps["bundle-onnxruntime"])
    assert len(np.unique(maps["run-torch"])) > 1


@pytest.mark.slow
def test_the_unet_of_the_study(tiny, tmp_path):
    run = run_here("jsrt_pe", **tiny)
    bundle = export(run, tmp_path / "bundle", ROOT)
    for size in ((32, 32), (64, 48)):  # multiples of 16
        image = torch.randn(2, 1, *size)
        for name, form in forms(bundle).items():
            with torch.no_grad():
                torch.testing.assert_close(form(image), logits_of(run, image), rtol=0, atol=1e-4, msg=name)


def test_channels_of_windows_come_from_outside(trained, first_image, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    windows = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16], "sw_batch_size": 4}
    config["inferer"]["inferer"] = windows
    (run / "config.json").write_text(json.dumps(config))
    bundle = export(run, tmp_path / "bundle", ROOT)
    taken = json.loads((bundle / "configs/metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    assert list(taken["channel_def"].values()) == ["image", "x", "y"]
    assert "those of the window's place in the whole image" in read_card(bundle)
    image = torch.rand(1, 32, 32)
    one, other = (Model(folder, device="cpu").probabilities(image) for folder in (run, bundle))
    assert torch.equal(one, other)


def test_a_network_for_one_size_says_so(tiny, tmp_path):
    run = run_here("jsrt_mean_mask", **tiny)
    card = read_card(export(run, tmp_path / "bundle", ROOT))
    assert "Sizes of `model.ts` and `model.onnx`: 32 x 32 px alone." in card


def test_bundles_exported_before_stay_usable(chest_bundle, trained, first_image, tmp_path):
    """Earlier ones have the position channels in the preprocessing, and a network of three channels."""
    old = shutil.copytree(chest_bundle, tmp_path / "old")
    config = json.loads((old / "configs/inference.json").read_text())
    config["network_def"] = config["network_def"]["network"]
    config["standardise"]["transforms"].append("@steps::position")
    (old / "configs/inference.json").write_text(json.dumps(config))
    image = torch.rand(1, 32, 32)
    found = [Model(folder, device="cpu") for folder in (old, chest_bundle, trained)]
    assert [model.input_shape for model in found] == [(3, 32, 32)] * 3
    assert torch.equal(found[0].probabilities(image), found[2].probabilities(image))
    assert torch.equal(found[1].probabilities(image), found[2].probabilities(image))


class TestAppendPosition:
    def built(self, encoding="linear"):
        torch.manual_seed(0)
        network = build_with_position(SmallCNN, encoding).eval()
        return network, AppendPosition(network, PositionChannels(3.0, encoding=encoding))

    @pytest.mark.parametrize("encoding", ["linear", "radial", "learned"])
    def test_weights_are_those_of_the_network_alone(self, encoding):
        network, layer = self.built(encoding)
        state = {key: value.clone() for key, value in network.state_dict().items()}
        assert list(layer.state_dict()) == list(state)
        _, fresh = self.built(encoding)
        torch.manual_seed(1)
        for value in fresh.parameters():
            torch.nn.init.normal_(value)
        fresh.load_state_dict(state)
        assert all(torch.equal(fresh.state_dict()[key], value) for key, value in state.items())
        inside = torch.nn.Sequential(layer)
        assert set(inside.state_dict()) == {f"0.{key}" for key in state}
        inside.load_state_dict({f"0.{key}": value for key, value in state.items()})

    @torch.no_grad()
    def test_an_image_with_its_channels_is_passed_on(self):
        network, layer = self.built()
        image = torch.randn(2, 1, 24, 20)
        full = layer.append(image)
        assert full.shape == (2, 3, 24, 20)
        assert torch.equal(layer(image), network(full))
        assert torch.equal(layer(full), network(full))

    @pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (7, 4), (33, 256)])
    @pytest.mark.parametrize("x_axis", [1, 2])
    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_a_trace_follows_the_size_of_the_image(self, encoding, x_axis, size):
        position = PositionChannels(3.0, "positive", x_axis, encoding=encoding, bands=1)
        traced = torch.jit.trace(lambda image: image.sum() + position.compute(image), torch.rand(1, 1, 9, 6))
        image = torch.zeros(1, 1, *size)
        if encoding == "fourier" and min(size) == 1:
            with pytest.raises(InputError, match="expected at most 0 for 1 px"):
                position.compute(image)
            return
        torch.testing.assert_close(traced(image), position.compute(image), rtol=0, atol=2e-6)
