import sys

import pytest
import torch
from monai.bundle import ComponentLocator, ConfigParser
from running import ALL, BUNDLES, CLASSIFIERS, parser

from medpos.bundle import startup as bundle
from medpos.core.errors import InputError
from medpos.networks import SmallCNN, UNet

CONFIG = {
    "known_keys": ["known_keys", "bundle_name", "max_epochs", "lr", "train"],
    "bundle_name": "b",
    "max_epochs": 3,
    "lr": 1,
    "train": {"epochs": "@max_epochs", "rate": "$2 * @lr"},
}


@pytest.mark.parametrize("key", ["max_epoch", "max_epochs_", "l", "lrr", "train_", "x"])
def test_unknown_key(key):
    with pytest.raises(InputError, match=f"override --{key}: bundle b has no such key.*: bundle_name, max_epochs, lr$"):
        bundle.check_keys({**CONFIG, key: 1})


def test_known_keys_and_those_that_an_overlay_brings_for_itself():
    bundle.check_keys(CONFIG)
    bundle.check_keys({**CONFIG, "mine": 5, "lr": "$@mine / 2"})
    bundle.check_keys({**CONFIG, "mine": 5, "train": {"list": [{"a": "@mine"}]}})
    bundle.check_keys({**CONFIG, "_meta_": {}, "tracking_uri": "x"})


@pytest.mark.parametrize("name", ALL)
def test_nested_keys_of_every_bundle_and_arguments_it_leaves_out(name):
    locator = ComponentLocator()
    config = parser(name)
    bundle.check_nested_keys(config.get(), locator)
    # What a component takes beyond the bundle's own arguments, and keys that something refers to.
    config.update({"evaluator#amp": False, "train#mine": 2, "max_epochs": "@train#mine"})
    if name not in CLASSIFIERS:
        config.update({"decode#transforms#0#reader": "NibabelReader", "decode#transforms#0#open_ended": 1})
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


def test_a_section_that_an_override_left_without_use_is_no_mistake():
    config = ConfigParser()
    config.read_config(str(BUNDLES / "voc_deeplab_largefov.json"))
    config.update({"train#optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()"}})
    bundle.check_nested_keys(config.get(), ComponentLocator())  # its factors were the former optimiser's


def test_image_size():
    network = UNet().train()
    bundle.try_image_size(network, 32)
    assert network.training  # left as it was
    with pytest.raises(InputError, match=r"image_size 100: UNet: .* nearest valid: 96 x 96 or 112 x 112"):
        bundle.try_image_size(network, 100)
    assert network.training
    with pytest.raises(InputError, match="whole number"):
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
    with pytest.raises(RuntimeError, match="not called from a bundle"):
        bundle.resolved()


def test_errors_are_shown_plainly_and_others_as_they_are(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    bundle.show_errors_plainly()
    bundle.show_errors_plainly()
    for wrap in (False, True):
        try:
            try:
                raise InputError("file x: mend it")
            except InputError as error:
                if wrap:
                    raise RuntimeError("MONAI's own words") from error
                raise
        except Exception:
            sys.excepthook(*sys.exc_info())
        assert capsys.readouterr().err == "error: file x: mend it\n"
    try:
        raise KeyError("a fault of the program")
    except KeyError:
        sys.excepthook(*sys.exc_info())
    assert "Traceback" in capsys.readouterr().err
