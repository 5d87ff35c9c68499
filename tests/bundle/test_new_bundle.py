"""Test bundles for custom data: the choices made from the data, and every entry point and command."""

import csv
import json
import shutil
from pathlib import Path

import custom_raw
import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import verify_net_in_out
from running import BUNDLES, kept_state, parser, run_here
from typer.testing import CliRunner

from data_prep.custom import decathlon, folder, nnunet
from data_prep.custom.common import Options
from data_prep.verify import check
from medpos.__main__ import app
from medpos.bundle import new_bundle
from medpos.bundle.new_bundle import LOSSES, MEAN_MASK, POSITION, Training
from medpos.cli.new_bundle import NETWORK_HELP
from medpos.core.colors import distinct
from medpos.core.errors import InputError
from medpos.data.folder import DataFolder
from medpos.study import declaration
from medpos.study.models import resolve_configuration
from medpos.transforms import Resampled

SOURCE = BUNDLES / "src"


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    root = custom_raw.pictures(tmp_path_factory.mktemp("own"), 8)
    folder.prepare(root / "images", root / "labels", ["255=cell"], [], root / "cells", Options())
    return root / "cells"


@pytest.fixture(scope="module")
def prostates(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    decathlon.prepare(custom_raw.decathlon(root / "raw", 8), root / "prostates", Options())
    return root / "prostates"


def write(data, out, endings=(), network="small", **options):
    return new_bundle.write("mine", data, network, endings, SOURCE, out, **options)


def content(path):
    return json.loads(path.read_text())


def test_a_new_bundle_has_the_keys_of_the_projects_bundles(cells, tmp_path):
    for file, model in zip(
        write(cells, tmp_path, [POSITION, MEAN_MASK]), ("jsrt_small", "jsrt_small_pe", "jsrt_mean_mask"), strict=True
    ):
        own = content(file)
        assert own["bundle_name"] == file.stem
        # There are no phantoms of custom data; gray values without a unit are standardized slice by slice; pictures
        # have no pixel size.
        others = set(content(BUNDLES / f"{model}.json")) - {"phantom", "spacing_mm"}
        assert set(own) == others | {"shift_before_standardizing"}
        assert own["network_def"]["out_channels"] == 2
        assert [line.split()[0] for line in own["_desc_"][1:]] == ["image_size", "spacing:", "batch_size", "intensity:"]


def test_pictures_run_through_every_entry_point_and_the_study(cells, tmp_path):
    files = write(cells, tmp_path / "bundles", [POSITION, MEAN_MASK])
    options = {"runs_dir": str(tmp_path / "runs"), "image_size": 16, "max_epochs": 1, "shift_pixels": [4]}
    run = run_here(files[1], **options)
    for entry in ("evaluate", "robustness", "shift"):
        run_here(files[1], entry=entry, **options)
        assert (run / entry / "summary.json").exists()
    assert "cell" in (run / "metrics.csv").read_text()
    study = declaration.load(BUNDLES / "studies", "table1", bundle=files[0])
    assert study.data == ("mine",)
    assert [v.name for v in study.variants] == ["mean mask", "small CNN", "small CNN + position"]
    assert [v.bundle.replace("{data}", "mine") for v in study.variants] == ["mine_mean_mask", "mine", "mine_pe"]
    assert all(criterion.data == "" for criterion in study.criteria)
    assert "small CNN + position less small CNN" in study.criteria[0].text


def test_channels_and_volumes(prostates, tmp_path):
    plain, position = write(prostates, tmp_path / "bundles", [POSITION])
    options = {"runs_dir": str(tmp_path / "runs"), "max_epochs": 1, "conditions": ["position"], "image_size": 32}
    run = run_here(position, **options)
    rows = (run / "metrics.csv").read_text()
    assert "position_zeroed" in rows
    assert "pz" in rows
    item = parser(plain).get_parsed_content("train::dataset")[0]
    assert item["image"].shape == (2, 32, 32)
    assert np.allclose(item["image"].mean((1, 2)), 0, atol=1e-4)
    item = parser(position).get_parsed_content("validate::dataset")[0]
    assert item["image"].shape == (4, 32, 32, 2)


def test_a_probe_changes_no_channel_of_the_image(prostates, tmp_path):
    position = write(prostates, tmp_path, [POSITION])[1]
    clean = parser(position).get_parsed_content("dataset")[0]
    probe = parser(position).get_parsed_content("preprocessing").transforms[-1]
    zeroed = probe({**clean, "degradation": "position_zeroed", "severity": 1})["image"]
    assert zeroed[2:].abs().max() == 0
    assert (zeroed[:2] == clean["image"][:2]).all()


def test_hounsfield_units_get_one_window(tmp_path):
    root = custom_raw.nnunet(tmp_path / "Dataset001_X", 6)
    nnunet.prepare(root, tmp_path / "data", Options())
    [file] = write(tmp_path / "data", tmp_path / "bundles")
    window = content(file)["window"]
    case = DataFolder(tmp_path / "data").cases("training")[0]
    image, label = (new_bundle._read(case[kind]).astype(float) for kind in ("image", "label"))
    assert abs(window["low"][0] - np.percentile(image[label > 0], 0.5)) < 8
    read = parser(file)
    decoded = read.get_parsed_content("decode")({k: case[k] for k in ("image", "label")})["image"]
    assert 0 <= decoded.min() < 0.1 < 0.9 < decoded.max() <= 1
    items = read.get_parsed_content("train::dataset")
    pixels = np.concatenate([items[n]["image"].numpy().ravel() for n in range(len(items))])
    assert abs(pixels.mean()) < 0.1
    assert abs(pixels.std() - 1) < 0.35  # the images are resized after the statistics were taken
    assert "one window" in content(file)["_desc_"][-1]
    assert content(tmp_path / "bundles/metadata.json")["network_data_format"]["outputs"]["pred"]["num_channels"] == 3


@pytest.mark.parametrize(
    ("shape", "side", "size"),
    [((100, 120), 60, 128), ((500, 400), 200, 256), ((500, 400), 12, 304), ((900, 900), 5, 512)],
)
def test_the_image_size_keeps_small_organs(tmp_path, shape, side, size):
    for n in range(3):
        label = np.zeros(shape, np.uint8)
        label[:side, :side] = 1
        custom_raw.picture(tmp_path / f"images/c{n}.png", custom_raw.noise(n, shape))
        custom_raw.picture(tmp_path / f"labels/c{n}.png", label)
    folder.prepare(tmp_path / "images", tmp_path / "labels", ["1=spot"], [], tmp_path / "data", Options())
    [file] = write(tmp_path / "data", tmp_path / "bundles")
    assert content(file)["image_size"] == size
    assert ("but spot measures" in content(file)["_desc_"][1]) == (size > 256)
    assert content(file)["batch_size"] == 2


def prepare_scans(root, pixel_sizes):
    """Prepare CT scans of 20 x 24 px with these pixel sizes in mm along x, a third larger along y."""
    raw = custom_raw.nnunet(root / "Dataset001_X", len(pixel_sizes))
    for n, side in enumerate(pixel_sizes):
        for file in (raw / f"imagesTr/s{n}_0000.nii.gz", raw / f"labelsTr/s{n}.nii.gz"):
            values = np.asarray(nibabel.load(file).dataobj)
            custom_raw.volume(file, values, np.diag([side, side * 4 / 3, 8.0, 1.0]))
    nnunet.prepare(raw, root / "data", Options())
    return root / "data"


def test_pixel_sizes_that_differ_by_more_than_a_tenth_are_resampled(tmp_path):
    data = prepare_scans(tmp_path, [1.2, 1.5, 2.1, 1.2, 1.5, 2.1])
    [file] = write(data, tmp_path / "bundles")
    own = content(file)
    sizes = [case["spacing_mm"] for case in DataFolder(data).cases("training")]
    assert own["spacing_mm"] == pytest.approx(np.median(sizes, axis=0)[:2])
    assert [line.split()[0] for line in own["_desc_"][1:3]] == ["image_size", "spacing_mm"]
    assert "differ by more than a tenth" in own["_desc_"][2]
    assert "Slices are kept, 8 mm apart." in own["_desc_"][2]
    options = {"runs_dir": str(tmp_path / "runs"), "max_epochs": 1, "allow_training_cases": True}
    run = run_here(file, **options)
    assert (run / "summary.json").exists()
    items = parser(file, **options).get_parsed_content("train::dataset")
    items.fill()
    for n in range(len(items.data)):
        assert items._case(n)["label"].sum() > 0
        assert items._case(n)["spacing_mm"][:2] == pytest.approx(own["spacing_mm"], rel=0.05)


def test_pixel_sizes_that_hardly_differ_are_resized(tmp_path):
    [file] = write(prepare_scans(tmp_path, [1.5, 1.55, 1.6, 1.5, 1.55, 1.6]), tmp_path / "bundles")
    assert content(file)["spacing_mm"] is None
    assert content(file)["_desc_"][2].startswith("spacing: no common one; every slice is resized to 32 x 32 px")


@pytest.mark.parametrize(
    ("sizes", "sides", "pixel", "square"),
    [
        ([0.7, 0.8, 0.98], 512, [0.8, 0.8], 512),  # 627 px would be needed, so pixels are larger
        ([1.0, 1.4, 1.6], 200, [1.4, 1.4], 240),
        ([0.5, 1.0, 1.2], 10, [1.0, 1.0], 32),
    ],
)
def test_every_training_image_fits_the_square(sizes, sides, pixel, square):
    cases = [{"shape": [sides, sides - 7, 3], "spacing_mm": [size, size, 5.0]} for size in sizes]
    found, reasons = new_bundle._by_spacing(cases)
    assert found["image_size"] == square
    step = Resampled("image", square, pixdim=found["spacing_mm"])
    assert all(max(step.find_size(case["shape"], case["spacing_mm"])) <= square for case in cases)
    enlarged = found["spacing_mm"][0] / pixel[0]
    assert ("times as large" in reasons[1]) == (enlarged > 1)
    assert enlarged == pytest.approx(max(1, sides * sizes[-1] / pixel[0] / 512), rel=1e-3)


@pytest.mark.parametrize("network", new_bundle.NETWORKS)
def test_any_network_of_the_project(cells, tmp_path, network):
    assert network in NETWORK_HELP
    for file, channels in zip(write(cells, tmp_path / "bundles", [POSITION], network), (1, 3), strict=True):
        config = parser(file, runs_dir=str(tmp_path / "runs"))
        built, loss = config.get_parsed_content("network_def"), config.get_parsed_content("train::loss")
        image, label = torch.randn(2, channels, 32, 32), torch.randint(2, (2, 32, 32))
        loss(built.train()(image), label).backward()
        assert all(parameter.grad is not None for parameter in built.parameters())
        assert built.eval()(image).shape == (2, 2, 32, 32)


@pytest.mark.parametrize("loss", LOSSES)
def test_deep_supervision_with_either_loss_trains_and_is_pruned(cells, tmp_path, loss):
    [file] = write(cells, tmp_path, network="unetpp", training=Training(loss, deep_supervision=True))
    made = content(file)
    inner = {"cross_entropy": "torch.nn.CrossEntropyLoss", "bce_dice": "medpos.losses.BCEDice"}[loss]
    assert made["train"]["loss"] == {"_target_": "medpos.losses.DeepSupervision", "loss": {"_target_": inner}}
    assert made["network_def"]["out_channels"] == (1 if loss == "bce_dice" else 2)
    small = {"runs_dir": str(tmp_path / "runs"), "run_name": "a", "image_size": 32, "batch_size": 2}
    small |= {"network_def#width": 0.0625, "max_epochs": 1}
    run = run_here(file, **small)
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["conditions"][0]["organs"]) == {"cell"}
    run_here(file, entry="prune", **small)
    with (run / "prune/pruning.csv").open() as stream:
        assert [row["level"] for row in csv.DictReader(stream)] == ["1", "2", "3", "4"]


def test_bce_and_dice_of_one_class(cells, tmp_path):
    """The network has one logit, and the background gets 0; the mean mask keeps its classes; position goes along."""
    plain, position, mean = (
        content(file) for file in write(cells, tmp_path, [POSITION, MEAN_MASK], training=Training("bce_dice"))
    )
    for made in (plain, position):
        assert made["train"]["loss"] == {"_target_": "medpos.losses.BCEDice"}
        assert made["network_def"]["out_channels"] == 1
        assert made["inferer"]["_target_"] == "medpos.inferers.BackgroundInferer"
        assert made["inferer"]["inferer"]["inferer"]["_target_"] == "SlidingWindowInferer"
    assert mean["inferer"]["_target_"] == "medpos.inferers.FastInferer"
    assert content(tmp_path / "metadata.json")["network_data_format"]["outputs"]["pred"]["num_channels"] == 1
    run = run_here(tmp_path / "mine.json", runs_dir=str(tmp_path / "runs"), image_size=32, batch_size=2, max_epochs=1)
    assert set(json.loads((run / "summary.json").read_text())["conditions"][0]["organs"]) == {"cell"}


@pytest.mark.parametrize(
    ("training", "network", "message"),
    [
        (Training("dice"), "small", "--loss: expected one of cross_entropy, bce_dice, got 'dice'"),
        (Training("bce_dice"), "small", "--loss: bce_dice expects one class beside the background, got 2"),
        (Training(deep_supervision=True), "unet", "--deep-supervision: expected --network unetpp, got unet"),
    ],
)
def test_trainings_that_do_not_fit_are_refused(prostates, tmp_path, training, network, message):
    with pytest.raises(InputError, match=message):
        write(prostates, tmp_path, network=network, training=training)
    assert not list(tmp_path.iterdir())


def test_monai_finds_metadata_and_logging_beside_the_bundle(cells, tmp_path):
    write(cells, tmp_path, [POSITION])
    with kept_state():
        for name, metadata in (("mine", "metadata"), ("mine_pe", "metadata_pe")):
            meta_file, config = str(tmp_path / f"{metadata}.json"), str(tmp_path / f"{name}.json")
            verify_net_in_out("network_def", config_file=config, meta_file=meta_file, any=16, device="cpu")
    assert (tmp_path / "logging.conf").read_text() == (BUNDLES / "logging.conf").read_text()


def test_a_bundle_is_overwritten_only_on_request(cells, prostates, tmp_path):
    [file] = write(cells, tmp_path)
    before = file.read_bytes()
    assert write(cells, tmp_path) == [file]
    with pytest.raises(InputError, match="expected a new file, got a bundle with other content"):
        write(prostates, tmp_path)
    assert file.read_bytes() == before
    write(prostates, tmp_path, replace=True)
    assert file.read_bytes() != before


@pytest.mark.parametrize(
    ("name", "network", "data", "message"),
    [
        ("a b", "small", "", "NAME: expected letters, .*, got 'a b'"),
        ("jsrt_pe", "small", "", "got 'jsrt_pe', a bundle of the project"),
        ("mine", "vgg", "", "--network: expected one of unet, small, unetpp, .* got 'vgg'"),
        ("mine", "small", "nowhere", "no such file"),
    ],
)
def test_bad_requests(cells, tmp_path, name, network, data, message):
    with pytest.raises(InputError, match=message):
        new_bundle.write(name, tmp_path / data if data else cells, network, [], SOURCE, tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()


@pytest.mark.parametrize("odd", ["a#b", "$x", "@seed", "%y", "50 % [/z] 'q' @seed $1"])
def test_a_path_that_means_something_to_monai(cells, tmp_path, odd, monkeypatch):
    """The bundle reads the folder of that very name, in MONAI's notation and in the study's."""
    shutil.copytree(cells, tmp_path / odd)
    monkeypatch.chdir(tmp_path)
    [file] = write(Path(odd), tmp_path / "bundles")
    assert parser(file).get_parsed_content("dataset_dir") == odd
    assert len(parser(file).get_parsed_content("dataset")) > 0
    assert resolve_configuration(file, {})["data_folder"] == odd


def test_a_bundle_of_a_path_with_a_number_sign_trains(cells, tmp_path):
    odd = shutil.copytree(cells, tmp_path / "a#b")
    [file] = write(odd, tmp_path / "bundles")
    run = run_here(file, runs_dir=str(tmp_path / "runs"), max_epochs=1)
    assert (run / "summary.json").exists()
    assert content(run / "config.json")["dataset_dir"] == str(odd)


def test_the_command_line(cells, tmp_path):
    arguments = ["new-bundle", "mine", "--data", str(cells), "--pe", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "  image_size 32: the median training image has 24 x 20 px" in result.output
    assert f"run --config_file {tmp_path / 'mine_pe.json'}" in result.output


def first_test_case(bundle, data):
    try:
        return parser(bundle, dataset_dir=str(data)).get_parsed_content("dataset")[0]
    except RuntimeError as error:  # MONAI wraps what a configuration raises
        raise error.__cause__ from None


@pytest.mark.parametrize(
    ("channels", "message"),
    [(["T2", "ADC", "DCE"], "expected 3 channels as dataset.json names, got 2"), ("T2", "list of names")],
)
def test_channels_that_the_files_do_not_have(prostates, tmp_path, channels, message):
    data = shutil.copytree(prostates, tmp_path / "data")
    (data / "dataset.json").write_text(json.dumps({**content(data / "dataset.json"), "channels": channels}))
    [file] = write(prostates, tmp_path / "bundles")
    with pytest.raises(InputError, match=message):
        first_test_case(file, data)
    assert any("channels" in problem or "shape" in problem for problem in check(data)[1])


def test_a_study_names_the_missing_variant(cells, tmp_path):
    [file] = write(cells, tmp_path)
    with pytest.raises(InputError, match=r"mine_mean_mask.json: does not exist, .*new-bundle mine --pe --mean-mask"):
        declaration.load(BUNDLES / "studies", "table1", bundle=file)
    with pytest.raises(InputError, match="leave one of them out"):
        declaration.load(BUNDLES / "studies", "table1", "unet", bundle=file)


def test_a_study_plans_the_users_bundles(cells, tmp_path):
    [file, *_] = write(cells, tmp_path, [POSITION, MEAN_MASK])
    arguments = ["study", "figure3", "--bundle", str(file), "--runs-dir", str(tmp_path / "runs"), "--seeds", "0"]
    result = CliRunner().invoke(
        app,
        [*arguments, "--out", str(tmp_path / "out"), "--set", "image_size=16", "--dry-run"],
        env={"COLUMNS": "200"},
    )
    assert result.exit_code == 0, result.output
    for model in ("small CNN", "small CNN + position, pe_alpha 10.0", "mean mask"):
        assert f"mine: {model}, seed 0" in result.output
    assert not (tmp_path / "runs").exists()


def test_colors_are_distinct():
    assert len(set(distinct(200))) == 200
    assert distinct(9)[:5] == distinct(5)
