"""Test the CRF in bundles: training without it, test with it, search for its parameters, and prediction."""

import csv
import json
import shutil
import sys
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.data import set_track_meta
from PIL import Image
from running import config_file, kept_state, parser, refusal, run_here
from scipy.ndimage import binary_dilation

from data_prep.datasets import voc
from data_prep.phantoms import write
from medpos.data.folder import DataFolder
from medpos.inferers import BackgroundInferer, CRFInferer, DenseCRF, FastInferer
from medpos.networks import DeepLabVGG
from medpos.predict.label_maps import compute_label_map
from medpos.predict.model import Model
from medpos.runs.checkpoints import load, load_network

pytest.importorskip("pydensecrf", reason="pip install 'medpos[crf]'")

NAME = "voc_deeplab_largefov"
SMALL = {"network_def#width": 0.0625, "image_size": 33, "batch_size": 2, "window": 113, "amp": False, "max_epochs": 1}
SMALL["publisher"] = "caffe"  # in its colors an image is harder to restore
GRID = {"crf_search#w_bi": [3, 40], "crf_search#s_xy": [8], "crf_search#s_rgb": [5, 20]}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Prepare phantoms of PASCAL VOC at a fifth of the size, one of them for validation."""
    root = tmp_path_factory.mktemp("scenes")
    write("voc", root / "raw", cases=12)
    for path in [*root.rglob("*.jpg"), *root.rglob("SegmentationClass/*.png")]:
        picture = Image.open(path)
        small = picture.resize([side // 5 for side in picture.size], Image.Resampling.NEAREST)
        small.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
    voc.prepare(root / "raw", root / "voc")
    shutil.rmtree(root / "raw")
    return root / "voc"


def counted(patch, owner, name):
    """Count the calls of a method."""
    calls, method = [], getattr(owner, name)

    def call(self, *args):
        calls.append(args)
        return method(self, *args)

    patch.setattr(owner, name, call)
    return calls


@pytest.fixture(scope="module")
def made(scenes, tmp_path_factory):
    """Train for one epoch, enlarge the scores so that the CRF can refine them, and test three times."""
    given = {"dataset_dir": str(scenes), "runs_dir": str(tmp_path_factory.mktemp("runs")), "run_name": "a", **SMALL}
    with pytest.MonkeyPatch.context() as patch:
        refined = counted(patch, DenseCRF, "__call__")
        run = run_here(NAME, **given, fit_lights=False)
    weights = load(run / "model.pt")
    generator = torch.Generator().manual_seed(0)
    for name in [name for name in weights if "fc8" in name]:
        weights[name] = 0.02 * torch.randn(weights[name].shape, generator=generator)
    torch.save(weights, run / "model.pt")
    run_here(NAME, entry="evaluate", **given)
    run_here(NAME, entry="evaluate", crf_iterations=0, **given)
    with pytest.MonkeyPatch.context() as patch:
        passes = counted(patch, DeepLabVGG, "forward")
        run_here(NAME, entry="crf", crf_iterations=4, **GRID, **given)
    real = [
        image for (image,) in passes if image.device.type == "cpu"
    ]  # not the passes on the meta device, which only determine shapes
    return SimpleNamespace(run=run, given=given, refined=len(refined), passes=len(real))


def label_maps(run):
    """Return the label maps of the test images from the evaluator of a run, or of an evaluation in it."""
    maps = []
    with kept_state():
        set_track_meta(False)
        config = ConfigParser(json.loads((run / "config.json").read_text()))
        config["evaluator::val_handlers"] = []
        weights = next(path for path in (run / "model.pt", run.parent / "model.pt") if path.is_file())
        load_network(config.get_parsed_content("network_def"), load(weights), weights)
        evaluator = config.get_parsed_content("evaluator")

        @evaluator.on(Events.ITERATION_COMPLETED)
        def _keep(engine):
            maps.extend(output["pred"][0] for output in engine.state.output)

        evaluator.run()
    return [labels.cpu().numpy() for labels in maps]


def plain(made, split):
    """Yield probabilities, image in [0, 1] and truth for each image, without medpos's inferers and transforms."""
    source = DataFolder(made.given["dataset_dir"])
    with kept_state():
        network = parser(NAME, **made.given).get_parsed_content("network_def").eval()
    load_network(network, load(made.run / "model.pt"), made.run)
    for case in source.cases(split):
        image = np.asarray(nibabel.load(case["image"]).dataobj)[:, :, 0].astype(np.float32)
        caffes = (image - np.float32([122.67892, 116.66877, 104.00699]))[..., ::-1].copy()
        sides = [(113 - side) // 2 for side in image.shape[1::-1]]  # of the padding, last axis first
        sides = (sides[0], 113 - image.shape[1] - sides[0], sides[1], 113 - image.shape[0] - sides[1])
        with torch.no_grad():
            logits = network(torch.nn.functional.pad(torch.from_numpy(caffes).permute(2, 0, 1)[None], sides))[0]
        logits = logits[:, sides[2] : 113 - sides[3], sides[0] : 113 - sides[1]]
        truth = np.asarray(nibabel.load(case["label"]).dataobj)[..., 0]
        yield logits.softmax(0), torch.from_numpy(image[..., ::-1] / 255).permute(2, 0, 1), truth


def mean_iou(pairs):
    """Compute the mean IoU of pairs of label map and truth, class by class."""
    predicted, true = (np.concatenate([part.ravel() for part in parts]) for parts in zip(*pairs, strict=True))
    predicted, true = predicted[true != 255], true[true != 255]
    both = [(predicted == n, true == n) for n in range(21)]
    return np.mean([(p & t).sum() / (p | t).sum() for p, t in both if (p | t).any()])


def rows_of(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_training_is_without_the_crf_and_the_test_with_it(made, scenes):
    images = len(DataFolder(scenes).cases("test"))
    assert made.refined == images == 5
    [condition] = json.loads((made.run / "summary.json").read_text())["conditions"]
    assert {"mean_iou", *(f"trimap_iou_{width}px" for width in (1, 5, 10, 20, 40))} <= set(condition["scores"]["set"])
    crf = DenseCRF.of_paper("v2_vgg")
    expected = [crf(one, image).argmax(0).numpy() for one, image, _ in plain(made, "test")]
    for found, wanted in zip(label_maps(made.run / "evaluate"), expected, strict=True):
        assert (found != wanted).mean() < 0.0005


def test_zero_iterations_leave_the_crf_out(made):
    refined, unrefined = label_maps(made.run / "evaluate"), label_maps(made.run / "evaluate-2")
    for found, (probabilities, _, _) in zip(unrefined, plain(made, "test"), strict=True):
        assert (found != probabilities.argmax(0).numpy()).mean() < 0.0005
    assert np.mean([(one != other).mean() for one, other in zip(refined, unrefined, strict=True)]) > 0.02


def test_parameters_are_searched_on_the_validation_set(made):
    found = rows_of(made.run / "crf/search.csv")
    scores = [float(row["mean_iou"]) for row in found]
    assert scores == sorted(scores, reverse=True)
    tried = {tuple(float(row[name]) for name in ("w_bi", "s_xy", "s_rgb")): row for row in found}
    assert set(tried) == {(3, 8, 5), (3, 8, 20), (40, 8, 5), (40, 8, 20)}
    cases = list(plain(made, "validation"))
    before = mean_iou([(probabilities.argmax(0).numpy(), truth) for probabilities, _, truth in cases])
    for (w_bi, s_xy, s_rgb), row in tried.items():
        crf = DenseCRF(3, 3, w_bi, s_xy, s_rgb, iterations=4)
        wanted = mean_iou([(crf(p, image).argmax(0).numpy(), truth) for p, image, truth in cases])
        assert float(row["mean_iou"]) == pytest.approx(wanted, abs=1e-5)
        assert float(row["gain"]) == pytest.approx(wanted - before, abs=1e-5)


def test_bands_around_boundaries_with_and_without_the_crf(made):
    best = rows_of(made.run / "crf/search.csv")[0]
    found = DenseCRF(3, 3, float(best["w_bi"]), 8, float(best["s_rgb"]), iterations=4)
    crfs = {"none": None, "v2_vgg": DenseCRF.of_paper("v2_vgg", iterations=4), "found": found}
    rows = {(row["crf"], int(row["width_px"])): row for row in rows_of(made.run / "crf/trimap.csv")}
    assert list(rows) == [(name, width) for name in crfs for width in range(1, 41)]
    summary = json.loads((made.run / "crf/summary.json").read_text())
    assert summary["phantom"] is True
    assert [each["crf"] for each in summary["test"]] == list(crfs)
    cases, wanted = list(plain(made, "test")), {}
    for name, crf in crfs.items():
        maps = [((p if crf is None else crf(p, i)).argmax(0).numpy(), truth) for p, i, truth in cases]
        wanted[name] = mean_iou(maps)
        # Pixels within 1 px of a boundary are those with one of four neighbors of another class.
        near = mean_iou([(predicted, outlines(truth)) for predicted, truth in maps])
        assert float(rows[name, 1]["mean_iou"]) == pytest.approx(near, abs=1e-5)
    assert {each["crf"]: each["mean_iou"] for each in summary["test"]} == pytest.approx(wanted, abs=1e-5)
    assert len({round(value, 4) for value in wanted.values()}) == 3
    assert Image.open(made.run / "crf/trimap.png").size[0] > 500
    assert Image.open(made.run / "crf/mean_field.png").size[0] > 1000  # five columns
    assert "CRF, step 4" in (made.run / "crf/mean_field.svg").read_text()
    log = (made.run / "log.txt").read_text()
    assert "CRF search: image 1 of 1" in log
    assert "CRF test: image 5 of 5" in log


def outlines(truth):
    """Keep the truth at pixels with a neighbor of another class, and set all others to 255."""
    near = [binary_dilation(truth == value) & (truth != value) for value in np.unique(truth)]
    return np.where(np.any(near, axis=0), truth, 255)


def test_the_network_sees_each_image_once(made, scenes):
    source = DataFolder(scenes)
    assert made.passes == len(source.cases("validation")) + len(source.cases("test"))


@pytest.mark.parametrize("part", ["", "evaluate", "evaluate-2"])
def test_predictions_are_those_of_the_evaluation(part, made):
    model = Model(made.run / part)
    for wanted, predicted in zip(label_maps(made.run / part), predicted_by(model, made.given), strict=True):
        np.testing.assert_array_equal(predicted, wanted)


@pytest.mark.parametrize(("publisher", "order"), [("caffe", -1), ("torchvision", 1)])
def test_the_crf_sees_the_colors_of_the_image(publisher, order, made, scenes):
    with kept_state():
        set_track_meta(False)
        config = parser(NAME, **{**made.given, "publisher": publisher})
        item, inferer = config.get_parsed_content("dataset")[0]["image"], config.get_parsed_content("inferer")
    image = np.asarray(nibabel.load(DataFolder(scenes).cases("test")[0]["image"]).dataobj)[:, :, 0]
    wanted = torch.from_numpy(image[..., ::order] / np.float32(255)).permute(2, 0, 1)
    torch.testing.assert_close(inferer.undo_standardization(item), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [(NAME, (2, 2, 4, 65, 3)), ("voc_deeplab_aspp", (2, 2, 4, 65, 3)), ("voc_deeplab_resnet101", (3, 1, 4, 67, 3))],
)
def test_the_parameters_are_the_papers(name, parameters):
    with kept_state():
        inferer = parser(name).get_parsed_content("inferer")
        assert inferer.crf == DenseCRF(*parameters, iterations=10)
        assert isinstance(inferer.inferer, FastInferer)
        other = parser(name, crf_iterations=3, inferer__crf__s_xy=50, inferer__crf__s_rgb=4)
        w_pos, s_pos, w_bi, *_ = parameters
        assert other.get_parsed_content("inferer").crf == DenseCRF(w_pos, s_pos, w_bi, 50, 4, iterations=3)
        grid = parser(name).get_parsed_content("crf_search").keywords
    assert (grid["w_bi"], grid["s_xy"], grid["s_rgb"]) == ([3, 4, 5, 6], list(range(30, 101, 10)), [3, 4, 5, 6])
    assert (grid["w_pos"], grid["s_pos"], grid["iterations"]) == (3, 3, 10)


def test_bad_options_are_refused(made, prepared, monkeypatch, tmp_path):
    assert "crf_iterations: expected 1 or more, got 0" in refusal(NAME, entry="crf", crf_iterations=0, **made.given)
    assert "expected a list" in refusal(NAME, entry="crf", **{"crf_search#w_bi": 4}, **made.given)
    assert "did you mean --crf_search#s_xy?" in refusal(NAME, entry="crf", **{"crf_search#s_xz": [4]}, **made.given)
    assert "--crf_iterations: expected an integer" in refusal(NAME, entry="crf", crf_iterations=2.5, **made.given)
    assert "crf_name: expected one of v1_large_fov, v2_vgg" in refusal(NAME, entry="crf", crf_name="v3", **made.given)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    given = {**made.given, "runs_dir": str(tmp_path / "runs")}
    chest = {"runs_dir": given["runs_dir"], "dataset_dir": str(prepared["jsrt"])}
    for bundle, own in (((NAME,), given), (("jsrt_small", "crf"), chest)):
        message = refusal(*bundle, **own)
        assert "needs pydensecrf; install it by pip install 'medpos[crf]', or set its iterations to 0" in message
    assert not (tmp_path / "runs").exists()  # refused before the training
    assert (run_here(NAME, crf_iterations=0, **given) / "summary.json").is_file()


def inferred(name, run, given):
    """Yield probabilities and image of each test item from the bundle's inferer, without the CRF."""
    with kept_state():
        set_track_meta(False)
        config = parser(name, **given)
        network = config.get_parsed_content("network_def").eval()
        load_network(network, load(run / "model.pt"), run)
        loader, inferer = (config.get_parsed_content(key) for key in ("dataloader", "inferer"))
        for batch in loader:
            with torch.inference_mode():
                logits = inferer(batch["image"], network)
            yield from zip(logits.softmax(1), batch["image"][:, :1], strict=True)


def own_range(image):
    return (image - image.min()) / (image.max() - image.min())


@pytest.fixture
def overlaid(request, prepared, tmp_path):
    """Test a finished run of a bundle of the study with the overlay."""

    def make(kind):
        run = shutil.copytree(request.getfixturevalue("trained" if kind == "jsrt" else "trained_heart"), tmp_path / "x")
        home = tmp_path / "runs" / f"{kind}_small_pe"
        shutil.move(run, home / "a")
        given = {"dataset_dir": str(prepared[kind]), "runs_dir": str(tmp_path / "runs"), "image_size": 32}
        weaker = {"refined#crf#s_rgb": 20, "refined#crf#s_xy": 6}
        run_here(f"{kind}_small_pe", "crf", entry="evaluate", run_name="a", **weaker, **given)
        return home / "a", given

    return make


def test_the_overlay_refines_x_rays(overlaid):
    run, given = overlaid("jsrt")
    crf, changed = DenseCRF.of_paper("v2_vgg", s_xy=6, s_rgb=20), 0.0
    found = label_maps(run / "evaluate")
    for labels, (probabilities, image) in zip(found, inferred("jsrt_small_pe", run, given), strict=True):
        np.testing.assert_array_equal(labels, crf(probabilities, own_range(image)).argmax(0).numpy())
        changed += (labels != probabilities.argmax(0).numpy()).mean()
    assert changed > 0.005
    for labels, predicted in zip(found, predicted_by(Model(run / "evaluate"), given), strict=True):
        np.testing.assert_array_equal(labels, predicted)


@pytest.mark.torture
def test_the_overlay_refines_volumes_slice_by_slice(overlaid):
    run, given = overlaid("acdc")
    crf, changed = DenseCRF.of_paper("v2_vgg", s_xy=6, s_rgb=20), 0.0
    for labels, (volume, image) in zip(
        label_maps(run / "evaluate"), inferred("acdc_small_pe", run, given), strict=True
    ):
        slices = zip(volume.unbind(3), image.unbind(3), strict=True)
        wanted = torch.stack([crf(one, own_range(plane)).argmax(0) for one, plane in slices], dim=2)
        np.testing.assert_array_equal(labels, wanted.numpy())
        changed += (labels != volume.argmax(0).numpy()).mean()
    assert changed > 0.002


def test_a_training_with_the_overlay_is_tested_with_it_and_searched(tiny):
    with pytest.MonkeyPatch.context() as patch:
        refined = counted(patch, DenseCRF, "__call__")
        run = run_here("jsrt_small", "crf", run_name="a", **tiny)
    assert len(refined) == 2
    run_here("jsrt_small", "crf", entry="crf", run_name="a", **GRID, **tiny)
    assert len(rows_of(run / "crf/search.csv")) == 4
    for found, wanted in zip(label_maps(run), predicted_by(Model(run), tiny), strict=True):
        np.testing.assert_array_equal(found, wanted)


def predicted_by(model, given):
    for case in DataFolder(given["dataset_dir"]).cases("test"):
        decoded = model.decode(np.asarray(nibabel.load(case["image"]).dataobj, np.float32))
        yield compute_label_map(model.probabilities(decoded), (*decoded.shape[1:3], 1))[..., 0]


def test_the_overlay_wraps_an_inferer_that_adds_a_background():
    with kept_state():
        config = ConfigParser()
        config.read_config(config_file("nuclei_unetpp", "crf"))
        config["source"] = SimpleNamespace(channels=("image",))
        inferer = config.get_parsed_content("evaluator::inferer")
        assert config.get_parsed_content("validate::inferer") is inferer.inferer
    assert isinstance(inferer, CRFInferer)
    assert isinstance(inferer.inferer, BackgroundInferer)
    found = inferer(torch.rand(1, 1, 16, 16), lambda image: image[:, :1])
    torch.testing.assert_close(found.exp().sum(1), torch.ones(1, 16, 16), rtol=0, atol=1e-5)
