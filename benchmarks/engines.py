"""Build the engines to compare: stock MONAI (float32, NCHW, its own inferers) and the same on medpos's fast path."""

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.inferers import Inferer, SimpleInferer, SliceInferer, SlidingWindowInferer

from medpos.core.device import has_fast_bf16, memory_format
from medpos.core.memory import keep_freed_memory
from medpos.inferers import FastInferer
from medpos.networks import SmallCNN, UNet

NETWORKS = {"U-Net": UNet, "small CNN": SmallCNN}
SIZE = 256
CPU = torch.device("cpu")


def images(*shape: int) -> dict[str, torch.Tensor]:
    """Make a batch of 3 channels and 4 classes, [N, 3, 256, 256, ...]."""
    generator = torch.Generator().manual_seed(0)
    spatial = (SIZE, SIZE, *shape[1:])
    return {
        "image": torch.randn(shape[0], 3, *spatial, generator=generator),
        "label": torch.randint(4, (shape[0], *spatial), generator=generator),
    }


def trainer(network: str, path: str, batch: dict[str, torch.Tensor]) -> SupervisedTrainer:
    """Build a trainer that takes one step per ``run()``; path is ``stock``, ``fast`` or ``float32``."""
    model = _network(network, path)
    return SupervisedTrainer(
        device=CPU,
        max_epochs=1,
        train_data_loader=[batch],
        network=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        loss_function=torch.nn.CrossEntropyLoss(),
        inferer=_inferer(SimpleInferer(), path),
        optim_set_to_none=True,
        decollate=False,
    )


def evaluator(network: str, path: str, batch: dict[str, torch.Tensor]) -> SupervisedEvaluator:
    """Build an evaluator that infers one batch per ``run()``: sliding windows for images, slices for volumes."""
    windows: Inferer = SlidingWindowInferer((SIZE, SIZE), sw_batch_size=4, overlap=0.25)
    if batch["image"].ndim == 5:
        windows = SliceInferer(spatial_dim=2, roi_size=(SIZE, SIZE), sw_batch_size=8, overlap=0.25)
    return SupervisedEvaluator(
        device=CPU,
        val_data_loader=[batch],
        network=_network(network, path),
        inferer=_inferer(windows, path),
        decollate=False,
    )


def _network(name: str, path: str) -> torch.nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name](in_channels=3, out_channels=4)
    if path == "stock":
        return network
    if path == "fast" and has_fast_bf16(CPU):
        keep_freed_memory()  # as a bundle does when it starts; for the whole process
    return network.to(memory_format=memory_format(CPU))


def _inferer(inferer: Inferer, path: str) -> Inferer:
    return inferer if path == "stock" else FastInferer(inferer, amp=path == "fast")
