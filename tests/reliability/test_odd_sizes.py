"""What new-bundle chooses trains, for every network and for odd data; a training that can't run says so in one line."""

import random

import custom_raw
import numpy as np
import pytest
import running
import torch
from torch import nn
from torch.utils.data import DataLoader

from data_prep.custom import decathlon, folder
from data_prep.custom.common import Options
from medpos.bundle import new_bundle
from medpos.bundle.training_step import find_smallest_batch, try_step, try_training_step
from medpos.core.errors import InputError
from medpos.networks import SmallCNN, UNet

# Shapes of pictures, rows and columns, and their number.
PICTURES = {
    "two": ((20, 24), 2),
    "three": ((20, 24), 3),
    "nine_training_pictures_of_20_px": ((20, 20), 13),
    "one_pixel_wide": ((40, 1), 4),
    "one_pixel": ((1, 1), 4),
    "very_wide": ((3, 2000), 4),
    "large": ((700, 900), 3),
}
DATA = [*PICTURES, "volumes", "thin_volumes"]
FIRST, *_ = new_bundle.NETWORKS
# One network with all data, and all networks with one; the other pairs by ``make torture``.
PAIRS = [
    pytest.param(
        network,
        kind,
        marks=[] if network == FIRST or kind == "nine_training_pictures_of_20_px" else [pytest.mark.torture],
    )
    for network in new_bundle.NETWORKS
    for kind in DATA
]


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    """Return a function that prepares one kind of odd data, each once."""
    done = {}

    def prepare_once(kind):
        if kind not in done:
            root = tmp_path_factory.mktemp(kind)
            done[kind] = root / "data"
            if kind in PICTURES:
                shape, count = PICTURES[kind]
                for n in range(count):
                    label = np.zeros(shape, np.uint8)
                    label[: (shape[0] + 1) // 2] = 1
                    custom_raw.picture(root / f"images/c{n}.png", custom_raw.noise(n, shape))
                    custom_raw.picture(root / f"labels/c{n}.png", label)
                folder.prepare(root / "images", root / "labels", ["1=spot"], [], done[kind], Options())
            elif kind == "volumes":
                decathlon.prepare(custom_raw.decathlon(root / "raw", 6), done[kind], Options())
            else:
                for n in range(4):
                    custom_raw.volume(root / f"images/c{n}.nii.gz", custom_raw.noise(n, (1, 9, 2)).astype(np.float32))
                    custom_raw.volume(root / f"labels/c{n}.nii.gz", np.ones((1, 9, 2), np.uint8))
                folder.prepare(root / "images", root / "labels", ["1=spot"], ["MR"], done[kind], Options())
        return done[kind]

    return prepare_once


def parse(prepare, kind, network, tmp_path):
    [file] = new_bundle.write("mine", prepare(kind), network, [], running.BUNDLES / "src", tmp_path / "bundles")
    return running.parser(file, runs_dir=str(tmp_path / "runs"), device="cpu")


@pytest.mark.parametrize(("network", "kind"), PAIRS)
def test_every_network_trains_on_its_smallest_batch(prepare, kind, network, tmp_path):
    parser = parse(prepare, kind, network, tmp_path)
    loader, network, loss = (
        parser.get_parsed_content(f"train::trainer::{key}") for key in ("train_data_loader", "network", "loss_function")
    )
    batch = min(loader, key=lambda batch: len(batch["image"]))
    network.train()
    loss(network(batch["image"]), batch["label"]).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    assert len(batch["image"]) == find_smallest_batch(len(loader.dataset), loader.batch_size)
    try_training_step(parser)


@pytest.mark.parametrize("kind", ["three", "nine_training_pictures_of_20_px", "thin_volumes"])
def test_a_whole_run(prepare, kind, tmp_path):
    [file] = new_bundle.write("mine", prepare(kind), "unet", [], running.BUNDLES / "src", tmp_path / "bundles")
    run = running.run_here(file, runs_dir=str(tmp_path / "runs"), max_epochs=1)
    assert (run / "summary.json").exists()


@pytest.mark.parametrize(
    ("batch_size", "advice"), [(2, "--batch_size 3"), (4, "--batch_size 3"), (8, "--batch_size 7")]
)
def test_a_remainder_of_one_is_refused_before_anything_is_written(prepare, batch_size, advice, tmp_path):
    kind = "nine_training_pictures_of_20_px"
    [file] = new_bundle.write("mine", prepare(kind), "unet", [], running.BUNDLES / "src", tmp_path / "bundles")
    options = {"runs_dir": str(tmp_path / "runs"), "image_size": 16, "batch_size": batch_size, "max_epochs": 1}
    message = running.refusal(file, **options)
    assert "a training step on a batch of 1 of 16 x 16 px fails" in message
    assert message.endswith(f"take a larger --image_size, or {advice}, which leaves no single image\n")
    assert not (tmp_path / "runs").exists()


def test_bundles_of_the_project_are_tried_too(tiny):
    message = running.refusal("jsrt", **{**tiny, "image_size": 16, "batch_size": 4})
    assert "a training step on a batch of 1 of 16 x 16 px fails" in message


@pytest.mark.parametrize(
    ("count", "size", "drop_last", "smallest"),
    [(9, 2, False, 1), (9, 2, True, 2), (8, 2, False, 2), (1, 20, False, 1), (21, 20, False, 1), (20, 20, True, 20)],
)
def test_the_smallest_batch(count, size, drop_last, smallest):
    assert find_smallest_batch(count, size, drop_last) == smallest


def test_no_batch_at_all():
    with pytest.raises(InputError, match="expected at least one batch, but 3 training images make none of 4"):
        find_smallest_batch(3, 4, True)


class OwnConstant(nn.Module):
    """Add a tensor that is no buffer, so that the meta device can't compute it; and draw random numbers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.constant = torch.ones(1)

    def forward(self, image):
        return self.layer(image) + self.constant * torch.rand(1) * random.random() * float(image.sum() > 0)


@pytest.mark.parametrize("network", [SmallCNN(), UNet(), OwnConstant()], ids=lambda network: type(network).__name__)
def test_nothing_changes(network):
    """Weights, statistics, modes and random states are the same afterward, on the meta device and for real."""
    network.train()
    network.get_submodule(next(name for name, _ in network.named_modules() if name)).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    images, labels = torch.rand(5, 1, 32, 32), torch.zeros(5, 32, 32, dtype=torch.long)
    loader = DataLoader(list(images), batch_size=2)
    try_step(network, nn.CrossEntropyLoss(), images[0], labels[0], loader)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())


def test_random_states_stay(tiny):
    parser = running.parser("jsrt_small", **tiny)
    parser.update({"network_def": {"_target_": "$OwnConstant"}})
    parser.globals["OwnConstant"] = OwnConstant
    parser.get_parsed_content("train::trainer::train_data_loader")
    parser.get_parsed_content("network")
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    try_training_step(parser)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]
