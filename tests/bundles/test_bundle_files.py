"""Check the committed files: up to date, plain JSON, with the ids that MONAI's tools look for."""

import importlib.metadata
import json
import re
import shutil
import sys
from pathlib import Path

import monai.bundle
import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_net_in_out
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from running import ALL, BUNDLES, NAMES, ROOT, SECONDARY, config_file, kept_state, leave_to_torture, parser

from medpos.bundle import build
from medpos.bundle.fragments import dumps, load_recipes, merge
from medpos.cli.bundles import metadata_name
from medpos.transforms.intensity.degradations import TABLES

LEARNED = [name for name in NAMES if "mean_mask" not in name]
FLAT = [
    "dataset_dir",
    "runs_dir",
    "run_name",
    "seed",
    "device",
    "max_epochs",
    "batch_size",
    "image_size",
    "train_cases",
    "amp",
    "num_workers",
    "resume",
]


def content(name):
    return json.loads((BUNDLES / f"{name}.json").read_text())


def metadata_file(name):
    return str(BUNDLES / f"{metadata_name(name)}.json")


def ids(properties):
    return [entry["id"] for entry in properties.values() if entry["required"]]


def has(config, path):
    for key in path.split("::"):
        if not isinstance(config, dict) or key not in config:
            return False
        config = config[key]
    return True


def test_the_bundles_are_there_and_nothing_else():
    wanted = {
        f"{d}{n}"
        for d in ("jsrt", "acdc")
        for n in ("", "_pe", "_reflect", "_reflect_pe", "_small", "_small_pe", "_mean_mask")
    }
    assert wanted == set(NAMES)
    others = {"multi_gpu", "crf", *(Path(metadata_file(name)).stem for name in ALL)}
    assert {path.stem for path in BUNDLES.glob("*.json")} == {*ALL, *others}


def test_a_stale_bundle_is_found_and_rebuilt(tmp_path):
    bundles = shutil.copytree(BUNDLES, tmp_path / "bundles")
    bundle = bundles / "acdc_pe.json"
    old = bundle.read_text()
    bundle.write_text(old.replace('"pe_alpha": 3.0', '"pe_alpha": 4.0'))
    assert build.build(bundles, check=True) == ["acdc_pe.json"]
    assert bundle.read_text() != old
    assert build.build(bundles) == ["acdc_pe.json"]
    assert bundle.read_text() == old


@pytest.mark.parametrize("arguments", [["--check"], pytest.param([], marks=pytest.mark.torture)])
def test_the_command_says_that_nothing_is_stale(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["build", *arguments])
    assert build.main() == 0
    assert capsys.readouterr().out == f"{'stale' if arguments else 'written'}: none\n"


def test_bundles_fit_into_120_columns():
    """Allow longer lines only for strings, which can't be broken."""
    for path in BUNDLES.glob("*.json"):
        for line in path.read_text().splitlines():
            assert len(line) <= 120 or re.fullmatch(r' *("\w+": )?"([^"\\]|\\.)*",?', line), (path, line)
    assert len((BUNDLES / "jsrt_pe.json").read_text().splitlines()) < 250


def test_the_file_holds_what_was_written():
    content = {"a": {"b": [1, {"c": "x" * 100, "d": {}}], "e": "y" * 130}, "f": [], "g": ["z" * 50] * 9, "h": None}
    assert json.loads(dumps(content)) == content
    assert list(json.loads(dumps(content))) == list(content)


def test_a_fragment_removes_a_key_and_unused_steps_and_imports_are_left_out():
    recipe = load_recipes(BUNDLES / "src")["imagenet_sunet64"]["fragments"]
    config = merge(BUNDLES / "src", recipe, "a", "", {"-val_interval": None, "+imports": ["$import os as other"]})
    assert not {"val_interval", "memory_gb"} & set(config)
    assert "$import medpos.bundle as bundle" in config["imports"]
    assert "$import os as other" not in config["imports"]
    assert "load" not in config["steps"]
    assert list(config["steps"])[:2] == ["drop_slice_axis", "to_tensor"]  # in the order of their use


def test_no_fragment_addresses_steps_by_position():
    for path in (BUNDLES / "src").rglob("*.yaml"):
        assert not re.search(r"::\d", path.read_text()), path


@pytest.mark.parametrize("name", ALL)
def test_handlers_are_plain_lists(name):
    """Check for MONAI Label, which reads a class from each handler."""
    config = content(name)
    for handlers in (config["train"]["handlers"], config["validate"]["handlers"], config["handlers"]):
        assert all(isinstance(handler, dict) and "_target_" in handler for handler in handlers)


@pytest.mark.parametrize("name", ALL)
def test_a_bundle_has_its_card(name):
    *card, run, origin = content(name)["_desc_"]
    assert len(card) >= 2
    assert run.endswith(f"run --config_file bundles/{name}.json")
    assert "bundles/src" in origin


@pytest.mark.parametrize("name", ALL)
def test_a_bundle_is_self_contained_and_flat(name):
    config = content(name)
    text = (BUNDLES / f"{name}.json").read_text()
    assert '"%' not in text  # no macro: MONAI opens those relative to the current folder
    assert "lambda" not in text  # can't be pickled for workers that are spawned
    assert config["bundle_name"] == name
    flat = [
        *(key for key in FLAT if key != "image_size" or name != "brain_fuzzy_c_means"),  # which takes whole volumes
        *(["padding_mode"] if name in LEARNED else []),
        *(["lr"] if not name.endswith(("mean_mask", "c_means")) else []),
        *(["pe_alpha", "pe_range"] if name.endswith("_pe") else []),
    ]
    assert [key for key in flat if key not in config or isinstance(config[key], dict | list)] == []
    assert {"run", "evaluate", "robustness", "shift", "initialize", "finalize"} <= set(config)


@pytest.mark.parametrize("name", ALL)
def test_the_strengths_of_the_degradations_stand_in_the_bundle(name):
    numbers = content(name)["degradation_table"]
    assert {kind: tuple(strengths) for kind, strengths in numbers.items()} == TABLES["study"]


def test_strengths_are_changed_by_name_and_by_number():
    named = parser("jsrt_small", degradation_table="imagenet_c").get_parsed_content("steps::degrade")
    assert named.table == "imagenet_c"
    own = parser("jsrt_small", **{"degradation_table#shot_noise": [9, 8, 7, 6, 5]})
    assert own.get_parsed_content("steps::degrade").table == {
        **content("jsrt_small")["degradation_table"],
        "shot_noise": [9, 8, 7, 6, 5],
    }


@pytest.mark.parametrize("name", ALL)
def test_the_ids_of_monais_tools_are_there(name):
    config = content(name)
    assert [path for path in [*ids(TrainProperties), *ids(InferProperties)] if not has(config, path)] == []
    evaluator = config["validate"]["evaluator"]
    assert evaluator["inferer"] == "@validate::inferer"
    assert evaluator["postprocessing"] == "@validate::postprocessing"
    assert evaluator["key_val_metric"] == "@validate::key_metric"
    metadata = {"_meta_": json.loads((BUNDLES / "metadata.json").read_text())}
    assert [path for path in ids(MetaProperties) if not has(metadata, path)] == []


@pytest.mark.parametrize("name", ALL)
def test_several_gpus_are_initialized_as_one_is(name):
    """Check above all that published weights are loaded on several GPUs too."""
    config = monai.bundle.ConfigParser()
    config.read_config(config_file(name, "multi_gpu"))
    begins = config.get()["initialize"]
    assert begins[: len(content(name)["initialize"])] == content(name)["initialize"]
    assert sum("init_process_group" in step for step in begins) == 1


@pytest.mark.parametrize("kind", ["train", "infer"])
@pytest.mark.parametrize("name", ["jsrt_small_pe", "acdc_small"])
def test_monai_finds_nothing_missing(name, kind, prepared, tmp_path):
    options = {"dataset_dir": str(prepared[name[:4]]), "runs_dir": str(tmp_path), "image_size": 32}
    with kept_state():
        workflow = ConfigWorkflow(config_file(name), workflow_type=kind, logging_file=False, **options)
        workflow.initialize()
        assert not workflow.check_properties()
    assert list(tmp_path.iterdir()) == []  # looking at a bundle leaves nothing behind


# Networks without padding, and classifiers of patches, have a smaller output, which MONAI's check can't express.
PADDED = [*LEARNED, *(name for name in SECONDARY if not name.endswith(("2015", "patch")))]
AGAIN = ("cityscapes", "context", "parts", "sunrgbd", "liver", "polyp")  # networks that other data have too
AGAIN += ("camvid_fcn", "camvid_deeplab", "voc_fcn16s", "voc_fcn32s", "voc_fcn8s_at_once")  # and forms of FCN-8s


@pytest.mark.parametrize("name", leave_to_torture(PADDED, [name for name in PADDED if name.startswith(AGAIN)]))
def test_output_of_the_network_is_that_of_the_metadata(name):
    with kept_state():
        verify_net_in_out(
            net_id="network_def", meta_file=metadata_file(name), config_file=config_file(name), device="cpu", n=2
        )


def test_metadata_have_the_classes_of_the_networks():
    outputs = json.loads((BUNDLES / "metadata.json").read_text())["network_data_format"]["outputs"]["pred"]
    for name in NAMES:
        assert content(name)["network_def"]["out_channels"] == outputs["num_channels"] == len(outputs["channel_def"])


def test_exported_torchscript_equals_the_network(trained, tmp_path):
    with kept_state():
        ckpt_export(
            net_id="network_def",
            filepath=str(tmp_path / "model.ts"),
            ckpt_file=str(trained / "model.pt"),
            meta_file=metadata_file("jsrt_small_pe"),
            config_file=config_file("jsrt_small_pe"),
            key_in_ckpt="",
            use_trace=True,
            input_shape=[1, 3, 32, 32],
        )
    exported = torch.jit.load(tmp_path / "model.ts").eval()
    network = parser("jsrt_small_pe").get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(trained / "model.pt", weights_only=True))
    image = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        assert torch.equal(exported(image), network(image))


def test_metadata_require_the_installed_versions():
    metadata = json.loads((BUNDLES / "metadata.json").read_text())
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert f"monai=={metadata['monai_version']}" in pyproject
    assert metadata["version"] in metadata["changelog"]
    for package, least in metadata["required_packages_version"].items():
        assert f"{package}>={least.rsplit('.', 1)[0]}" in pyproject
        assert importlib.metadata.version(package)
