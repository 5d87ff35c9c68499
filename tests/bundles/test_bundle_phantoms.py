"""Test phantom mode: the values of a bundle without prepared data, and the values that take precedence."""

import copy
import json
import logging
import shutil

import monai.bundle
import pytest
from running import ALL, BUNDLES, config_file, kept_state, parser
from typer.testing import CliRunner

from data_prep import prepared as data_state
from data_prep.phantoms import write
from medpos.__main__ import app
from medpos.bundle import phantoms
from medpos.core.errors import InputError
from medpos.study.models import compute_identity, resolve_configuration

SHORT = {"image_size": 96, "batch_size": 3, "max_epochs": 14}
OWN = {"image_size": 256, "batch_size": 20, "max_epochs": 100}


def started(name, make=monai.bundle.create_workflow, **overrides):
    """Return values of a bundle after ``initialize``."""
    with kept_state():
        workflow = make(config_file=config_file(name), logging_file=False, **overrides)
        if make is not monai.bundle.create_workflow:
            workflow.initialize()
        return {key: workflow.parser.get_parsed_content(key) for key in OWN}


@pytest.mark.parametrize("name", ALL)
def test_reading_a_plain_value_makes_no_data(name, tmp_path):
    config = parser(name, bundle_root=str(tmp_path))
    section = config["phantom"]
    assert section["instead_of"] == {key: config[key] for key in section["values"]}
    assert section["values"]
    for key, value in config.get().items():
        if key in section["values"] and not str(value).startswith("$"):
            assert config.get_parsed_content(key) == value
    assert config.get_parsed_content("phantom::data") == data_state.MISSING
    assert phantoms.apply(config) == data_state.MISSING
    assert {key: config.get_parsed_content(key) for key in section["values"]} == section["values"]
    assert not list(tmp_path.iterdir())


def test_without_data_phantom_mode_is_logged_and_start_up_makes_no_phantoms(tmp_path, caplog):
    assert started("jsrt_pe", bundle_root=str(tmp_path)) == SHORT
    wanted = f"No prepared data in {tmp_path}/data/jsrt: using phantoms; image_size 96, batch_size 3, max_epochs 14"
    assert wanted in caplog.messages
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [{"max_epochs": 100}, {"max_epochs": 5}, {"image_size": 32, "batch_size": 20}])
def test_given_values_take_precedence(given, tmp_path, caplog):
    """Keep a given value even if it equals the bundle's."""
    assert started("jsrt_pe", bundle_root=str(tmp_path), **given) == {**SHORT, **given}
    assert any("using phantoms" in text and str(next(iter(given.values()))) in text for text in caplog.messages)


def test_values_from_a_file_of_arguments_take_precedence(tmp_path):
    (tmp_path / "arguments.json").write_text(json.dumps({"max_epochs": 100, "bundle_root": str(tmp_path)}))
    values = started("jsrt_pe", args_file=str(tmp_path / "arguments.json"))
    assert values == {**SHORT, "max_epochs": 100}


def test_other_ways_to_start_a_bundle(tmp_path):
    """Count every value that differs from the bundle's as given, if it wasn't started by MONAI's ``run``."""
    make = monai.bundle.ConfigWorkflow
    assert started("jsrt_pe", make, bundle_root=str(tmp_path), image_size=32) == {**SHORT, "image_size": 32}
    overlay = tmp_path / "mine.json"
    overlay.write_text(json.dumps({"max_epochs": 7}))
    with kept_state():
        workflow = make(config_file("jsrt_pe", overlay), logging_file=False, bundle_root=str(tmp_path))
        workflow.initialize()
        assert workflow.parser.get_parsed_content("max_epochs") == 7
        workflow.initialize()  # a second time changes nothing
        assert workflow.parser.get_parsed_content("image_size") == 96


def test_initialize_updates_parts_that_were_built_before(tmp_path):
    config = parser("jsrt_pe", bundle_root=str(tmp_path))
    with kept_state():
        network = config.get_parsed_content("network_def")
        assert config.get_parsed_content("steps::resize").resizer.spatial_size == [256, 256]
        config.get_parsed_content("initialize")
    assert config.get_parsed_content("network_def") is network  # depends on none of the values
    assert config.get_parsed_content("steps::resize").resizer.spatial_size == [96, 96]
    assert {key: config.get_parsed_content(key) for key in OWN} == SHORT


def test_a_named_folder_of_phantoms_starts_phantom_mode_and_real_data_do_not(prepared, tmp_path, caplog):
    named = prepared["jsrt"]
    assert started("jsrt_pe", dataset_dir=str(named)) == SHORT
    assert f"{named} holds phantoms; image_size 96, batch_size 3, max_epochs 14" in caplog.messages
    caplog.clear()
    real = shutil.copytree(named, tmp_path / "data/jsrt")
    content = json.loads((real / "dataset.json").read_text())
    (real / "dataset.json").write_text(json.dumps({**content, "phantom": False}))
    for where in ({"dataset_dir": str(real)}, {"bundle_root": str(tmp_path)}):
        assert started("jsrt_pe", **where) == OWN
    assert not any("using phantoms" in text or "holds phantoms" in text for text in caplog.messages)


def test_a_missing_named_folder_does_not_start_phantom_mode(tmp_path):
    assert data_state.state("jsrt", str(tmp_path / "nowhere"), str(tmp_path)) == data_state.PREPARED


def test_state_of_the_data(prepared, tmp_path):
    default = f"{tmp_path}/data/jsrt"
    assert data_state.state("jsrt", default, str(tmp_path)) == data_state.MISSING
    shutil.copytree(prepared["jsrt"], tmp_path / "data/phantoms/jsrt")
    assert data_state.state("jsrt", default, str(tmp_path)) == data_state.PHANTOMS
    assert data_state.folder("jsrt", default, str(tmp_path), 8) == f"{tmp_path}/data/phantoms/jsrt"
    (tmp_path / "data/jsrt").mkdir()
    assert data_state.state("jsrt", default, str(tmp_path)) == data_state.PREPARED  # an interrupted preparation
    (tmp_path / "data/jsrt/dataset.json").write_text("{")
    assert data_state.state("jsrt", default, str(tmp_path)) == data_state.PREPARED


def test_state_of_photographs_that_are_read_in_place(tmp_path):
    default = f"{tmp_path}/data/imagenet"
    assert data_state.state("imagenet", default, str(tmp_path)) == data_state.MISSING
    write("imagenet", tmp_path / "data/phantoms/imagenet", cases=50)
    assert data_state.state("imagenet", default, str(tmp_path)) == data_state.PHANTOMS
    assert data_state.state("imagenet", f"{tmp_path}/data/phantoms/imagenet", str(tmp_path)) == data_state.PHANTOMS


def test_a_value_that_the_bundle_lacks_is_refused(tmp_path):
    config = parser("jsrt_pe", bundle_root=str(tmp_path), phantom__values={"max_epoch": 1})
    with pytest.raises(InputError, match="no key max_epoch"):
        phantoms.apply(config)


def test_a_bundle_of_an_earlier_version_has_no_section():
    config = monai.bundle.ConfigParser({"max_epochs": 3})
    assert phantoms.apply(config) == data_state.PREPARED
    assert config.get() == {"max_epochs": 3}


def test_a_dry_run_and_the_status_of_a_study_make_no_phantoms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (["study", "table1", "--network", "small", "--dry-run"], ["study", "status", "table1"]):
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        assert not list(tmp_path.iterdir())
    assert "jsrt: small CNN" in CliRunner().invoke(app, ["study", "table1", "--network", "small", "--dry-run"]).output


def test_without_data_dependent_values_stay_unevaluated(tmp_path):
    config = resolve_configuration(BUNDLES / "jsrt_small.json", {"bundle_root": str(tmp_path)}, makes_data=False)
    assert (config["data_folder"][:10], config["data_sha256"]) == ("$prepared.", "$@source.sha256")
    assert config["image_size"] == 96
    assert config["runs_dir"] == f"{tmp_path}/runs"
    assert "phantom" not in config
    assert not list(tmp_path.iterdir())


def test_a_run_of_an_earlier_version_is_the_same_model(trained):
    """Compare with a configuration of unnamed steps and longer entry points."""
    config = json.loads((trained / "config.json").read_text())
    steps = config["steps"]
    old = {key: value for key, value in config.items() if key not in ("steps", "begin_test")}
    for chain in ("decode", "standardise", "preprocessing", "postprocessing"):
        parts = [steps.get(part.removeprefix("@steps::"), part) for part in config[chain]["transforms"]]
        assert parts != config[chain]["transforms"]
        old[chain] = {**config[chain], "transforms": parts}
    parts = [steps.get(part.removeprefix("@steps::"), part) for part in config["train"]["preprocessing"]["transforms"]]
    old["train"] = {**config["train"], "preprocessing": {**config["train"]["preprocessing"], "transforms": parts}}
    old["evaluate"] = ["$@run_folder.open('evaluate')", "$@evaluator.run()"]
    assert compute_identity(old) == compute_identity(config)
    changed = copy.deepcopy(config)
    changed["steps"]["resize"]["mode"] = ["bilinear", "nearest-exact"]
    assert compute_identity(changed) != compute_identity(config)


def test_the_banner_comes_with_the_phantoms(tmp_path, caplog, prepared):
    shutil.copytree(prepared["jsrt"], tmp_path / "data/phantoms/jsrt")
    with caplog.at_level(logging.WARNING):
        data_state.folder("jsrt", f"{tmp_path}/data/jsrt", str(tmp_path), 8)
    assert "PHANTOMS" in caplog.text


def test_each_number_of_phantoms_has_a_folder(tmp_path):
    """The phantoms that were made first keep their folder; a bundle never reads more or fewer than it asks for."""
    default, root = f"{tmp_path}/data/jsrt", str(tmp_path)
    assert data_state.folder("jsrt", default, root, 3) == f"{root}/data/phantoms/jsrt"
    assert data_state.state("jsrt", default, root, 3) == data_state.PHANTOMS
    assert data_state.state("jsrt", default, root, 4) == data_state.MISSING
    assert data_state.state("jsrt", default, root) == data_state.PHANTOMS  # as bundles of earlier versions ask
    assert data_state.folder("jsrt", default, root, 4) == f"{root}/data/phantoms/jsrt-4"
    for number, name in ((3, "jsrt"), (4, "jsrt-4")):
        content = json.loads((tmp_path / "data/phantoms" / name / "dataset.json").read_text())
        assert sum(len(content[split]) for split in ("training", "validation", "test")) == number
        assert data_state.folder("jsrt", default, root, number) == f"{root}/data/phantoms/{name}"


@pytest.mark.parametrize(("kind", "cases"), [("imagenet", 10), ("ibsr", 19), ("jsrt", 248)])
def test_a_number_of_phantoms_that_no_training_can_use_leaves_nothing_behind(kind, cases, tmp_path):
    with pytest.raises(InputError, match=rf"{kind} phantoms, got {cases}; give another --cases or --phantom_cases"):
        data_state.folder(kind, f"{tmp_path}/data/{kind}", str(tmp_path), cases)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=f"got {cases}"):
        write(kind, tmp_path / "raw", cases=cases)
    assert not list(tmp_path.iterdir())
