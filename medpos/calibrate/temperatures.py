"""Fit temperatures on the validation split of a run, and measure on its test split what they change."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from medpos.calibrate.outputs import Changes, Output, load_split, run_split
from medpos.core.errors import InputError
from medpos.core.files import write_csv, write_json
from medpos.core.labels import ALL_CLASSES, IGNORED
from medpos.core.text import as_text
from medpos.data.conditions import Condition
from medpos.data.folder import DataFolder
from medpos.predict.model import Model
from medpos.runs.calibration import SCALING_COLUMNS
from medpos.runs.files import SCALING, TEMPERATURES
from medpos.runs.text import SCORE_TITLES
from medpos.statistics.grid import CONDITION
from medpos.trust.calibration import SCORES, Counts, count_probabilities, score_calibration
from medpos.trust.temperature import KINDS, fit_temperatures, scale

_MOST_CASES = 256  # of a split
_MOST_CHANGED = 64  # test images that are put under conditions
_MOST_PIXELS = 1 << 20  # that temperatures are fitted to


def fit_scaling(model: Model, source: DataFolder, changes: Changes) -> dict[str, Any]:
    """Fit temperatures to the probabilities of a run, and write ``temperatures.json`` into it.

    Where there are test cases, ``temperature_scaling.csv`` has what they change under conditions: for each organ, and
    for all classes together, each of ``SCORES`` of all pixels, for ``none``, ``one`` and ``class``.

    Args:
        model: model of the run.
        source: its training data.
        changes: the conditions, clean first.

    Returns:
        Content of ``temperatures.json``: ``weights``, SHA-256 of the network; ``phantom``, True for phantoms;
        ``cases`` and ``pixels`` of the fit; ``one``, a list of one temperature, and ``class``, a list of one for each
        class; ``test``: each of ``SCORES`` of all classes together on the clean test images, for ``none``, ``one`` and
        ``class``, empty where there are no test cases.

    Raises:
        InputError: there are no validation cases, or the run can't be written to.
    """
    cases = min(len(source.cases("validation")), _MOST_CASES)
    if not cases:
        raise InputError(f"{source.folder}: expected validation cases, to fit temperatures on, got none; add some")
    chance, true = _sample(run_split(model, source, "validation", _MOST_CASES), _MOST_PIXELS // cases)
    fitted = {kind: fit_temperatures(chance, true, kind) for kind in KINDS}
    rows = _compare(model, source, changes, fitted)
    clean = [row for row in rows if row["organ"] == ALL_CLASSES][: len(KINDS) + 1]
    content = {
        "weights": model.identity,
        "phantom": source.phantom,
        "cases": cases,
        "pixels": len(true),
        **fitted,
        "test": {row["temperatures"]: {score: row[score] for score in SCORES} for row in clean},
    }
    write_json(model.home / TEMPERATURES, content)
    if rows:
        write_csv(model.home / SCALING, SCALING_COLUMNS, rows)
    return content


def _sample(outputs: Iterable[Output], most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw pixels of every case, and return their probabilities [pixels, C] and classes [pixels]."""
    draw, parts = torch.Generator().manual_seed(0), []
    for output in outputs:
        true = output.image.truth.flatten()
        known = (true != IGNORED).nonzero()[:, 0]
        chosen = known[torch.randperm(len(known), generator=draw)[:most]]
        parts.append((output.probabilities.flatten(1).T[chosen], true[chosen]))
    chance, classes = zip(*parts, strict=True)
    return torch.cat(chance), torch.cat(classes)


def _compare(
    model: Model, source: DataFolder, changes: Changes, fitted: Mapping[str, Sequence[float]]
) -> list[dict[str, Any]]:
    """Score the probabilities of the test images under conditions without temperatures, and with each kind of them.

    Returns:
        Rows of :data:`medpos.runs.calibration.SCALING_COLUMNS`.
    """
    counts: dict[tuple[Condition, str], Counts] = {}
    for image in load_split(model, source, "test", _MOST_CASES if len(changes.conditions) == 1 else _MOST_CHANGED):
        for condition in changes.conditions:
            changed = changes.put(image, condition)
            probabilities = model.probabilities(changed.decoded)
            for kind, temperatures in {"none": [1.0], **fitted}.items():
                logits = scale(probabilities, temperatures).log()
                found = count_probabilities(logits[None], changed.truth[None])[0].numpy().astype(np.int64)
                counts[condition, kind] = counts.get((condition, kind), 0) + found
    names = (*(label.name for label in source.labels), ALL_CLASSES)
    return [
        {
            **{name: getattr(condition, name) for name in CONDITION},
            "organ": organ,
            "temperatures": kind,
            **{score: float(values[n]) for score, values in scores.items()},
        }
        for (condition, kind), scores in ((key, score_calibration(found)) for key, found in counts.items())
        for n, organ in enumerate(names)
        if n
    ]


def format_temperatures(content: Mapping[str, Any]) -> str:
    """Format what :func:`fit_scaling` returns as text."""
    out = Table(title="calibration on test images, all classes", box=SIMPLE_HEAD, title_justify="left")
    for name in ("temperatures", *(SCORE_TITLES[score] for score in SCORES)):
        out.add_column(name, justify="left" if name == "temperatures" else "right", no_wrap=True)
    for kind, scores in content["test"].items():
        out.add_row(kind, *(f"{scores[score]:.3f}" for score in SCORES))
    one, by_class = (", ".join(f"{t:.2f}" for t in content[kind]) for kind in KINDS)
    fit = f"fitted to {content['pixels']} pixels of {content['cases']} validation cases: one {one}; class {by_class}"
    advice = "above 1: the network was too sure; use by 'predict --calibrated one' or 'class'"
    worse = [kind for kind in KINDS if content["test"] and _is_worse(content["test"], kind)]
    if worse:
        advice += f"; on these test images {' and '.join(worse)} make{'s' * (len(worse) == 1)} the calibration worse"
    return as_text(out, fit, advice, width=150)


def _is_worse(scores: Mapping[str, Mapping[str, float]], kind: str) -> bool:
    """Return whether temperatures make calibration error and likelihood worse."""
    return all(scores[kind][score] > scores["none"][score] for score in ("ece", "nll"))
