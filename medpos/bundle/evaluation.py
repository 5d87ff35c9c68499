"""Begin the entry points of a bundle that evaluate a trained model."""

from collections.abc import Sequence
from typing import Any

import torch

from medpos.bundle import startup
from medpos.data.conditions import Condition
from medpos.runs import checkpoints
from medpos.runs.folder import RunFolder


def begin(
    part: str,
    run: RunFolder,
    network: torch.nn.Module,
    datasets: Sequence[Sequence[Any]],
    device: torch.device | str,
    seed: int,
) -> None:
    """Open a trained run for an evaluation, check the data and the weights, and record the configuration.

    It can only be called from a bundle's configuration, which it records.

    Args:
        part: sub-folder for the results, such as ``robustness``.
        run: run folder.
        network: network that gets the run's weights.
        datasets: data sets of the evaluation.
        device: device that the evaluation computes on.
        seed: random seed of the run.

    Raises:
        InputError: there is no such run, or its data or weights can't be used; nothing is written then.
    """
    run.open(part)
    startup.try_data(*datasets)
    checkpoints.load_network(network, checkpoints.load(run.model), run.model)
    run.record(startup.resolved(), device, seed)


def begin_test(
    part: str,
    conditions: Sequence[Condition],
    *,
    run: RunFolder,
    network: torch.nn.Module,
    dataset: Any,
    device: torch.device | str,
    seed: int,
) -> None:
    """Begin a test under these conditions: the entry points ``evaluate``, ``robustness`` and ``shift``.

    Args:
        part: sub-folder for the results.
        conditions: conditions of the test, clean first.
        run: run folder.
        network: network that gets the run's weights.
        dataset: test images, a :class:`medpos.data.CachedDataset`; it serves these conditions from now on, so the
            evaluator must be built afterwards.
        device: device that the test computes on.
        seed: random seed of the run.

    Raises:
        InputError: there is no such run, or its data or weights can't be used; nothing is written then.
    """
    begin(part, run, network, [dataset], device, seed)
    dataset.under(conditions)
