"""Slips of the hand: each is answered by one line that names it, before anything is read, trained or written."""

import json
import math
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml
from monai.bundle import ComponentLocator, ConfigParser
from running import ALL, BUNDLES, config_file, kept_state, leave_to_torture, parser, refusal, run_bundle, start
from typer.testing import CliRunner

from medpos.__main__ import app
from medpos.bundle.arguments import check_arguments
from medpos.bundle.chains import try_chain
from medpos.bundle.values import check_expressions, check_references, check_values
from medpos.core.colors import PUBLISHED
from medpos.core.ending import explain
from medpos.core.errors import InputError, find_input_error
from medpos.core.rules import load_rules
from medpos.data.conditions import GROUPS
from medpos.inferers.crf import PAPERS
from medpos.inferers.heat_maps import MODES as HEAT_MAPS
from medpos.networks.classification.densenet import DEPTHS as DENSENETS
from medpos.networks.classification.resnet import DEPTHS as RESNETS
from medpos.networks.encoder_decoder.segnet_basic import DECODERS
from medpos.networks.encoder_decoder.unetpp import MODES
from medpos.networks.fully_convolutional.deeplab import HEADS
from medpos.networks.fully_convolutional.fcn import UPSAMPLINGS
from medpos.networks.layers.blocks import PADDING_MODES
from medpos.networks.sunet.network import DILATIONS, VARIANTS
from medpos.study.models import parse_bundle
from medpos.transforms.intensity.degradations import TABLES
from medpos.transforms.position.channels import ENCODINGS, RANGES

ENTRIES = ["run", "evaluate", "robustness", "shift"]
# Key, value as MONAI's command line reads it, words of the message.
VALUES = [
    ("lr", True, "expected a number above 0, got True"),
    ("lr", "nan", "got 'nan'"),
    ("lr", math.nan, "got nan"),
    ("lr", math.inf, "got inf"),
    ("lr", -5, "got -5"),
    ("lr", "1e-3x", "expected a number"),
    ("lr", [0.1], "expected a number"),
    ("pe_alpha", "x", "expected a number above 0, got 'x'"),
    ("pe_alpha", "nan", "got 'nan'"),
    ("memory_gb", "x", "--memory_gb: expected a number above 0, got 'x'"),
    ("memory_gb", math.nan, "got nan"),
    ("device_memory_gb", -1, "--device_memory_gb: expected a number of at least 0, or None, got -1"),
    ("device_memory_gb", "all", "got 'all'"),
    ("surface_interval", 0, "--surface_interval: expected an integer of at least 1, got 0"),
    ("compile", "true", "--compile: expected True or False, got 'true'"),
    ("deterministic", 1, "--deterministic: expected True or False, got 1"),
    ("image_size", 1_000_000, "expected an integer from 8 to 16384, got 1000000"),
    ("image_size", 1, "expected an integer from 8 to 16384, got 1"),
    ("image_size", 64.0, "got 64.0"),
    ("batch_size", "8", "expected an integer of at least 1, got '8'"),
    ("batch_size", True, "got True"),
    ("num_workers", 100_000, "expected an integer from 0 to 256"),
    ("num_workers", -1, "got -1"),
    ("seed", -1, "--seed: expected an integer from 0"),
    ("seed", 1.5, "got 1.5"),
    ("max_epochs", 0, "--max_epochs"),
    ("max_epochs", "ten", "got 'ten'"),
    ("train_cases", 0, "expected an integer of at least 1, or None, got 0"),
    ("train_cases", "none", "got 'none'"),
    ("amp", "true", "expected True or False, got 'true'; write it with a capital letter"),
    ("resume", 1, "expected True or False, got 1"),
    ("conditions", "foo", "--conditions: expected a list of items, each one of clean, "),
    ("conditions", ["clean", "shift"], "did you mean shifts?"),
    ("conditions", 3, "got 3"),
    ("degradation_table", "imagenet-c", "did you mean imagenet_c?"),
    ("shift_pixels", [900], "expected distances below the image_size of 32 px, got 900"),
    ("shift_pixels", [8, 32], "got 32"),
    ("shift_pixels", [1.5], "each an integer of at least 1, got [1.5]"),
    ("shift_pixels", [-8], "got [-8]"),
    ("shift_pixels", [], "got []"),
    ("shift_pixels", 8, "expected a list"),
    ("padding_mode", "reflects", "did you mean reflect?"),
    ("encoding", "fourie", "did you mean fourier?"),
    ("encoding_bands", 17, "from 1 to 16"),
    ("bundle_name", "../../x", "--bundle_name: expected text of letters"),
    ("bundle_name", "/x", "--bundle_name"),
    ("bundle_name", "..", "--bundle_name"),
    ("phantom_cases", 2, "--phantom_cases: expected an integer of at least 3"),
    ("dataset_dir", 5, "--dataset_dir: expected text, got 5; for text that looks like a number, quote it twice"),
    ("run_name", 1e5, """quote it twice: --run_name "'100000.0'\""""),
    ("run_name", True, "--run_name"),
    ("run_name", "$", "--run_name: '$' can't be evaluated"),
    ("run_name", "$1 +", "can't be evaluated"),
    ("run_name", "$unknown", "name 'unknown' is not defined"),
    ("run_name", "$@seeed", "refers to the key seeed, which the bundle lacks"),
    ("dataset_dir", "@nothing", "write a path of that name as './@nothing'"),
    ("dataset_dir", "@seed", "--dataset_dir: expected text, got 0"),
    ("runs_dir", "$3", "--runs_dir: expected text, got 3"),
    ("device", "cuda:99", "--device"),
    ("device", "gpu", "--device: expected cpu, cuda or cuda:N, got 'gpu'"),
    ("device", "meta", "can't compute here"),
    ("device", "", "--device"),
    ("checkpoint", 7, "--checkpoint: expected text"),
    ("network_def", 3, "--network_def: expected keys with values, a list or an expression, got 3"),
    ("network_def", "UNet", "got 'UNet'; set one of its parts by --network_def#KEY"),
    ("source", "data/jsrt", "--source: expected keys"),
    ("train", 3, "--train: expected keys"),
    ("steps", False, "--steps: expected keys"),
    ("handlers", 3, "--handlers: expected keys"),
]
# The same for keys of every level.
COUNT = "expected an integer of at least 1, got"
BOOLEAN = "expected True or False, got 'maybe'; write one of them"
PART = "expected keys with values, a list or an expression, got 3"
NESTED = [
    ("network_def#out_channels", 0, COUNT),
    ("network_def#out_channels", 7, "expected 4 for the 4 classes of the data, background included, got 7"),
    ("network_def#out_channels", 2, "expected 4 for the 4 classes"),
    ("network_def#out_channels", 4.0, "expected an integer, got 4.0"),
    ("network_def#in_channels", 4, "a training step on a batch of 5 of 32 x 32 px fails"),
    ("network_def#in_channels", -1, COUNT),
    ("network_def#conv_bias", "maybe", BOOLEAN),
    ("network_def#network", 3, "expected a function, got 3"),
    ("network_def#network", "$networks.UNett", "can't be evaluated (module 'medpos.networks' has no attribute 'UNett'"),
    ("network_def#network", "$networks.(", "can't be evaluated (invalid syntax"),
    ("train#trainer#max_epochs", -1, "expected an integer of at least 1, got -1; it sets: length of the training"),
    ("train#trainer#max_epochs", 1.5, "expected an integer, got 1.5"),
    ("train#trainer#epoch_length", 0, COUNT),
    ("train#trainer#accumulation_steps", 0, COUNT),
    ("train#trainer#decollate", "maybe", BOOLEAN),
    ("train#trainer#device", "x", "--train#trainer: SupervisedTrainer refuses its values (Expected one of cpu"),
    ("train#handlers", 3, PART),
    ("train#handlers#1#interval", 0, COUNT),
    ("train#handlers#1#interval", 1.5, "expected an integer, got 1.5"),
    ("train#handlers#1#epoch_level", "maybe", BOOLEAN),
    ("train#handlers#1#validator", 3, "expected an object of Evaluator or None, got 3"),
    ("train#handlers#1#_target_", "ValidationHandle", "Cannot locate"),
    ("train#handlers#2#patience", -1, "expected an integer of at least 0, got -1"),
    ("train#handlers#2#seed", "x", "expected an integer, got 'x'"),
    ("train#handlers#0#desc", 3, "expected text, got 3"),
    ("train#dataset#slices", "maybe", BOOLEAN),
    ("train#sampler#num_replicas", 0, COUNT),
    ("train#sampler#seed", -1, "expected an integer from 0 to 4294967295, got -1"),
    ("train#dataloader#num_workers", 1000, "expected an integer from 0 to 256, got 1000"),
    ("train#dataloader#drop_last", "maybe", "drop_last should be a boolean value"),
    ("train#optimizer", 3, PART),
    ("train#optimizer#amsgrad", "maybe", BOOLEAN),
    ("train#optimizer#weight_decay", -1, "expected a number of at least 0, got -1"),
    ("train#optimizer#betas", 3, "expected a list, got 3"),
    ("train#optimizer#betas", [2, 3], "Invalid beta parameter at index 0: 2"),
    ("train#inferer", 3, PART),
    ("train#loss#ignore_index", "x", "expected an integer, got 'x'"),
    ("validate#evaluator#amp", "maybe", BOOLEAN),
    ("validate#evaluator#mode", "x", "refuses its values (Unsupported option 'x'"),
    ("validate#dataloader#batch_size", 0, "--validate#dataloader"),
    ("validate#key_metric#mean_dice#surfaces", 3, "expected a function or None, got 3"),
    ("evaluator#amp", "maybe", BOOLEAN),
    ("evaluator#mode", "x", "--evaluator: SupervisedEvaluator refuses its values (Unsupported option 'x'"),
    ("evaluator#epoch_length", -1, COUNT),
    ("evaluator#val_handlers", 3, "--evaluator"),
    ("dataloader#batch_size", 0, "batch_size"),
    ("inferer", 3, PART),
    ("inferer#inferer", 3, "expected an object of Inferer, got 3"),
    ("inferer#inferer#sw_batch_size", 0, COUNT),
    ("inferer#inferer#overlap", 2, "expected a number of at least 0 and below 1, got 2"),
    ("inferer#inferer#mode", "x", "'x' is not a valid BlendMode"),
    ("inferer#amp", "maybe", BOOLEAN),
    ("key_metric", 3, PART),
    ("key_metric#mean_dice#labels", 3, "expected a list, got 3"),
    ("handlers", [3], "--evaluator: SupervisedEvaluator refuses its values ('int' object has no attribute 'attach')"),
    ("steps#scale#b_max", "x", "expected a number or None, got 'x'"),
    ("board", 3, PART),
    ("device_memory#limit_gb", "x", "expected a number or None, got 'x'"),
    ("run_folder", 3, PART),
    ("run_folder#resume", "maybe", BOOLEAN),
    ("phantom#values", 3, PART),
    ("known_keys", 3, PART),
    ("finalize", 3, PART),
    ("steps#argmax#keys", "predd", "--steps#argmax#keys: expected keys of the data, such as image, label or"),
    ("steps#normalize#keys", ["image", "imagee"], "pred, got 'imagee', which no item has there"),
    ("steps#normalize#subtrahend", [1, 2, 3], "NormalizeIntensityd can't be applied to the first item (unsupported"),
    ("steps#scale#keys", "imagee", "--steps#scale#keys: expected keys of the data"),
    ("finalize", ["$1+"], "--finalize#0: '$1+' can't be evaluated (invalid syntax"),
    ("finalize", ["$import nump", "$nothing()"], "--finalize#1: can't be evaluated (name 'nothing' is not defined)"),
    ("evaluate", ["$handlers.trian()"], "(module 'medpos.handlers' has no attribute 'trian')"),
]
CHAIN = {"_target_": "Compose"}
LATE = [case for case in NESTED if case[2] not in (COUNT, BOOLEAN, PART)][::3]  # parts are built until it is found
# Mistyped keys of every level, and the right one.
KEYS = [
    ("max_epoch", "--max_epochs?"),
    ("condition", "--conditions?"),
    ("shift_pixel", "--shift_pixels?"),
    ("train#optimzer#lr", "--train#optimizer?"),
    ("train::optimzer::lr", "--train#optimizer?"),
    ("trian#optimizer#lr", "--train?"),
    ("train#optimizer#lrr", "--train#optimizer#lr?"),
    ("train#handlers#99#interval", "a number below"),
    ("train#handlers#x#interval", "a number below"),
    ("lr#x", "single value"),
    ("lr#x#y", "single value"),
    ("network_def#paddin_mode", "--network_def#padding_mode?"),
    ("steps#degrade#sead", "#degrade#seed?"),
]


def everything(folder):
    return sorted(path.name for path in Path(folder).rglob("*"))


@pytest.mark.parametrize(("key", "value", "words"), VALUES, ids=str)
def test_a_wrong_value_is_refused_before_anything_is_read(key, value, words, tiny):
    message = refusal("jsrt_small_pe", **{**tiny, "dataset_dir": "/nowhere", key: value})
    assert words in message
    assert everything(tiny["runs_dir"]) == []


@pytest.mark.parametrize("case", leave_to_torture(NESTED, [*NESTED[2::2], *LATE]), ids=str)
def test_a_wrong_nested_value_is_refused_before_the_run_folder_is_made(case, tiny):
    key, value, words = case
    assert words in refusal("jsrt_small_pe", **tiny, **{key: value})
    assert everything(tiny["runs_dir"]) == []


def test_a_transform_that_acts_at_random_must_find_its_keys_too(tiny):
    flip = {"_target_": "RandFlipd", "keys": ["image", "labell"], "prob": 0}
    config = parser("jsrt_small", dataset_dir=tiny["dataset_dir"], train__preprocessing={**CHAIN, "transforms": [flip]})
    with pytest.raises(InputError, match=r"--train#preprocessing#transforms#0#keys: .* got 'labell'"):
        try_chain(config.get_parsed_content("train::dataset"), config.get())


@pytest.mark.parametrize(
    "right",
    [
        "import math as m",
        "[m.pi for m in (np,)]",
        "(lambda a, *b, c=1: (a, b, c))(@seed)",
        "(n := 3) + n",
        "torch.float32",
    ],
)
def test_right_expressions_pass(right):
    check_expressions(ConfigParser({"seed": 0, "x": f"${right}"}))


@pytest.mark.parametrize(
    ("expression", "reason"),
    [("np.load('/nowhere')", "No such file or directory: '/nowhere'"), ("1/0", "division by zero")],
)
def test_a_failure_at_the_end_of_a_run_is_one_line_that_says_so(expression, reason):
    with pytest.raises(RuntimeError) as error:
        ConfigParser({"finalize": [f"${expression}"]}).get_parsed_content("finalize")
    message = explain(error.value)
    assert "--finalize#0 fails (" in message
    assert f"{reason}); the results are complete" in message


def test_the_arguments_of_a_component_that_say_little_are_left_to_it():
    config = {
        "a": {"_target_": "NormalizeIntensityd", "keys": "image", "subtrahend": 0.5, "divisor": [1, 2.5]},
        "b": {"_target_": "Resized", "keys": ["image"], "spatial_size": 32, "mode": "area", "align_corners": None},
        "c": {"_target_": "SlidingWindowInferer", "roi_size": [32, -1], "overlap": [0.25, 0], "sw_device": "cpu"},
        "d": {"_target_": "torch.nn.CrossEntropyLoss", "label_smoothing": 0, "ignore_index": 255},
        "e": {"_target_": "torch.optim.SGD", "params": [], "lr": 1, "momentum": 0, "fused": None},
        "f": {"_target_": "SupervisedEvaluator", "device": "cpu", "epoch_length": None, "amp_kwargs": {"x": 1}},
        "g": {"_target_": "monai.networks.nets.UNet", "channels": [4, 8], "strides": [2], "norm": ["group", {"n": 1}]},
        "h": {"_target_": "LambdaLR", "lr_lambda": "$lambda n: 1"},
        "i": {"_target_": "no.such.Component", "x": 3},
    }
    check_arguments({"top": config}, ComponentLocator())


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(("key", "value", "words"), VALUES[::9], ids=str)
def test_it_is_refused_by_every_entry_point(key, value, words, entry, tiny):
    assert words in refusal("jsrt_small_pe", entry=entry, **{**tiny, "dataset_dir": "/nowhere", key: value})


@pytest.mark.parametrize(("key", "value", "words"), VALUES[::9], ids=str)
def test_it_is_refused_in_an_overlay(key, value, words, tiny, tmp_path):
    (tmp_path / "overlay.json").write_text(json.dumps({key: value}))
    given = {name: part for name, part in tiny.items() if name != key}
    message = refusal("jsrt_small_pe", tmp_path / "overlay.json", **given)
    assert words in message


@pytest.mark.parametrize(("key", "hint"), KEYS)
def test_a_mistyped_key_is_named_with_the_right_one(key, hint):
    with kept_state(), pytest.raises(InputError) as error:
        parse_bundle(BUNDLES / "jsrt_small_pe.json", {key: 1})
    assert f"--{key.replace('::', '#')}" in str(error.value).replace("::", "#")
    assert hint in str(error.value)


@pytest.mark.parametrize("given", ["position", ["clean", "position"]])
def test_probes_of_the_position_need_position_channels(given, tiny):
    assert "this bundle has no position channels" in refusal("jsrt_small", **tiny, conditions=given)
    parse_bundle(BUNDLES / "jsrt_small_pe.json", {**tiny, "conditions": given})


EARLIER = Path(__file__).parents[1] / "bundles/earlier_version.json"


@pytest.mark.parametrize("overlay", [(), ("crf",), ("multi_gpu",)], ids=str)
@pytest.mark.parametrize("name", [*ALL, EARLIER], ids=str)
def test_the_values_and_references_of_every_bundle_pass(name, overlay, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    config = ConfigParser()
    config.read_config(config_file(name, *overlay))
    check_references(config)
    check_expressions(config)
    check_values(config)
    check_arguments(config.get(), config.locator)


def test_a_users_own_key_is_checked_where_the_metadata_describe_it(tmp_path):
    config = parser("jsrt_small", width=3)
    check_values(config)
    config["_meta_"] = {"keys": {"width": {"type": "number", "maximum": 2, "description": "factor of the channels"}}}
    with pytest.raises(InputError, match="--width: expected a number of at most 2, got 3; it sets: factor of the"):
        check_values(config)


def test_the_study_s_shifts_are_the_default_of_every_size():
    check_values(parser("jsrt_small", image_size=32))


def test_the_choices_of_the_rules_are_those_of_the_code():
    choices = {
        "conditions": GROUPS, "degradation_table": TABLES, "padding_mode": PADDING_MODES, "pe_range": RANGES,
        "encoding": ENCODINGS, "publisher": PUBLISHED, "upsampling": UPSAMPLINGS, "head": HEADS, "crf_name": PAPERS,
        "variant": {*VARIANTS, *map(str, [*RESNETS, *DENSENETS])}, "depth": VARIANTS["64"].modules,
        "output_stride": DILATIONS, "supervision_mode": MODES, "decoder": DECODERS, "heat_maps": HEAT_MAPS,
    }  # fmt: skip
    rules = load_rules()
    for key, known in choices.items():
        assert set(rules[key].get("enum") or rules[key]["items"]["enum"]) == set(known), key
    assert {key for key, rule in rules.items() if "enum" in str(rule)} - choices.keys() == {"skips"}


# --- studies ---------------------------------------------------------------------------------------------------------


def study(*arguments):
    with kept_state():
        done = CliRunner().invoke(app, ["study", *arguments, "--dry-run"], env={"COLUMNS": "200"})
    error = find_input_error(done.exception) if done.exception else None
    assert error is not None, done.output
    return str(error)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "max_epoch=1"], "no bundle of this study has a key 'max_epoch'; did you mean max_epochs?"),
        (["--set", "trian#optimizer#lr=1"], "'trian#optimizer#lr'; did you mean train?"),
        (["--set", "train#optimzer#lr=1"], "did you mean --train#optimizer?"),
        (["--set", "max_epochs=many"], "--max_epochs: expected an integer"),
        (["--set", "shift_pixels=[1.5]"], "--shift_pixels: expected a list"),
        (["--set", "image_size=64", "--set", "shift_pixels=[900]"], "below the image_size of 64 px"),
        (["--set", "lr=True"], "--lr: expected a number"),
        (["--set", "conditions=foo"], "--conditions"),
        (["--dataset-dir", "acd=somewhere"], "--dataset-dir acd: expected a data set of this study"),
        (["--dataset-dir", "jsrt=/nowhere"], "/nowhere/dataset.json: no such file"),
        (["--profile", "tny"], "--profile: expected paper, quick, tiny, got 'tny'"),
        (["--data", "jsr"], "jsrt"),
        (["--seeds", "1,2,1"], "--seeds: expected each seed once, got '1,2,1'"),
        (["--seeds", "-1"], "--seeds: expected whole numbers from 0"),
        (["--seeds", "99999999999"], "--seeds: expected whole numbers from 0 to 4294967295"),
        (["--set", "lr=0.1", "--set", "lr=0.2"], "--set: expected one value for lr, got 2"),
        (["--set", "=1"], "--set: expected KEY=VALUE, got '=1'"),
        (["--dataset-dir", "jsrt=a", "--dataset-dir", "jsrt=b"], "--dataset-dir: expected one value for jsrt, got 2"),
        (["--set", "lr=" + "[" * 5000], "--lr: expected a number"),
    ],
    ids=str,
)
def test_slips_in_a_study(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in study("table1", "--network", "small", *arguments)
    assert everything(tmp_path) == []


@pytest.mark.parametrize("command", [["study", "table1"], ["predict", "run", "image.nii.gz", "--out", "out"]])
def test_more_threads_than_a_machine_bears(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*command, "--threads", "100000"])
    assert "--threads: expected at most" in str(done.exception)
    assert everything(tmp_path) == []


def test_names_and_paths_with_brackets_are_shown_as_they_are(tmp_path, monkeypatch):
    """A console of rich would take them for its own marks."""
    monkeypatch.chdir(tmp_path)
    content = json.loads((BUNDLES / "studies/table1.json").read_text())
    models = [{"name": "a[/b]c [red]", "bundle": "{data}_small"}]
    (tmp_path / "mine.json").write_text(json.dumps({**content, "models": models, "criteria": []}))
    arguments = ["study", "mine.json", "--data", "jsrt", "--runs-dir", "[/x]", "--dry-run"]
    with kept_state():
        done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "a[/b]c [red], seed 0" in done.output
    assert "[/x]/jsrt_small/" in done.output


def test_a_profile_with_a_key_that_no_bundle_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medpos.study.declaration.load_profile", lambda *_: {"max_epoch": 1})
    assert "--set or --profile: no bundle of this study has a key 'max_epoch'" in study("table1")


def test_keys_of_some_bundles_alone_are_set_where_they_are(tmp_path, monkeypatch):
    """The mean mask has no learning rate."""
    monkeypatch.chdir(tmp_path)
    with kept_state():
        done = CliRunner().invoke(app, ["study", "table1", "--network", "small", "--set", "lr=0.01", "--dry-run"])
    assert done.exit_code == 0, done.output


# --- medpos run ------------------------------------------------------------------------------------------------------


def launched(*arguments):
    """The one line that ``medpos run`` ends with."""
    with kept_state():
        done = CliRunner().invoke(app, ["run", *map(str, arguments)])
    assert isinstance(done.exception, Exception), done.output
    message = explain(done.exception)
    assert message is not None, done.exception
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        ("{bad", "b.json", "b.json: can't be read as JSON"),
        ("a: [1\nb: 2", "b.yaml", "b.yaml, line 2: expected YAML"),
        ("just text", "b.yml", "b.yml, line 1: expected keys with values"),
        ("[1]", "b.json", "expected a JSON object, got list"),
        ("{}", "b.json", "run: the bundle has no such entry point. It has: none"),
        ("{}", "b.txt", "expected a configuration as .json, .yaml, .yml"),
        ("\udcff", "b.json", "can't be read as JSON"),
        ('{"+a::b": 1}', "b.json", "b.json"),
    ],
    ids=str,
)
def test_broken_configurations(content, name, words, tmp_path):
    (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    assert words in launched("--config_file", tmp_path / name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--config_file: expected the file of a bundle, got none"),
        (["--config_file", "nowhere.json"], "'nowhere.json', which is not there; correct the path"),
        (["--config_file", BUNDLES / "jsrt_p.json"], "which is not there; did you mean jsrt_pe.json?"),
        (["--config_file", BUNDLES], "which is not there"),
        (
            ["evalute", "--config_file", "{bundle}"],
            "evalute: the bundle has no such entry point; did you mean evaluate?",
        ),
        (["train", "--config_file", "{bundle}"], "train: the bundle has no such entry point; did you mean run?"),
        (["initialize", "--config_file", "{bundle}"], "initialize: the bundle has no such entry point"),
        (["lr", "--config_file", "{bundle}"], "lr: the bundle has no such entry point"),
        (["--config_file", "['{bundle}','over.json']"], "'over.json', which is not there"),
        (["--config_file", "{bundle}", "--meta_file", "no.json"], "--meta_file: expected a file"),
        (["--config_file", "{bundle}", "--logging_file", "no.conf"], "--logging_file: expected a file"),
        (["--args_file", "no.json"], "--args_file: expected a file"),
        (["--config_file", "{bundle}", "--train#optimzer#lr", 1], "did you mean --train#optimizer?"),
        (
            ["--config_file", "{bundle}", "--imports", 3],
            "--imports: expected keys with values, a list or an expression",
        ),
        (["--config_file", "{bundle}", "--imports", "['$import os']"], "(name 'bundle' is not defined); correct the"),
        (["--config_file", "{bundle}", "--initialize", 3], "--initialize: expected keys with values, a list"),
        (["--config_file", "{bundle}", "--handlers#9#run", 3], "expected a number below"),
        (["--config_file", "{bundle}", "--dataset_dir", "%nothing"], "the text that begins with %"),
        (["--config_file", "{bundle}", "--dataset_dir", "a#b"], "a#b/dataset.json: no such file"),
        (["--config_file", "{bundle}", "--dataset_dir", "[/x]"], "[/x]/dataset.json: no such file"),
        (["--config_file", "{bundle}", "--dataset_dir", "1e5"], "1e5/dataset.json: no such file"),
        (["--config_file", "{bundle}", "--dataset_dir=[a]"], "[a]/dataset.json: no such file"),
        (["--config_file", "{bundle}", "--dataset_dir", "x@seed"], "x@seed/dataset.json: no such file"),
        (["--config_file", "{bundle}", "--dataset_dir", "$"], "--dataset_dir: '$' can't be evaluated"),
        (
            ["--config_file", "{bundle}", "--run_name", "a#b"],
            "run_name: expected letters, digits, '.', '_' or '-', got 'a#b'",
        ),
    ],
    ids=str,
)
def test_slips_on_the_command_line(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundle = str(BUNDLES / "jsrt_small.json")
    assert words in launched(*(str(argument).replace("{bundle}", bundle) for argument in arguments))


def test_a_bundle_in_yaml_and_texts_as_typed(tiny, tmp_path):
    """A YAML bundle runs; names that look like numbers and paths with special characters are taken as typed."""
    odd = shutil.copytree(tiny["dataset_dir"], tmp_path / "a#b [x] @seed")
    bundle = tmp_path / "mine.yaml"
    bundle.write_text(yaml.safe_dump(json.loads((BUNDLES / "jsrt_small.json").read_text())))
    given = {**tiny, "dataset_dir": odd, "run_name": "1e5", "max_epochs": 1}
    arguments = [part for key, value in given.items() for part in (f"--{key}", str(value))]
    with kept_state():
        done = CliRunner().invoke(app, ["run", "--config_file", str(bundle), *arguments])
    assert done.exception is None, explain(done.exception)
    run = Path(tiny["runs_dir"]) / "jsrt_small/1e5"
    assert (run / "summary.json").exists()
    assert json.loads((run / "config.json").read_text())["dataset_dir"] == str(odd)
    with kept_state():  # its own configuration finds the data, too
        done = CliRunner().invoke(app, ["run", "evaluate", "--config_file", str(run / "config.json")])
    assert done.exception is None, explain(done.exception)
    assert (run / "evaluate/metrics.csv").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"train__optimizer__lr": -5}, "--train#optimizer#lr: expected a number above 0, got -5"),
        ({"train__optimizer___target_": "torch.optim.Adamm"}, "Adamm"),
        ({"train__trainer__device": "@devise"}, "devise"),
        ({"train__dataloader__prefetch_factor": 2}, "--train#dataloader"),
    ],
    ids=str,
)
def test_parts_that_refuse_their_values_are_tried_before_the_run_folder_is_made(override, words, tiny):
    assert words in refusal("jsrt_small", **tiny, **override)
    assert everything(tiny["runs_dir"]) == []


# --- in a process of its own, as a user does -------------------------------------------------------------------------


def test_a_name_like_a_number_and_a_path_with_a_number_sign_on_monai_s_own_command(tiny, tmp_path):
    odd = shutil.copytree(tiny["dataset_dir"], tmp_path / "data#1")
    given = {**tiny, "dataset_dir": odd.name, "run_name": "1e5"}
    done = run_bundle("jsrt_small", cwd=tmp_path, **given)
    assert done.returncode == 0, done.stderr
    assert (Path(tiny["runs_dir"]) / "jsrt_small/1e5/summary.json").exists()


@pytest.mark.parametrize(
    "override",
    [
        {"entry": "evalute"},
        pytest.param({"lr": "True"}, marks=pytest.mark.torture),
        pytest.param({"train#optimizer#lr": -5}, marks=pytest.mark.torture),
    ],
    ids=str,
)
def test_monai_s_own_command_ends_with_one_line(override, tiny, tmp_path):
    done = run_bundle("jsrt_small", cwd=tmp_path, **{**tiny, **override})
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert everything(tiny["runs_dir"]) == []


@pytest.mark.parametrize(
    ("number", "name"), [pytest.param(signal.SIGINT, "Ctrl-C", marks=pytest.mark.torture), (signal.SIGTERM, "SIGTERM")]
)
def test_a_training_that_is_stopped_says_how_to_go_on(number, name, tiny, tmp_path):
    given = {**tiny, "run_name": "a", "max_epochs": 100_000, "num_workers": 1}
    process = start("jsrt_small", cwd=tmp_path, **given)
    run = Path(tiny["runs_dir"]) / "jsrt_small/a"
    try:
        wait_for(run / "resume.pt")
        process.send_signal(number)
        _, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert err == f"\nstopped by {name}; {run} keeps the finished epochs, go on with --resume True --run_name a\n"


def wait_for(path):
    until = time.monotonic() + 200
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.1)
