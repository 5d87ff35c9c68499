"""Compare the labels of other backends with those of PyTorch."""

import json
import shutil

import numpy as np
import pytest
from running import ROOT

from medpos.core.errors import InputError
from medpos.export import export
from medpos.predict import quantization
from medpos.predict.label_maps import compute_label_map
from medpos.predict.model import Model


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_labels_are_those_of_torch(chest, heart, chest_run, heart_run, xray, stack, backend):
    pytest.importorskip(backend)
    images = (xray[1][..., None], np.asarray(stack[1].dataobj))
    for ensemble, run, image in zip((chest, heart), (chest_run, heart_run), images, strict=True):
        model = Model(run, backend=backend)
        expected = compute_label_map(ensemble.probabilities(ensemble.decode(image)), image.shape)
        found = compute_label_map(model.probabilities(model.decode(image)), image.shape)
        # Networks of a few epochs have near ties, which bf16 decides otherwise.
        assert (found == expected).mean() > 0.99


def test_refusals(chest_run):
    with pytest.raises(InputError, match="expected one of torch"):
        Model(chest_run, backend="tensorflow")
    with pytest.raises(InputError, match=r"no CUDA device|expected --device cpu"):
        Model(chest_run, device="cuda", backend="onnxruntime")
    with pytest.raises(InputError, match="expected cpu, cuda"):
        Model(chest_run, device="abacus")


class TestInt8:
    @pytest.fixture(autouse=True)
    def needs_nncf(self):
        pytest.importorskip("nncf")
        pytest.importorskip("openvino")

    @pytest.fixture
    def run(self, chest_run, tmp_path):
        return shutil.copytree(chest_run, tmp_path / "run")

    def test_a_network_is_quantized_once_and_checked(self, run, prepared, xray, monkeypatch):
        model = Model(run, prepared["jsrt"], backend="openvino", precision="int8")
        found = json.loads((run / "int8/check.json").read_text())
        assert found["equal_labels"] >= quantization.LEAST_EQUAL
        assert found["images"] > 0
        assert {"right_lung", "left_lung", "heart"} == set(found["dice_change"])
        assert 'element_type="i8"' in (run / "int8/network.xml").read_text()
        image = xray[1][..., None]
        first = model.probabilities(model.decode(image))
        monkeypatch.setattr(quantization, "_quantize", None)  # and not again, nor are the data needed
        again = Model(run, backend="openvino", precision="int8")
        assert np.array_equal(again.probabilities(again.decode(image)), first)
        expected = compute_label_map(Model(run).probabilities(again.decode(image)), image.shape)
        assert (compute_label_map(first, image.shape) == expected).mean() > quantization.LEAST_EQUAL

    def test_a_network_that_differs_is_refused_and_not_kept(self, run, prepared, monkeypatch):
        monkeypatch.setattr(quantization, "LEAST_EQUAL", 1.1)
        with pytest.raises(InputError, match=r"expected at least 110.0% equal labels .* got \d+\.\d+% equal labels"):
            Model(run, prepared["jsrt"], backend="openvino", precision="int8")
        assert not (run / "int8").exists()

    def test_a_kept_network_is_of_the_same_weights(self, run, prepared):
        (run / "int8").mkdir()
        (run / "int8/check.json").write_text('{"weights": "another", "shape": [3, 32, 32]}')
        with pytest.raises(InputError, match="remove the folder"):
            Model(run, prepared["jsrt"], backend="openvino", precision="int8")

    def test_a_damaged_network_is_refused(self, run, prepared):
        model = Model(run)
        (run / "int8").mkdir()
        about = {"weights": model.identity, "shape": list(model.input_shape)}
        (run / "int8/check.json").write_text(json.dumps(about))
        for content in (None, "<net", ""):
            if content is not None:
                (run / "int8/network.xml").write_text(content)
            with pytest.raises(
                InputError, match=r"network\.xml: expected an OpenVINO network, got a damaged or missing"
            ):
                Model(run, backend="openvino", precision="int8")

    def test_refusals(self, run, prepared):
        with pytest.raises(InputError, match="expected int8, got 'int4'"):
            Model(run, backend="openvino", precision="int4")
        with pytest.raises(InputError, match="expected --backend openvino with it, got --backend torch"):
            Model(run, precision="int8")
        for folder in (prepared["acdc"], run / "nothing"):
            with pytest.raises(InputError, match="training data"):
                Model(run, folder, backend="openvino", precision="int8")

    def test_an_exported_bundle_needs_its_training_data(self, trained, prepared, tmp_path):
        copied = export(trained, tmp_path / "bundle", ROOT)
        with pytest.raises(InputError, match="which doesn't say where they are; give them by --dataset-dir"):
            Model(copied, backend="openvino", precision="int8")
        assert Model(copied, prepared["jsrt"], backend="openvino", precision="int8").precision == "int8"
        shutil.rmtree(copied / "int8")
        with pytest.raises(InputError, match="got other classes or channels"):
            Model(copied, prepared["acdc"], backend="openvino", precision="int8")
