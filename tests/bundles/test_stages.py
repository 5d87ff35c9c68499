"""Test the overlays of the papers' later stages: their values, and U-SegNet from a SegNet that was trained before."""

import json

import pytest
import torch
from monai.bundle import ConfigParser
from running import BUNDLES, SECONDARY, config_file, run_here

from medpos.handlers import GradualUnfreezing
from medpos.networks import SegNet, USegNet

STAGES = sorted(path.stem for path in BUNDLES.glob("stage_*.yaml"))
FINE_TUNED = r"^(conv1|conv2|conv3|conv3_D|conv2_D)\."


def combined(bundle, stage, **overrides):
    config = ConfigParser()
    config.read_config(config_file(bundle, BUNDLES / f"{stage}.yaml"))
    config.update({key.replace("__", "#"): value for key, value in overrides.items()})
    return config


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_what_it_is_and_its_command_names_a_bundle(stage):
    text = (BUNDLES / f"{stage}.yaml").read_text()
    assert ConfigParser.load_config_file(BUNDLES / f"{stage}.yaml")["_desc_"].endswith(".")
    assert any(f"['bundles/{name}.json','bundles/{stage}.yaml']" in text for name in SECONDARY)


@pytest.mark.parametrize("name", ["voc_sunet64", "voc_sunet128", "voc_sunet7_128"])
def test_sunets_stages_after_coco(name):
    plain = combined(name, "stage_sunet_trainaug")
    assert (plain["iterations"], plain["lr"], plain["freeze_bn"]) == (5000, 2e-5, False)
    last = combined(name, "stage_sunet_trainval", bundle_root="here")
    assert (last["iterations"], last["lr"], last["freeze_bn"]) == (5000, 2e-5, True)
    assert last.get_parsed_content("dataset_dir") == "here/data/voc_trainval"


def test_the_first_schedule_of_deeplab():
    config = combined("voc_deeplab_largefov", "stage_deeplab_step")
    assert (config["iterations"], config["batch_size"], config["head"]) == (6000, 20, "large_fov")
    rate = config.get_parsed_content("train::schedule")
    assert [rate(1.0, n) for n in (0, 1999, 2000, 4000)] == pytest.approx([1, 1, 0.1, 0.01])


@pytest.mark.parametrize(("skips", "fit"), [(0, 13), (1, 12), (2, 10)])
def test_usegnet_begins_with_the_layers_of_a_segnet(skips, fit):
    """All convolutions before the first skip connection, and none behind it."""
    torch.manual_seed(0)
    donor, network = SegNet(width=1 / 16), USegNet(skips=skips, width=1 / 16)
    renamed = network.rename_layers(donor.state_dict())
    own = network.state_dict()
    same = [name for name, values in own.items() if name in renamed and renamed[name].shape == values.shape]
    layers = {name.rpartition(".")[0].removesuffix(".conv") for name in same if name.endswith("conv.weight")}
    assert len(layers) == fit
    assert torch.equal(renamed["conv3_D.2.conv.weight"], donor.conv3_D.conv3_1_D.conv.weight)
    assert not {"score.weight", "merge1.weight"} & set(same)
    assert ("conv1_D.0.conv.weight" in same) == (skips == 0)
    assert ("conv2_D.0.conv.weight" in same) == (skips < 2)


@pytest.mark.torture
def test_usegnet_is_fine_tuned_layer_by_layer(secondary, tmp_path):
    """The last layer of the SegNet learns from the first epoch, the one before from the second, the first not yet."""
    torch.manual_seed(0)
    donor = SegNet(width=1 / 16)
    torch.save(donor.state_dict(), tmp_path / "segnet.pt")
    run = run_here(
        "brain_usegnet",
        BUNDLES / "stage_usegnet_from_segnet.yaml",
        begin_with=str(tmp_path / "segnet.pt"),
        dataset_dir=str(secondary["brain"]),
        runs_dir=str(tmp_path / "runs"),
        layer_epochs=1,
        fine_tune_lr=1e-3,
        max_epochs=2,
        network_def__width=1 / 16,
        patch_step=30,
        patches_per_epoch=16,
    )
    learned = torch.load(run / "resume.pt", weights_only=True)["network"]
    begun = USegNet(width=1 / 16).rename_layers(donor.state_dict())
    changed = {
        name
        for name in begun
        if name.endswith("conv.weight") and name in learned and not learned[name].equal(begun[name])
    }
    assert changed == {"conv2_D.1.conv.weight", "conv2_D.0.conv.weight"}
    log = (run / "log.txt").read_text()
    assert "begins with 24 layers" in log
    assert "new: conv1_D.0.conv, conv1_D.0.norm, merge1, score;" in log
    assert "epoch 2: layer conv2_D.0 is free" in log
    assert json.loads((run / "config.json").read_text())["layer_epochs"] == 1


def test_freed_layers_follow_from_the_epoch():
    network = USegNet(width=1 / 16)
    handler = GradualUnfreezing(network, ["conv3_D", "conv2_D"], interval=3)
    assert [name for name, _ in handler.layers] == ["conv3_D.0", "conv3_D.1", "conv3_D.2", "conv2_D.0", "conv2_D.1"]

    class Trainer:
        class state:  # noqa: N801 - as in Ignite
            epoch = 7

    handler(Trainer)
    free = [name for name, layer in handler.layers if all(p.requires_grad for p in layer.parameters())]
    assert free == ["conv3_D.2", "conv2_D.0", "conv2_D.1"]
    assert all(p.requires_grad for p in network.score.parameters())
