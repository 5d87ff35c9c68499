"""What the entry points of a bundle that take up a trained model have in common."""

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
    """Open a trained run for an evaluation, try the data and the weights, and record the configuration.

    Called from a bundle's configuration alone, which it records.

    Args:
        part: sub-folder of the results, such as ``robustness``.
        run: folder of the run.
        network: gets the run's weights.
        datasets: those that the evaluation reads.
        device: on which the evaluation computes.
        seed: of the run.

    Raises:
        InputError: no such run, or data or weights that can't be used; nothing is written then.
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
        part: sub-folder of the results.
        conditions: of the test, clean first.
        run: folder of the run.
        network: gets the run's weights.
        dataset: the test images, as :class:`medpos.data.CachedDataset` serves them; serves each condition from now on,
            so the evaluator must be built afterwards.
        device: on which the test computes.
        seed: of the run.

    Raises:
        InputError: no such run, or data or weights that can't be used; nothing is written then.
    """
    begin(part, run, network, [dataset], device, seed)
    dataset.under(conditions)
