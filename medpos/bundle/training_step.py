"""Try one training step before anything is trained or written: forward, loss and backward on the smallest batch."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from medpos.core.config import find_texts
from medpos.core.errors import InputError, first_line
from medpos.data.cached import CachedDataset
from medpos.data.patches import Patches

_TWO = 2
_TOO_FEW = "more than 1 value per channel"  # words of batch norm's error


def check_classes(parser: ConfigParser) -> None:
    """Refuse a network with another number of classes than the data have.

    Args:
        parser: parser of the bundle; a network without the argument ``out_channels`` isn't checked.

    Raises:
        InputError: the numbers differ; the message names both.
    """
    key = "network_def::out_channels"
    config = parser.get()
    if not isinstance(config.get("network_def"), dict) or key not in parser or "source" not in config:
        return
    given, labels = parser.get_parsed_content(key), getattr(parser.get_parsed_content("source"), "labels", ())
    fitting = {len(labels), 1} if len(labels) == _TWO else {len(labels)}  # one logit tells two classes apart
    if any(text.endswith("IgnoreVoid") for text in find_texts([config.get("steps", {})])):
        fitting.add(len(labels) - 1)  # classes without void
    if labels and given not in fitting:
        raise InputError(
            f"--network_def#out_channels: expected {' or '.join(map(str, sorted(fitting)))} for the {len(labels)} "
            f"classes of the data, background included, got {given}; correct it, or make a bundle for these data by "
            "'python -m medpos new-bundle'"
        )


def try_training_step(parser: ConfigParser) -> None:
    """Try one training step of a bundle on the smallest batch that occurs; weights and random states stay.

    Where the network and the loss allow it, this happens on PyTorch's meta device, which only computes shapes.

    Args:
        parser: parser of the bundle. A trainer without a loss, or with an iteration of its own, is not tried.

    Raises:
        InputError: the step fails, or there is no batch.
    """
    trainer = parser.get().get("train", {}).get("trainer", {})
    if trainer.get("loss_function") is None or "iteration_update" in trainer:
        return
    keys = ("train_data_loader", "network", "loss_function")
    loader, network, loss = (parser.get_parsed_content(f"train::trainer::{key}") for key in keys)
    bare = network.module if isinstance(network, DistributedDataParallel) else network
    with _kept_random_states(next(bare.parameters()).device):
        image, label = _find_smallest(loader.dataset)
        try_step(bare, loss, image, label, loader)


def try_step(network: nn.Module, loss: Any, image: torch.Tensor, label: torch.Tensor, loader: DataLoader[Any]) -> None:
    """Try one training step on copies of one image, as many as the smallest batch of a data loader has.

    Args:
        network: the bare network, not its DistributedDataParallel wrapper.
        loss: loss of the network's output and the labels.
        image: image [C, X, Y].
        label: its label, of any shape.
        loader: data loader of the training.

    Raises:
        InputError: the step fails, or there is no batch.
    """
    count = len(loader.sampler)
    size = find_smallest_batch(count, int(loader.batch_size or 1), loader.drop_last)
    images, labels = (part.expand(size, *part.shape) for part in (image, label))
    modes = {module: module.training for module in network.modules()}
    network.train()
    try:
        try:
            _step(network, loss, images, labels, "meta")
        except Exception:  # not every operation runs on the meta device
            _step(network, loss, images, labels, next(network.parameters()).device)
    except Exception as error:
        shape = " x ".join(map(str, image.shape[1:]))
        raise InputError(
            f"a training step on a batch of {size} of {shape} px fails ({first_line(error)}); the {count} training "
            f"images, slices or patches come in batches of {loader.batch_size}: {_advise(str(error), count, loader)}"
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training


def find_smallest_batch(count: int, batch_size: int, drop_last: bool = False) -> int:
    """Return the number of images in the smallest batch of an epoch.

    Args:
        count: number of images in an epoch.
        batch_size: number of images in a full batch.
        drop_last: whether a smaller last batch is left out.

    Raises:
        InputError: there is no batch.
    """
    if drop_last and count < batch_size:
        raise InputError(
            f"expected at least one batch, but {count} training images make none of {batch_size}; take a smaller "
            "--batch_size"
        )
    return batch_size if drop_last or count % batch_size == 0 else count % batch_size


def _advise(problem: str, count: int, loader: DataLoader[Any]) -> str:
    if _TOO_FEW not in problem:
        return "correct the network, the loss, the labels or --image_size"
    sizes = range(2, count + 1)
    fitting = [size for size in sizes if find_smallest_batch(count, size, loader.drop_last) > 1]
    nearest = min(fitting, key=lambda size: abs(size - (loader.batch_size or 1)), default=None)
    more = f", or --batch_size {nearest}, which leaves no single image" if nearest else ""
    return f"batch norm needs several values per channel, so take a larger --image_size{more}"


def _step(
    network: nn.Module, loss: Any, images: torch.Tensor, labels: torch.Tensor, device: torch.device | str
) -> None:
    """Run forward, loss and backward on copies of all weights and statistics."""
    output = torch.func.functional_call(network, _copy_state(network, device), (images.to(device).contiguous(),))
    arguments = (output, labels.to(device))
    is_module = isinstance(loss, nn.Module)
    found = torch.func.functional_call(loss, _copy_state(loss, device), arguments) if is_module else loss(*arguments)
    found.mean().backward()


def _copy_state(module: nn.Module, device: torch.device | str) -> dict[str, torch.Tensor]:
    """Copy the parameters and buffers of a module, by name; on the meta device their shapes alone."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    copy: Callable[[torch.Tensor], torch.Tensor]
    copy = (lambda t: torch.empty_like(t, device="meta")) if device == "meta" else (lambda t: t.detach().clone())
    return {name: copy(tensor).detach().requires_grad_(tensor.requires_grad) for name, tensor in state.items()}


def _find_smallest(dataset: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return image and label of the smallest item in memory, transformed as in the training."""
    whole = dataset.dataset if isinstance(dataset, Patches) else dataset
    index = whole.find_smallest() if whole is dataset and isinstance(whole, CachedDataset) else 0
    item = dataset[index]
    image, label = (torch.as_tensor(item[key]) for key in ("image", "label"))
    return image, label


@contextmanager
def _kept_random_states(device: torch.device) -> Iterator[None]:
    """Restore the random states of Python, NumPy and PyTorch afterward."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global state, which transforms may use
    devices = [device] if device.type != "cpu" else []
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
