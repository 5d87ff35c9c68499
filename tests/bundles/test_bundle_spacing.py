"""Train on one pixel size by --spacing_mm; evaluate it in mm, predict on the grid of the image, and export it."""

import json
import shutil

import monai
import nibabel
import numpy as np
import pytest
import torch
from running import BUNDLES, ROOT, kept_state, parser, refusal, run_here

from medpos.data import DataFolder
from medpos.export import export
from medpos.predict import cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model
from medpos.predict.records import Options
from medpos.runs.identity import ResultSettings, compute_identity
from medpos.transforms import Resampled

SIDE, PIXEL = 80, [6.0, 6.0]  # the hearts' largest field of view is 434 mm
OTHER_GRIDS = [{"spacing_mm": None}, {"spacing_mm": [4.0, 5.0], "image_size": 112}]


@pytest.fixture(scope="module")
def resampled_heart(prepared, tmp_path_factory):
    """Finish a run that resamples hearts to pixels of 6 x 6 mm; read-only."""
    return run_here(
        "acdc_small_pe",
        dataset_dir=str(prepared["acdc"]),
        runs_dir=str(tmp_path_factory.mktemp("resampled")),
        run_name="a",
        image_size=SIDE,
        spacing_mm=PIXEL,
        batch_size=8,
        max_epochs=1,
        fit_lights=False,  # tests change the weights
    )


@pytest.fixture
def case(prepared):
    """Return the first test case."""
    return DataFolder(prepared["acdc"]).cases("test")[0]


def predict(models, image, out, **options):
    summary = cohort.predict_cases(
        Ensemble(models), inputs.find_cases([str(image)], out), out, Options(overlays=False, **options)
    )
    assert not summary.failed
    return nibabel.load(next(out.glob("*.nii.gz")))


def varied(run, out, seed=0, **changes):
    """Copy a run with random weights, whose label maps hold several classes, and with changes of its configuration."""
    shutil.copytree(run, out)
    generator = torch.Generator().manual_seed(seed)
    state = torch.load(out / "model.pt", weights_only=True)
    for key, value in state.items():
        if value.is_floating_point():
            state[key] = torch.rand(value.shape, generator=generator) - (0 if key.endswith("running_var") else 0.5)
    torch.save(state, out / "model.pt")
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, **changes}))
    return out


def make_perfect(monkeypatch, case):
    """Let every model give the true label map on the grid of its network."""
    label = torch.from_numpy(np.array(nibabel.load(case["label"]).dataobj))[None]

    def perfect(model, decoded, evidence=None):
        [step] = [step for step in model._decode.flatten().transforms if isinstance(step, Resampled)]
        item = {"image": label.float(), "label": label, "spacing_mm": case["spacing_mm"]}
        return torch.nn.functional.one_hot(step(item)["label"][0].long(), 4).movedim(-1, 0).float()

    monkeypatch.setattr(Model, "probabilities", perfect)


def check_labels(found, case):
    """Compare a label map on the image's grid with the truth: overlap, and no shift of an organ's center."""
    label = nibabel.load(case["label"])
    assert found.shape == label.shape
    assert np.allclose(found.affine, label.affine)
    one, other = (np.asarray(image.dataobj) for image in (found, label))
    for index in (1, 3):  # the myocardium is hardly thicker than a pixel of 6 mm
        masks = one == index, other == index
        assert 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum()) > 0.85
        centers = [np.argwhere(mask).mean(axis=0) for mask in masks]
        # Half a pixel of 6 mm is 1.8 px of the image.
        assert np.abs(centers[0] - centers[1]).max() < 0.5


def test_every_case_has_the_pixel_size_and_keeps_its_volume(prepared):
    options = {"dataset_dir": str(prepared["acdc"]), "image_size": SIDE, "spacing_mm": PIXEL}
    for part in ("train::dataset", "dataset"):
        dataset = parser("acdc_small_pe", **options).get_parsed_content(part)
        dataset.fill()
        for number, case in enumerate(dataset.data):
            item, label = dataset._case(number), np.asarray(nibabel.load(case["label"]).dataobj)
            assert item["image"].shape[1:3] == (SIDE, SIDE)
            # The side of an image is rounded to whole pixels.
            assert item["spacing_mm"].tolist() == pytest.approx([*PIXEL, case["spacing_mm"][2]], rel=0.01)
            volumes = [(item["label"].numpy() > 0, item["spacing_mm"].numpy()), (label > 0, case["spacing_mm"])]
            one, other = (mask.sum() * np.prod(size) for mask, size in volumes)
            assert one == pytest.approx(other, rel=0.1)


def test_tests_are_in_mm_and_say_so(resampled_heart, prepared, tmp_path):
    run = shutil.copytree(resampled_heart, tmp_path / "acdc_small_pe/a")
    options = {"dataset_dir": str(prepared["acdc"]), "runs_dir": str(tmp_path), "run_name": "a", "shift_pixels": [4]}
    for entry in ("evaluate", "robustness", "shift"):
        run_here("acdc_small_pe", entry=entry, image_size=SIDE, spacing_mm=PIXEL, **options)
        assert (run / entry / "summary.json").exists()
    assert (run / "evaluate/metrics.csv").read_text() == (run / "metrics.csv").read_text()


def test_a_perfect_network_predicts_the_images_own_grid(resampled_heart, case, tmp_path, monkeypatch):
    model = Model(resampled_heart, device="cpu")
    assert model.input_shape == (3, SIDE, SIDE)
    make_perfect(monkeypatch, case)
    check_labels(predict([model], case["image"], tmp_path / "out"), case)


@pytest.mark.parametrize("order", [1, -1])
def test_models_of_other_grids_are_averaged_on_the_image(resampled_heart, case, tmp_path, monkeypatch, order):
    runs = [resampled_heart]
    runs += [varied(resampled_heart, tmp_path / str(n), seed=n, **change) for n, change in enumerate(OTHER_GRIDS)]
    models = [Model(run, device="cpu") for run in runs]
    make_perfect(monkeypatch, case)
    check_labels(predict(models[::order], case["image"], tmp_path / "out"), case)


def test_borders_outside_the_square_are_background_and_said(resampled_heart, case, tmp_path):
    image = nibabel.load(case["image"])
    wide = np.pad(np.asarray(image.dataobj), ((150, 0), (0, 0), (0, 0)))
    nibabel.save(nibabel.Nifti1Image(wide, image.affine), tmp_path / "wide.nii.gz")
    run = varied(resampled_heart, tmp_path / "run")
    found = predict([Model(run, device="cpu")], tmp_path / "wide.nii.gz", tmp_path / "out")
    assert found.shape == wide.shape
    assert "sees the middle 80 x 80 of 102 x 69 px of 6 x 6 mm" in (tmp_path / "out/warnings.csv").read_text()
    # Of 102 columns of 6 mm, 11 are cut away on each side, 39.5 of the image.
    columns = np.asarray(found.dataobj).any(axis=(1, 2))
    assert not columns[:38].any()
    assert not columns[-38:].any()
    assert columns[50:-50].any()


def test_an_image_without_a_pixel_size_is_refused_unless_it_is_given(resampled_heart, case, tmp_path):
    image = nibabel.load(case["image"])
    plain = nibabel.Nifti1Image(np.asarray(image.dataobj), np.diag([-1.0, -1.0, 1.0, 1.0]))
    plain.header.set_xyzt_units(0)
    nibabel.save(plain, tmp_path / "plain.nii.gz")
    models = [Model(resampled_heart, device="cpu")]
    sources = inputs.find_cases([str(tmp_path / "plain.nii.gz")], tmp_path / "out")
    summary = cohort.predict_cases(Ensemble(models), sources, tmp_path / "out", Options(overlays=False))
    [failed] = summary.failed
    assert "plain.nii.gz: expected a known pixel size, to resample to 6 x 6 mm" in failed
    found = predict(models, tmp_path / "plain.nii.gz", tmp_path / "given", spacing_mm=(1.67, 1.67, 10.0))
    assert found.shape == image.shape


def test_an_export_gives_the_label_maps_of_predict_and_trains_on(resampled_heart, prepared, case, tmp_path):
    run = varied(resampled_heart, tmp_path / "run")
    bundle = export(run, tmp_path / "bundle", ROOT)
    assert "resampled to 6 x 6 mm, and sees the middle 80 x 80 px" in (bundle / "docs/README.md").read_text()
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(case["image"], images / "heart.nii.gz")
    wanted = predict([Model(run, device="cpu")], images, tmp_path / "out")
    assert len(np.unique(np.asarray(wanted.dataobj))) > 1
    with kept_state():
        monai.bundle.run(
            config_file=str(bundle / "configs/inference.json"),
            logging_file=False,
            bundle_root=str(bundle),
            dataset_dir=str(images),
            output_dir=str(tmp_path / "segmented"),
            device="cpu",
        )
    found = nibabel.load(tmp_path / "segmented/heart.nii.gz")
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(wanted.dataobj))
    with kept_state():
        monai.data.set_track_meta(False)
        config = parser(bundle / "configs/train.json", dataset_dir=str(prepared["acdc"]), bundle_root=str(bundle))
        items = config.get_parsed_content("train::dataset")
        assert items[0]["image"].shape == (3, SIDE, SIDE)
        assert items._case(0)["spacing_mm"][:2] == pytest.approx(PIXEL, rel=0.01)


def test_the_default_is_the_model_of_earlier_versions():
    config = json.loads((BUNDLES / "jsrt_small_pe.json").read_text())
    earlier = json.loads(json.dumps(config))
    del earlier["spacing_mm"], earlier["steps"]["resize"]["pixdim"]
    earlier["steps"]["resize"]["_target_"] = "Resized"
    resampled = {**config, "spacing_mm": [1.5, 1.5]}
    assert compute_identity(earlier) == compute_identity(config) != compute_identity(resampled)
    none = [("none", "0", "0")]
    assert not ResultSettings.of(earlier).find_differences(ResultSettings.of(config), none)
    assert ResultSettings.of(earlier).find_differences(ResultSettings.of(resampled), none) == ["spacing_mm"]


def test_a_training_is_not_resumed_with_other_pixels(prepared, tmp_path):
    options = {"dataset_dir": str(prepared["jsrt"]), "runs_dir": str(tmp_path), "run_name": "a"}
    options |= {"image_size": 64, "batch_size": 5}
    run_here("jsrt_small", max_epochs=1, **options)
    message = refusal("jsrt_small", max_epochs=2, resume=True, spacing_mm=PIXEL, **options)
    assert "was started with other values: spacing_mm was None, is [6.0, 6.0]" in message


def test_data_that_do_not_fit_are_refused_before_the_training(prepared, tmp_path):
    options = {"runs_dir": str(tmp_path / "runs"), "spacing_mm": PIXEL}
    message = refusal("acdc_small_pe", dataset_dir=str(prepared["acdc"]), image_size=16, **options)
    assert "labeled ones would be cut away; give an --image_size of at least" in message
    assert "patient" in message
    data = shutil.copytree(prepared["acdc"], tmp_path / "data")
    text = (data / "dataset.json").read_text()
    (data / "dataset.json").write_text(text.replace('"spacing": "header"', '"spacing": "assumed"'))
    assert "expected a known pixel size" in refusal("acdc_small_pe", dataset_dir=str(data), image_size=SIDE, **options)
    assert not (tmp_path / "runs").exists()


def test_bundles_of_photographs_lack_the_key(tmp_path):
    message = refusal("nuclei_unet", runs_dir=str(tmp_path), spacing_mm=PIXEL)
    assert "override --spacing_mm: bundle nuclei_unet has no such key" in message
