"""Begin the entry points of a bundle that evaluate a trained model.

What was learned from the training data comes from the run of the model, never from the data that are evaluated.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from medpos.bundle import startup
from medpos.bundle.callers import find_parser
from medpos.bundle.chains import try_postprocessing
from medpos.core.errors import InputError
from medpos.data.conditions import Condition
from medpos.data.folder import DataFolder, describe_leaks
from medpos.data.training_data import FILE, TrainingData
from medpos.runs import checkpoints, files, training_cases
from medpos.runs.folder import RunFolder

logger = logging.getLogger(__name__)
ALLOW = "allow_training_cases"


def trained(run: RunFolder, source: Any) -> RunFolder:
    """Find the trained run, compare its training data with those that are evaluated, and take its gray values.

    A run of an earlier version, without ``data.json``, is compared with nothing.

    Args:
        run: run folder, or that of a ``checkpoint``.
        source: the data that are evaluated; a :class:`medpos.data.DataFolder` standardizes as the training did from now
            on, so the transforms must be built afterward.

    Returns:
        The same run folder; a second call for it does nothing.

    Raises:
        InputError: there is no such run, or the data have other classes or channels.
    """
    if run.is_compared:
        return run
    run.is_compared = True
    path = run.find_trained() / FILE
    if not path.is_file():
        logger.warning("%s is not there: the data can't be compared with those of the training", path)
        return run
    training = TrainingData.read(path)
    for what, expected, found in (
        ("classes", [label.name for label in training.labels], [label.name for label in source.labels]),
        ("channels", list(training.channels), list(source.channels)),
    ):
        if expected != found:
            raise InputError(
                f"{source.folder}: expected the {what} {', '.join(expected)}, as {path} says of the training, got "
                f"{', '.join(found)}; prepare the data with these, or segment them by 'python -m medpos predict' and "
                "compare by 'python -m medpos evaluate', which matches classes by name"
            )
    if isinstance(source, DataFolder):
        source.use_intensity(training.intensity)
    return run


def begin(
    part: str,
    run: RunFolder,
    network: torch.nn.Module,
    datasets: Sequence[Any],
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
        InputError: there is no such run, its data or weights can't be used, or it was trained on cases of the
            evaluation; nothing is written then.
    """
    run.open(part)
    parser = find_parser()
    source = parser.get_parsed_content("source")
    _check_gray_values(run, source)
    _check_training_cases(run, source, datasets, bool(parser.get(ALLOW, False)))
    startup.try_images(*datasets)
    try_postprocessing(parser, "evaluator")
    checkpoints.load_network(network, checkpoints.load(run.model), run.model)
    run.record(startup.resolved(), device, seed)


def _check_gray_values(run: RunFolder, source: Any) -> None:
    """Warn if a bundle of an earlier version has built its transforms before :func:`trained` was called."""
    before = source.intensity
    trained(run, source)
    if source.intensity != before:
        logger.warning(
            "%s: gray values are standardized by the statistics of these data, not by those of the training, because "
            "the bundle is of an earlier version; evaluate with today's bundle, or segment with 'python -m medpos "
            "predict'",
            source.folder,
        )


def _check_training_cases(run: RunFolder, source: Any, datasets: Sequence[Any], allowed: bool) -> None:
    cases = [case for dataset in datasets for case in dataset.data]
    shared = training_cases.find(run.find_trained(), source.name, cases)
    run.training_cases = len(shared)
    if not shared:
        return
    text = f"{source.folder}: expected cases that the model was not trained on, but {describe_leaks(shared)}"
    if not allowed:
        fold = files.Run(run.find_trained()).config.get("fold")
        own = f"those of its fold by --fold {fold}, or " if fold else ""
        raise InputError(f"{text}; evaluate {own}other cases, or give --{ALLOW} True, which marks the results")
    logger.warning("%s; the results are marked", text)


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
            evaluator must be built afterward.
        device: device that the test computes on.
        seed: random seed of the run.

    Raises:
        InputError: there is no such run, or its data or weights can't be used; nothing is written then.
    """
    begin(part, run, network, [dataset], device, seed)
    dataset.under(conditions)
