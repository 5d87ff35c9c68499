"""Run folders whose network and inferer are a paper's, and whose images keep their own sizes; the weights are drawn."""

import json
import shutil

import torch
from monai.bundle import ConfigParser

BINARY = (0, 3)  # labels of the chest X-rays that a foreground is made of


def made_from(run, folder, network, inferer, resized=False, labels=None):
    """A copy of a run with another network and inferer.

    Args:
        run: a finished run without position channels in its network, or with: they are taken out.
        folder: folder of the copy.
        network: ``network_def`` of the configuration.
        inferer: what the fast path runs.
        resized: keep the step that resamples images to one size.
        labels: keep these of the data's labels alone.
    """
    folder.mkdir(parents=True)
    config = json.loads((run / "config.json").read_text())
    left_out = {"@steps::position"} | (set() if resized else {"@steps::resize"})
    for chain in (config["decode"], config["standardise"]):
        chain["transforms"] = [step for step in chain["transforms"] if step not in left_out]
    config["network_def"], config["inferer"]["inferer"] = network, inferer
    (folder / "config.json").write_text(json.dumps(config))
    data = json.loads((run / "data.json").read_text())
    if labels:
        data["labels"] = [{**data["labels"][old], "index": new} for new, old in enumerate(labels)]
    (folder / "data.json").write_text(json.dumps(data))
    shutil.copy(run / "environment.json", folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = ConfigParser(network).get_parsed_content()
    torch.save(built.state_dict(), folder / "model.pt")
    return folder


def tiles(run, folder):
    """UNet2015 of chest X-rays by overlap-tile."""
    network = {"_target_": "medpos.networks.UNet2015", "out_channels": 4, "width": 1 / 16}
    inferer = {"_target_": "medpos.inferers.OverlapTileInferer", "size": 220, "step": 32, "sw_batch_size": 4}
    return made_from(run, folder, network, inferer)


def binary(run, folder):
    """A sigmoid of chest X-rays by windows."""
    network = {"_target_": "medpos.networks.PlainUNet", "width": 1 / 16}
    windows = {"_target_": "SlidingWindowInferer", "roi_size": [48, 48], "sw_batch_size": 4}
    inferer = {"_target_": "medpos.inferers.BackgroundInferer", "inferer": windows}
    return made_from(run, folder, network, inferer, labels=BINARY)


def votes(run, folder):
    """U-SegNet of short-axis stacks by vote."""
    network = {"_target_": "medpos.networks.USegNet", "width": 1 / 16}
    return made_from(run, folder, network, {"_target_": "medpos.inferers.VotingInferer", "size": 24, "step": 12})


def whole(run, folder):
    """SegNet of chest X-rays, each at its own size."""
    network = {"_target_": "medpos.networks.SegNet", "in_channels": 1, "out_channels": 4, "width": 1 / 16}
    return made_from(run, folder, network, {"_target_": "SimpleInferer"})
