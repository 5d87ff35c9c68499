"""Fit what predicts the Dice without the truth on validation images, and measure on test images how well it does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from medpos.calibrate.outputs import Changes, LabeledImage, load_split
from medpos.core.arrays import save_arrays
from medpos.core.errors import InputError
from medpos.core.labels import IGNORED, title
from medpos.core.text import as_text
from medpos.data.conditions import Condition
from medpos.data.folder import DataFolder
from medpos.metrics.confusion import confusion_matrix
from medpos.metrics.overlap import overlap_of
from medpos.predict.ensemble import Ensemble
from medpos.predict.label_maps import undo_centering
from medpos.predict.quantization import spread
from medpos.predict.run_files import read_run_files
from medpos.runs.files import QUALITY
from medpos.runs.tables import or_none
from medpos.statistics.grid import CONDITION
from medpos.trust.evidence import Floats
from medpos.trust.failure import FAILED_BELOW, LEAST, score_failures
from medpos.trust.quality import DicePredictor, Example, Fit, Plausibility
from medpos.trust.signs import Signs

ALL_CONDITIONS = {"degradation": "all", "severity": "", "shift": ""}
_MOST_MASKS, _MOST_FITTED, _MOST_TEST, _MOST_CONDITIONS = 128, 16, 64, 24
_ENOUGH = 8  # validation images


@dataclass(frozen=True, eq=False)
class _Judged:
    """Hold a prediction of a case under a condition: its signs [organs] by predictor, and its Dice [organs]."""

    case: dict[str, Any]
    condition: Condition
    signs: dict[str, Floats]
    dice: Floats


def check_members(ensemble: Ensemble, source: DataFolder) -> None:
    """Check that further members of an ensemble were trained on the same cases, so that none knows a test image.

    Raises:
        InputError: a member was trained on other data, or on another fold of them.
    """
    keys = ("data_sha256", "fold")
    wanted, *others = ([read_run_files(m.run, source.folder).config.get(key) for key in keys] for m in ensemble.models)
    for model, found in zip(ensemble.models[1:], others, strict=True):
        if found != wanted:
            raise InputError(
                f"--member {model.run}: expected the data and the fold of {ensemble.models[0].run}, got others; leave "
                "it out"
            )


def fit_quality(ensemble: Ensemble, source: DataFolder, changes: Changes) -> DicePredictor:
    """Fit what predicts the Dice of an ensemble's predictions, and write ``quality.npz`` into the first model's run.

    Shape and place are compared with the training masks. The curves are fitted to at most 16 validation images, each
    clean and under at most 23 of the other conditions: clean images alone show too few bad predictions. Half of the
    weight lies on the clean ones, so that their predicted Dice is right on average. With fewer than 8 validation
    images, training images make them up to 16; the network knows these, so the curves are then optimistic. Curves for
    other ways of predicting that the file has stay there.

    Args:
        ensemble: model or models, and how they predict.
        source: training data of the first.
        changes: conditions to choose from, clean first.
    """
    model, organs = ensemble.models[0], [label.name for label in source.labels[1:]]
    plausibility, mean_mask = _learn_masks(ensemble, source)
    path = model.home / QUALITY
    before = model.dice_predictor.fits if path.is_file() and model.dice_predictor is not None else []
    predictor = DicePredictor(model.identity, organs, plausibility, mean_mask, before)
    clean, *others = changes.conditions
    chosen = Changes([clean, *spread(others, _MOST_CONDITIONS - 1)], changes.table, changes.seed)
    cases = {"validation": min(len(source.cases("validation")), _MOST_FITTED), "training": 0}
    if cases["validation"] < _ENOUGH:
        cases["training"] = min(len(source.cases("training")), _MOST_FITTED - cases["validation"])
    share = float(max(len(chosen.conditions) - 1, 1))
    examples = [
        Example(judged.signs, judged.dice, share if judged.condition == clean else 1.0)
        for split, most in cases.items()
        for judged in _judge(ensemble, predictor, source, split, most, chosen)
    ]
    predictor.keep(Fit.make(ensemble.settings, cases, organs, examples))
    save_arrays(path, predictor.to_arrays())
    return predictor


def _learn_masks(ensemble: Ensemble, source: DataFolder) -> tuple[Plausibility, Floats]:
    """Learn shape and place of the training masks, each compared with the mean mask of the others."""
    model, classes = ensemble.models[0], len(source.labels)
    found = []
    for image in load_split(model, source, "training", _MOST_MASKS):
        signs, truth = Signs(classes - 1), find_truth(ensemble, image)
        signs.add((truth == torch.arange(classes).view(-1, *[1] * truth.ndim)).float())
        found.append(signs)
    total = torch.stack([signs.planes for signs in found]).sum(0) if len({s.planes.shape for s in found}) == 1 else None
    rows = [
        signs.describe(None if total is None or len(found) < 2 else (total - signs.planes) / (len(found) - 1))
        for signs in found
    ]
    mean_mask = np.zeros(0) if total is None else (total / len(found)).double().numpy()
    return Plausibility.fit(np.stack(rows)), mean_mask


def find_truth(ensemble: Ensemble, image: LabeledImage) -> torch.Tensor:
    """Return the true classes [x, y(, z)] on the grid of the ensemble's predictions, 255 for ignored pixels."""
    [size, *_] = _sizes(ensemble, image)
    if size is None:
        return image.truth[0]
    known = torch.tensor([*range(len(ensemble.labels)), IGNORED])
    masks = image.truth == known.view(-1, *[1] * (image.truth.ndim - 1))
    return known[undo_centering(masks.float(), size).argmax(0)]


def _sizes(ensemble: Ensemble, image: LabeledImage) -> list[tuple[int, int] | None]:
    return ensemble.find_sizes(image.case["shape"][:2], image.case["spacing_mm"])


def _judge(
    ensemble: Ensemble, predictor: DicePredictor, source: DataFolder, split: str, most: int, changes: Changes
) -> Iterator[_Judged]:
    """Predict cases of a split under conditions, and measure signs and Dice."""
    # One image a case and model: models may have other grids and units.
    for images in zip(*(load_split(model, source, split, most) for model in ensemble.models), strict=True):
        for condition in changes.conditions:
            changed = [changes.put(image, condition) for image in images]
            found = ensemble.segment([image.decoded for image in changed], _sizes(ensemble, images[0]))
            signs = ensemble.begin_signs()
            signs.add(found.for_labels, found.parts)
            predicted, truth = found.for_labels.argmax(0).numpy(), find_truth(ensemble, changed[0]).numpy()
            dice = overlap_of(confusion_matrix(predicted, truth, len(ensemble.labels)))["dice"]
            yield _Judged(images[0].case, condition, predictor.measure(signs), dice)


def predict_test_dice(
    ensemble: Ensemble, predictor: DicePredictor, source: DataFolder, changes: Changes
) -> list[dict[str, Any]]:
    """Predict the Dice of at most 64 test images under conditions.

    Args:
        ensemble: model or models, as the predictor was fitted to.
        predictor: what :func:`fit_quality` returned.
        source: training data of the first model.
        changes: the conditions.

    Returns:
        Rows of :data:`medpos.runs.calibration.PREDICTED_COLUMNS`.
    """
    fit = predictor.find(ensemble.settings)
    if fit is None:
        raise ValueError("expected curves for this ensemble, got none; call fit_quality() first")
    rows = []
    for judged in _judge(ensemble, predictor, source, "test", _MOST_TEST, changes):
        about = {name: judged.case[name] for name in ("case", "subject")} | {"split": "test"}
        about |= {name: getattr(judged.condition, name) for name in CONDITION}
        predicted = fit.predict(judged.signs, predictor.organs)
        rows += [
            {**about, "organ": organ, "predictor": name, "predicted": values[n], "dice": judged.dice[n]}
            for n, organ in enumerate(predictor.organs)
            for name, values in predicted.items()
        ]
    return rows


def score_predictors(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Score predicted Dice against measured Dice.

    Args:
        rows: rows of :func:`predict_test_dice`.

    Returns:
        A row of :data:`medpos.runs.calibration.FAILURE_COLUMNS` for each condition, organ and predictor, and last one
        for all conditions together: what :func:`medpos.trust.failure.score_failures` gives, and ``error``, the mean
        absolute difference.
    """
    parts: dict[tuple[Any, ...], list[tuple[float, float, str]]] = {}
    conditions = {name: [row[name] for row in rows] for name in CONDITION}
    several = len(set(zip(*conditions.values(), strict=True))) > 1
    for together in (False, True) if several else (False,):
        for row in rows:
            place = ALL_CONDITIONS if together else row
            key = (*(place[name] for name in CONDITION), row["organ"], row["predictor"])
            parts.setdefault(key, []).append((row["predicted"], row["dice"], row["case"]))
    found = []
    for key, pairs in parts.items():
        *values, cases = zip(*pairs, strict=True)
        predicted, dice = np.array(values, float)
        gaps = np.abs(predicted - dice)
        gaps = gaps[np.isfinite(gaps)]
        scores = score_failures(predicted.tolist(), dice.tolist(), cases) | or_none(
            {"error": gaps.mean() if gaps.size else np.nan}
        )
        found.append({**dict(zip((*CONDITION, "organ", "predictor"), key, strict=True)), **scores})
    return found


def format_failures(scored: Sequence[dict[str, Any]]) -> str:
    """Format the scores of all conditions together, or of clean images where there are no others."""
    wide = [row for row in scored if row["degradation"] == ALL_CONDITIONS["degradation"]] or list(scored)
    head = {"n": "n", "failures": "failures", "error": "error", "auroc": "AUROC", "aurc": "AURC"}
    head |= {"excess_aurc": "excess AURC", "correlation": "rank correlation"}
    out = Table(title="which prediction is bad, without the truth", box=SIMPLE_HEAD, title_justify="left")
    for name in ("organ", "predictor", *head.values()):
        out.add_column(name, justify="left" if name in ("organ", "predictor") else "right", no_wrap=True)
    for row in wide:
        cells = ("-" if row[k] is None else f"{row[k]:.3f}" if isinstance(row[k], float) else str(row[k]) for k in head)
        out.add_row(title(row["organ"]), row["predictor"], *cells)
    where = "all conditions" if len(wide) < len(scored) else "clean"
    note = (
        f"test images, {where}; failure: a Dice below {FAILED_BELOW}; error: mean difference of predicted and measured "
        f"Dice; AUROC: 1 is best, 0.5 is chance; excess AURC: 0 is best; none is stated of fewer than {LEAST} cases"
    )
    return as_text(out, note, width=150)
