"""Make run folders with a paper's network and inferer, random weights, and images of their own sizes."""

import json
import shutil

import torch
from monai.bundle import ConfigParser

BINARY = (0, 3)  # labels of the chest X-rays that a foreground is made of


def made_from(run, folder, network, inferer, resized=False, labels=None):
    """Copy a run and give it another network and inferer.

    Args:
        run: a finished run; position channels are removed.
        folder: folder of the copy.
        network: ``network_def`` of the configuration.
        inferer: configuration of the inferer inside the fast path.
        resized: whether images are resampled to one size.
        labels: indices of the labels to keep; None keeps all.
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
    """Segment chest X-rays by UNet2015 with overlapping tiles."""
    network = {"_target_": "medpos.networks.UNet2015", "out_channels": 4, "width": 1 / 16}
    inferer = {"_target_": "medpos.inferers.OverlapTileInferer", "size": 220, "step": 32, "sw_batch_size": 4}
    return made_from(run, folder, network, inferer)


def binary(run, folder):
    """Segment chest X-rays by windows and a sigmoid."""
    network = {"_target_": "medpos.networks.PlainUNet", "width": 1 / 16}
    windows = {"_target_": "SlidingWindowInferer", "roi_size": [48, 48], "sw_batch_size": 4}
    inferer = {"_target_": "medpos.inferers.BackgroundInferer", "inferer": windows}
    return made_from(run, folder, network, inferer, labels=BINARY)


def votes(run, folder):
    """Segment short-axis stacks by votes of U-SegNet."""
    network = {"_target_": "medpos.networks.USegNet", "width": 1 / 16}
    return made_from(run, folder, network, {"_target_": "medpos.inferers.VotingInferer", "size": 24, "step": 12})


def whole(run, folder):
    """Segment chest X-rays by SegNet, each at its own size."""
    network = {"_target_": "medpos.networks.SegNet", "in_channels": 1, "out_channels": 4, "width": 1 / 16}
    return made_from(run, folder, network, {"_target_": "SimpleInferer"})
