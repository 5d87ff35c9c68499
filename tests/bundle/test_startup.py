import sys

import pytest
import torch
from monai.bundle import ComponentLocator, ConfigParser
from running import ALL, BUNDLES, CLASSIFIERS, leave_to_torture, parser

from medpos.bundle import startup as bundle
from medpos.core.config import expand_steps, find_step, is_entry_point, is_referred_to
from medpos.core.errors import InputError
from medpos.networks import SmallCNN, UNet

CONFIG = {
    "bundle_name": "b",
    "max_epochs": 3,
    "lr": 1,
    "train": {"epochs": "@max_epochs", "rate": "$2 * @lr"},
}


@pytest.mark.parametrize("key", ["max_epoch", "max_epochs_", "l", "lrr", "train_", "x"])
def test_unknown_key(key):
    with pytest.raises(InputError, match=f"override --{key}: bundle b has no such key.*: bundle_name, max_epochs, lr$"):
        bundle.check_keys({**CONFIG, key: 1})


def test_known_keys_and_keys_that_an_overlay_adds_for_itself():
    bundle.check_keys(CONFIG)
    bundle.check_keys({**CONFIG, "mine": 5, "lr": "$@mine / 2"})
    bundle.check_keys({**CONFIG, "mine": 5, "train": {**CONFIG["train"], "list": [{"a": "@mine"}]}})
    bundle.check_keys({**CONFIG, "mine": 5, "lr": "%mine"})
    bundle.check_keys({"momentum": 1, **CONFIG, "run": []})  # unused because of an override of the optimizer
    bundle.check_keys({**CONFIG, "_meta_": {}, "tracking_uri": "x"})
    bundle.check_keys({**CONFIG, "my_entry_point": ["$print(1)"]})


def test_a_key_with_no_reference_but_its_own_is_unknown():
    with pytest.raises(InputError, match=r"--max_epoch: .* did you mean --max_epochs\?"):
        bundle.check_keys({**CONFIG, "max_epoch": "$@max_epoch + 1"})


def test_bundles_of_earlier_versions_list_their_keys():
    old = {**CONFIG, "memory_gb": 8, "known_keys": [*CONFIG, "memory_gb", "known_keys"]}
    bundle.check_keys(old)
    with pytest.raises(InputError, match=r"--memory_g: .* did you mean --memory_gb\?"):
        bundle.check_keys({**old, "memory_g": 1})


def misspelled(key):
    """Yield a key with a letter left out, with two swapped, and with one typed twice."""
    middle = len(key) // 2
    yield key[:middle] + key[middle + 1 :]
    yield key[: middle - 1] + key[middle] + key[middle - 1] + key[middle + 1 :]
    yield key[:middle] + key[middle] + key[middle:]


@pytest.mark.parametrize(
    "name", leave_to_torture(ALL, {*ALL} - {"acdc_pe", "brain_usegnet", CLASSIFIERS[0], "jsrt_pe"})
)
def test_every_misspelled_key_is_refused_with_the_right_one(name):
    config = parser(name).get()
    bundle.check_keys(config)
    for key in [key for key, value in config.items() if not isinstance(value, dict) and len(key) > 3]:
        for typo in {*misspelled(key)} - {*config}:
            with pytest.raises(InputError, match=rf"override --{typo}: .* did you mean --{key}\?"):
                bundle.check_keys({**config, typo: 1})


@pytest.mark.parametrize("name", ALL)
def test_no_key_is_accepted_and_ignored(name):
    config = parser(name).get()
    used = {key for key in config if is_referred_to(key, {k: v for k, v in config.items() if k != key})}
    alone = {key for key, value in config.items() if not is_entry_point(key, value)} - used
    assert alone == {"_desc_", "imports", "data_sha256", "phantom", "_meta_", "allow_training_cases"} & set(config)


def test_chains_of_named_and_unnamed_steps():
    steps = {"load": {"_target_": "A"}, "resize": {"_target_": "B", "size": "@size"}}
    chain = {"transforms": ["@steps::load", "@steps::resize", {"_target_": "C"}, "@standardise"]}
    plain = {"transforms": [{"_target_": "A"}, {"_target_": "B", "size": "@size"}, {"_target_": "C"}, "@standardise"]}
    assert expand_steps(chain, {"steps": steps}) == plain
    assert expand_steps({**plain, "_desc_": "a remark"}, {}) == plain
    assert [find_step({"steps": steps}, part) for part in chain["transforms"]] == plain["transforms"]


@pytest.mark.parametrize("name", ALL)
def test_nested_keys_of_every_bundle_and_arguments_that_it_omits(name):
    locator = ComponentLocator()
    config = parser(name)
    bundle.check_nested_keys(config.get(), locator)
    # What a component takes beyond the bundle's own arguments, and keys that something refers to.
    config.update({"evaluator#amp": False, "train#mine": 2, "max_epochs": "@train#mine"})
    if name not in CLASSIFIERS:
        config.update({"steps#load#reader": "NibabelReader", "steps#load#open_ended": 1})
    config.update({"key_metric#more": {"_target_": "$object"}, "train#handlers#0#desc": "x"})
    bundle.check_nested_keys(config.get(), locator)
    with pytest.raises(
        InputError, match=r"override --evaluator#am: SupervisedEvaluator .* --evaluator#amp\?.* device, "
    ):
        bundle.check_nested_keys({**config.get(), "evaluator": {**config["evaluator"], "am": True}}, locator)
    with pytest.raises(
        InputError, match=r"override --train#min: .* did you mean --train#mine\? It has: .*preprocessing"
    ):
        bundle.check_nested_keys({**config.get(), "train": {**config["train"], "min": 1}}, locator)
    with pytest.raises(InputError, match=r"--train#zzz: this section has no such key\. It has: "):
        bundle.check_nested_keys({**config.get(), "train": {**config["train"], "zzz": 1}}, locator)


def test_a_section_that_is_unused_because_of_an_override_is_no_mistake():
    config = ConfigParser()
    config.read_config(str(BUNDLES / "voc_deeplab_largefov.json"))
    config.update({"train#optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()"}})
    bundle.check_nested_keys(config.get(), ComponentLocator())  # its factors were the former optimizer's


def test_image_size():
    network = UNet().train()
    bundle.try_image_size(network, 32)
    assert network.training  # left as it was
    with pytest.raises(InputError, match=r"image_size 100: UNet: .* nearest valid: 96 x 96 or 112 x 112"):
        bundle.try_image_size(network, 100)
    assert network.training
    with pytest.raises(InputError, match="expected an integer"):
        bundle.try_image_size(SmallCNN(), 32.0)
    norm = SmallCNN().train()
    before = norm.conv1.norm.running_mean.clone()
    bundle.try_image_size(norm, 32)
    assert torch.equal(norm.conv1.norm.running_mean, before)


def test_resolved_is_called_from_a_configuration():
    config = ConfigParser(
        {
            "imports": ["$import medpos.bundle as bundle", "$import torch"],
            "a": "$1 + 1",
            "b": "@a",
            "c": "$torch.device('cpu')",
            "d": {"_target_": "torch.nn.ReLU"},
            "e": [1, "@a"],
            "out": ["$bundle.resolved()"],
        }
    )
    config["_meta_"] = {"version": "1"}
    [out] = config.get_parsed_content("out")
    assert (out["a"], out["b"], out["d"]) == (2, 2, {"_target_": "torch.nn.ReLU"})
    assert out["c"] == "$torch.device('cpu')"
    assert "_meta_" not in out
    assert out["known_keys"] == [*out]
    with pytest.raises(RuntimeError, match="expected a call from a bundle"):
        bundle.resolved()


def test_errors_are_shown_plainly_and_others_as_they_are(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    bundle.show_errors_plainly()
    bundle.show_errors_plainly()
    for wrap in (False, True):
        try:
            try:
                raise InputError("file x: correct it")
            except InputError as error:
                if wrap:
                    raise RuntimeError("MONAI's own words") from error
                raise
        except Exception:
            sys.excepthook(*sys.exc_info())
        assert capsys.readouterr().err == "error: file x: correct it\n"
    try:
        raise KeyError("a fault of the program")
    except KeyError:
        sys.excepthook(*sys.exc_info())
    assert "Traceback" in capsys.readouterr().err
