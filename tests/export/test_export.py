"""Check exported bundles with MONAI's own tools, and their results against those of the run, without its data."""

import json
import shutil
import sys

import monai.bundle
import nibabel
import numpy as np
import onnxruntime
import pytest
import torch
from metadata_schema import SCHEMA
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out
from PIL import Image
from running import BUNDLES, ROOT, kept_state, run_here
from typer.testing import CliRunner

import medpos
from medpos.__main__ import app
from medpos.core.errors import InputError
from medpos.data import DataFolder
from medpos.export import export
from medpos.predict import cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model
from medpos.transforms import PositionChannels

FILES = {
    "LICENSE",
    "configs/evaluate.json",
    "configs/inference.json",
    "configs/logging.conf",
    "configs/metadata.json",
    "configs/multi_gpu_train.json",
    "configs/train.json",
    "docs/README.md",
    "models/model.onnx",
    "models/model.pt",
    "models/model.ts",
}


@pytest.fixture(params=["chest", "heart"])
def pair(request):
    """Return a bundle and its run."""
    run = {"chest": "trained", "heart": "trained_heart"}[request.param]
    return request.getfixturevalue(f"{request.param}_bundle"), request.getfixturevalue(run)


def segment(bundle, given, out):
    """Run ``python -m monai.bundle run --config_file configs/inference.json`` in this process."""
    with kept_state():
        monai.bundle.run(
            config_file=str(bundle / "configs/inference.json"),
            logging_file=False,
            bundle_root=str(bundle),
            dataset_dir=str(given),
            output_dir=str(out),
        )
    return out


def predicted(run, given, out):
    summary = cohort.predict_cases(
        Ensemble([Model(run)]), inputs.find_cases([str(given)], out), out, cohort.Options(overlays=False)
    )
    assert not summary.failed
    return out


def test_folder_is_that_of_the_model_zoo(pair):
    bundle, run = pair
    assert {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()} == FILES
    assert (bundle / "models/model.pt").read_bytes() == (run / "model.pt").read_bytes()
    text = "".join((bundle / name).read_text() for name in FILES if not name.startswith("models/"))
    assert str(run.parents[2]) not in text
    assert "/home/" not in text


def test_monais_own_checks(pair, tmp_path):
    bundle, _ = pair
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    meta = str(bundle / "configs/metadata.json")
    verify_metadata(meta_file=meta, filepath=str(tmp_path / "schema.json"))
    for name in ("inference", "train"):
        with kept_state():
            verify_net_in_out("network_def", meta, str(bundle / f"configs/{name}.json"), device="cpu")
    with kept_state():
        workflow = ConfigWorkflow(
            str(bundle / "configs/inference.json"),
            workflow_type="infer",
            logging_file=False,
            bundle_root=str(bundle),
            dataset_dir=str(bundle),
            dataset=[],
        )
        workflow.initialize()
        assert not workflow.check_properties()


def test_three_forms_agree(pair):
    bundle, run = pair
    model = Model(run, device="cpu")
    own = torch.randn(3, 1, *model.input_shape[1:])
    image = torch.stack([PositionChannels(3.0)({"image": one})["image"] for one in own])
    with kept_state():
        eager, training = (
            monai.bundle.load(bundle.name, bundle_dir=bundle.parent, workflow_type=kind, device="cpu").eval()
            for kind in ("inference", "train")
        )
        script, metadata, _ = monai.bundle.load(
            bundle.name, bundle_dir=bundle.parent, load_ts_module=True, device="cpu"
        )
    session = onnxruntime.InferenceSession(str(bundle / "models/model.onnx"), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        wanted = model.network(image)
        forms = [eager(own), training(own), script.eval()(own), training(image)]
    forms.append(torch.from_numpy(session.run(None, {"image": own.numpy()})[0]))
    for found in forms:
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
        assert torch.equal(found.argmax(1), wanted.argmax(1))
    assert metadata["required_packages_version"]["medpos"] == medpos.__version__


def test_inference_equals_predict_without_the_data(pair, first_image, tmp_path, monkeypatch):
    bundle, run = pair
    images = tmp_path / "images"
    images.mkdir()
    kind = "jsrt" if bundle.name == "chest" else "acdc"
    path = first_image(kind)
    shutil.copy(path, images / "plain.nii.gz")
    image = nibabel.load(path)
    turned = image.as_reoriented(np.array([[1, 1], [0, -1], [2, 1]]))
    nibabel.save(nibabel.Nifti1Image(np.asarray(turned.dataobj), turned.affine), images / "turned.nii.gz")
    gray = np.asarray(image.dataobj)[..., 0]
    if bundle.name == "chest":
        Image.fromarray(gray.T.astype(np.uint16)).save(images / "picture.png")
    wanted = predicted(run, images, tmp_path / "predicted")
    # Elsewhere, and with no data to be had.
    moved = shutil.copytree(bundle, tmp_path / "elsewhere")
    monkeypatch.setattr(DataFolder, "__init__", lambda *_: pytest.fail("asked for the data"))
    found = segment(moved, images, tmp_path / "found")
    files = sorted(path.name for path in images.iterdir())
    assert sorted(path.name for path in found.iterdir()) == files
    for name in files:
        assert (found / name).read_bytes() == (wanted / name).read_bytes(), name
    assert len(np.unique(np.asarray(nibabel.load(found / "plain.nii.gz").dataobj))) > 1


def test_dicom_comes_back_as_its_segmentation(chest_bundle, trained, first_image, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    sys.path.insert(0, str(ROOT / "tests/predict"))
    from images import case_of, dicom, save

    gray = np.asarray(nibabel.load(first_image("jsrt")).dataobj)[..., 0]
    content = dicom(gray.T)
    save(content, tmp_path / "in/a.dcm")
    wanted = predicted(trained, tmp_path / "in", tmp_path / "wanted") / f"{case_of(content)}.dcm"
    found = segment(chest_bundle, tmp_path / "in", tmp_path / "found") / f"{case_of(content)}.dcm"
    found, wanted = pydicom.dcmread(found), pydicom.dcmread(wanted)
    assert found.Modality == "SEG"
    assert np.array_equal(found.pixel_array, wanted.pixel_array)


def test_predict_takes_a_bundle_and_mixes_it(chest_bundle, trained, first_image, tmp_path):
    wanted = predicted(trained, first_image("jsrt"), tmp_path / "run")
    found = predicted(chest_bundle, first_image("jsrt"), tmp_path / "bundle")
    name = first_image("jsrt").name
    assert (found / name).read_bytes() == (wanted / name).read_bytes()
    with pytest.raises(InputError, match="expected other weights than those of"):
        Ensemble([Model(chest_bundle), Model(trained)])
    other = shutil.copytree(trained, tmp_path / "other")
    weights = torch.load(other / "model.pt", weights_only=True)
    # Other weights, by so little that hardly a label changes.
    torch.save({key: value * (1 + 1e-6) for key, value in weights.items()}, other / "model.pt")
    both = Ensemble([Model(chest_bundle), Model(other)])
    cohort.predict_cases(both, inputs.find_cases([str(first_image("jsrt"))], tmp_path / "both"), tmp_path / "both")
    mixed, alone = (nibabel.load(folder / name).get_fdata() for folder in (tmp_path / "both", wanted))
    assert np.mean(mixed == alone) > 0.999


def test_card_has_the_runs_own_table(pair):
    bundle, run = pair
    text = (bundle / "docs/README.md").read_text()
    (condition,) = json.loads((run / "summary.json").read_text())["conditions"]
    for metrics in condition["organs"].values():
        assert f"| {metrics['dice']['mean']:.3f}" in text
    assert text.count("PHANTOM") >= 3
    assert "\n| 44 | " in text  # the CLAIM checklist
    assert str(run) not in text
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    assert "PHANTOM" in metadata["description"]
    assert metadata["eval_metrics"]["mean_dice"] == condition["mean_foreground_dice"]["mean"]


def test_exported_weights_are_tested_again_with_the_data(chest_bundle, trained, prepared, tmp_path):
    folder = run_here(
        chest_bundle / "configs/train.json",
        chest_bundle / "configs/evaluate.json",
        bundle_root=str(chest_bundle),
        dataset_dir=str(prepared["jsrt"]),
        runs_dir=str(tmp_path),
    )
    assert (folder / "evaluate/metrics.csv").read_text() == (trained / "metrics.csv").read_text()


@pytest.mark.parametrize(("name", "options"), [("jsrt_mean_mask", {}), ("jsrt_pe", {"encoding": "learned"})])
def test_other_networks(name, options, tiny, first_image, tmp_path):
    run = run_here(name, **tiny, **options)
    bundle = export(run, tmp_path / "bundle", ROOT)
    path = first_image("jsrt")
    found = segment(bundle, path, tmp_path / "found") / path.name
    assert found.read_bytes() == (predicted(run, path, tmp_path / "wanted") / path.name).read_bytes()
    with kept_state():
        network = monai.bundle.load(bundle.name, bundle_dir=tmp_path, workflow_type="inference", device="cpu")
    state = torch.load(run / "model.pt", weights_only=True)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_a_run_of_several_processes_is_exported_for_one(chest_bundle, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "a")
    files = [str(run / "config.json"), str(BUNDLES / "multi_gpu.json")]
    config = ConfigParser.load_config_files(files)
    del config["_desc_"]
    (run / "config.json").write_text(json.dumps({**config, "device": "cpu"}))
    bundle = export(run, tmp_path / "bundle", ROOT)
    for name in ("inference", "train"):
        found, wanted = (json.loads((folder / f"configs/{name}.json").read_text()) for folder in (bundle, chest_bundle))
        found["imports"] = [line for line in found["imports"] if line != "$import os"]
        assert {**found, "known_keys": []} == {**wanted, "known_keys": []}


def test_refusals_leave_nothing_behind(trained, chest_bundle, tmp_path, monkeypatch):
    def refused(run, out):
        result = CliRunner().invoke(app, ["export", str(run), "--out", str(out)])
        assert isinstance(result.exception, InputError)
        return str(result.exception)

    weightless = shutil.copytree(trained, tmp_path / "weightless")
    (weightless / "model.pt").unlink()
    assert "expected model.pt, got none; train it for at least one epoch" in refused(weightless, tmp_path / "a")
    assert "expected a run folder" in refused(tmp_path / "nowhere", tmp_path / "a")
    assert "expected a run, got an exported bundle" in refused(chest_bundle, tmp_path / "a")
    assert "expected a folder that doesn't exist" in refused(trained, weightless)
    places = shutil.copytree(trained, tmp_path / "places")
    config = json.loads((places / "config.json").read_text())
    config["network_def"]["padding_mode"] = "$'zeros' if @data_folder else 'reflect'"
    (places / "config.json").write_text(json.dumps(config))
    assert "got references to data_folder, which an export can't contain" in refused(places, tmp_path / "a")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "onnx is not installed" in refused(trained, tmp_path / "a")
    assert "pip install 'medpos[export]'" in refused(trained, tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["places", "weightless"]


def test_forms_that_differ_are_refused(trained, tmp_path, monkeypatch):
    from medpos.export import models

    real = models.write_onnx

    def wrong(network, example, path, any_size=False):
        with torch.no_grad():
            network.network.score.bias += 1
        real(network, example, path, any_size)
        with torch.no_grad():
            network.network.score.bias -= 1

    monkeypatch.setattr(models, "write_onnx", wrong)
    with pytest.raises(InputError, match=r"expected model.onnx to give the logits .*, got a difference of 1"):
        export(trained, tmp_path / "bundle", ROOT)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_bundle_is_refused(chest_bundle, tmp_path):
    broken = shutil.copytree(chest_bundle, tmp_path / "broken")
    config = json.loads((broken / "configs/inference.json").read_text())
    del config["source"]["labels"]
    (broken / "configs/inference.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="expected a source that describes the training data"):
        Model(broken)
    (broken / "models/model.pt").unlink()
    with pytest.raises(InputError, match=r"expected models/model\.pt, got none; export it again"):
        Model(broken)
    newer = shutil.copytree(chest_bundle, tmp_path / "newer")
    metadata = json.loads((newer / "configs/metadata.json").read_text())
    metadata["required_packages_version"]["medpos"] = "99.0"
    (newer / "configs/metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match=r"got one of 99\.0"):
        Model(newer)
