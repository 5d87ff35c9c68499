"""Fit temperatures on the validation split of a run, and measure on its test split what they change."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from medpos.calibrate.outputs import Output, run_split
from medpos.core.errors import InputError
from medpos.core.files import write_json
from medpos.core.labels import IGNORED
from medpos.core.text import as_text
from medpos.data.folder import DataFolder
from medpos.predict.model import Model
from medpos.runs.files import TEMPERATURES
from medpos.runs.text import SCORE_TITLES
from medpos.trust.calibration import SCORES, Counts, count_probabilities, score_calibration
from medpos.trust.temperature import KINDS, fit_temperatures, scale

_MOST_CASES = 256  # of a split
_MOST_PIXELS = 1 << 20  # that temperatures are fitted to


def fit_scaling(model: Model, source: DataFolder) -> dict[str, Any]:
    """Fit temperatures to the probabilities of a run, and write ``temperatures.json`` into it.

    Args:
        model: model of the run.
        source: its training data.

    Returns:
        Content of the file: ``weights``, SHA-256 of the network; ``phantom``, True for phantoms; ``cases`` and
        ``pixels`` of the fit; ``one``, a list of one temperature, and ``class``, a list of one for each class;
        ``test``: each of ``SCORES`` of all classes together on the test split, for ``none``, ``one`` and ``class``,
        empty where there are no test cases.

    Raises:
        InputError: there are no validation cases, or the run can't be written to.
    """
    cases = min(len(source.cases("validation")), _MOST_CASES)
    if not cases:
        raise InputError(f"{source.folder}: expected validation cases, to fit temperatures on, got none; add some")
    chance, true = _sample(run_split(model, source, "validation", _MOST_CASES), _MOST_PIXELS // cases)
    fitted = {kind: fit_temperatures(chance, true, kind) for kind in KINDS}
    content = {
        "weights": model.identity,
        "phantom": source.phantom,
        "cases": cases,
        "pixels": len(true),
        **fitted,
        "test": _compare(run_split(model, source, "test", _MOST_CASES), fitted),
    }
    write_json(model.home / TEMPERATURES, content)
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


def _compare(outputs: Iterable[Output], fitted: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Score all classes together without temperatures, and with each kind of them."""
    counts: dict[str, Counts] = {}
    for output in outputs:
        for kind, temperatures in {"none": [1.0], **fitted}.items():
            logits = scale(output.probabilities, temperatures).log()
            found = count_probabilities(logits[None], output.image.truth[None])[0].numpy().astype(np.int64)
            counts[kind] = counts.get(kind, 0) + found
    scores = {kind: score_calibration(found) for kind, found in counts.items()}
    return {kind: {score: float(found[score][-1]) for score in SCORES} for kind, found in scores.items()}


def format_temperatures(content: Mapping[str, Any]) -> str:
    """Format what :func:`fit_scaling` returns as text."""
    out = Table(title="calibration of all classes together on test images", box=SIMPLE_HEAD, title_justify="left")
    for name in ("temperatures", *(SCORE_TITLES[score] for score in SCORES)):
        out.add_column(name, justify="left" if name == "temperatures" else "right", no_wrap=True)
    for kind, scores in content["test"].items():
        out.add_row(kind, *(f"{scores[score]:.3f}" for score in SCORES))
    one, by_class = (", ".join(f"{t:.2f}" for t in content[kind]) for kind in KINDS)
    fit = f"fitted to {content['pixels']} pixels of {content['cases']} validation cases: one {one}; class {by_class}"
    return as_text(
        out, fit, "above 1: the network was too sure; use by 'predict --calibrated one' or 'class'", width=150
    )
