"""Learn from the cases of a training how far its network can be trusted, and store it in the run.

``outputs`` runs the network on the cases of a split, ``temperatures`` fits temperatures on the validation split,
``lights`` fits detectors of strange images on the training split and sets their threshold on the validation split,
``noticed`` measures what they notice. ``failures`` fits what predicts the Dice, and measures how well it does.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medpos.calibrate.failures import (
    check_members,
    fit_quality,
    format_failures,
    predict_test_dice,
    score_predictors,
)
from medpos.calibrate.lights import describe_light, fit_detectors
from medpos.calibrate.noticed import CASE_COLUMNS, COLUMNS, format_noticed, judge_cases, summarize_noticed
from medpos.calibrate.outputs import Changes
from medpos.calibrate.temperatures import fit_scaling, format_temperatures
from medpos.core.device import is_main_process
from medpos.core.errors import InputError
from medpos.core.files import write_csv
from medpos.data.conditions import named
from medpos.handlers.charts import write_calibrated
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model
from medpos.predict.run_files import open_training_data, read_run_files
from medpos.runs.calibration import FAILURE_COLUMNS, PREDICTED_COLUMNS
from medpos.runs.files import FAILURES, NOTICED, NOTICED_CASES, PREDICTED_DICE, Run
from medpos.runs.folder import RunFolder
from medpos.runs.text import PHANTOM_NOTE

__all__ = ["Options", "calibrate_run", "fit_lights"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """Hold the user's choices.

    Args:
        conditions: ``clean``, ``degradations``, ``shifts`` or several: the run's conditions of these names, under which
            the test images are judged.
        failures: whether to measure on the test images how well the predicted Dice finds bad predictions.
        members: further runs of the ensemble whose Dice is predicted.
        tta: its kinds of test-time augmentation, of :data:`medpos.predict.views.KINDS`.
        dropout: its number of passes with dropout; 0: none.
        lights_only: whether to leave out what takes longer than the lights: to fit what predicts the Dice, unless
            ``failures`` needs it, and to measure what temperatures change under the conditions.
    """

    conditions: Sequence[str] = ()
    failures: bool = False
    members: Sequence[Path] = ()
    tta: Sequence[str] = ()
    dropout: int = 0
    lights_only: bool = False


def calibrate_run(
    run: Path, dataset_dir: Path | None = None, device: str = "", options: Options | None = None
) -> list[str]:
    """Fit temperatures, detectors and what predicts the Dice to a run, and write them into it.

    The files are ``temperatures.json``, ``temperature_scaling.csv``, ``detectors.npz`` and, but for ``lights_only``,
    ``quality.npz``; with conditions ``noticed.csv`` and ``noticed_cases.csv``; with ``failures`` ``predicted_dice.csv``
    and ``failures.csv``.

    Args:
        run: run folder, or that of an evaluation in it, whose conditions are then taken, and which gets the two tables
            of what is noticed.
        dataset_dir: its training data, if they have moved.
        device: device to compute on; empty: CUDA if there is one.
        options: the user's choices.

    Returns:
        Texts on what was found, and that the images are phantoms if they are.

    Raises:
        InputError: the folder is no run of a segmentation or an evaluation on other data, its data are not found or
            have too few cases, a member was trained on other data, or the run can't be written to.
    """
    chosen = options or Options()
    model = Model(run, dataset_dir, device)
    model.check_segments()
    model.forget_others()
    config = read_run_files(run, dataset_dir).config
    _check_same_data(run, config, model.home)
    source = open_training_data(run, config, dataset_dir)
    if (chosen.conditions or chosen.failures) and not source.cases("test"):
        raise InputError(f"{source.folder}: expected test cases, to judge them under conditions, got none")
    members = [Model(member, dataset_dir, device) for member in chosen.members]
    ensemble = Ensemble([model, *members], chosen.tta, dropout=chosen.dropout)
    check_members(ensemble, source)
    table, seed = config.get("degradation_table", "study"), int(config.get("noise_seed", 0))

    def changes(groups: Sequence[str]) -> Changes:
        return Changes(named(groups, table, config.get("shift_pixels", [])), table, seed)

    judged = changes(chosen.conditions)
    shown = changes(()) if chosen.lights_only else judged
    scaling, light = fit_scaling(model, source, shown), fit_detectors(model, source)
    texts = [format_temperatures(scaling), describe_light(light)]
    if chosen.conditions:
        found = judge_cases(model, light, source, judged)
        noticed = summarize_noticed(found)
        write_csv(run / NOTICED, COLUMNS, noticed)
        write_csv(run / NOTICED_CASES, CASE_COLUMNS, [case.row for case in found])
        texts.append(format_noticed(noticed))
    if chosen.failures or not chosen.lights_only:
        predictor = fit_quality(ensemble, source, changes(("degradations", "shifts")))
    if chosen.failures:
        rows = predict_test_dice(ensemble, predictor, source, judged)
        scored = score_predictors(rows)
        write_csv(model.home / PREDICTED_DICE, PREDICTED_COLUMNS, rows)
        write_csv(model.home / FAILURES, FAILURE_COLUMNS, scored)
        texts.append(format_failures(scored))
    texts += [PHANTOM_NOTE] if source.phantom else []
    write_calibrated(model.home, "\n".join(texts))
    return texts


def _check_same_data(run: Path, config: dict[str, Any], home: Path) -> None:
    """Check that an evaluation was on the data of its training: to others nothing must be fitted."""
    if not Run(home).is_recorded:  # an exported bundle
        return
    pairs = [(config.get(key), Run(home).config.get(key)) for key in ("data_sha256", "fold")]
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):  # an earlier version kept neither
        raise InputError(
            f"{run}: expected an evaluation on the data and the fold of its training, to which lights are fitted, got "
            f"one on others; give {home}"
        )


def fit_lights(run: RunFolder, fit: bool = True, device: str = "") -> None:
    """Fit temperatures and detectors to a run whose results are written; the last step of a training.

    Where that can't be done, the log says why, and the run stays finished.

    Args:
        run: run folder.
        fit: False does nothing.
        device: device to compute on; empty: CUDA if there is one.
    """
    if not (fit and is_main_process()):
        return
    try:
        texts = calibrate_run(run.folder, device=str(device), options=Options(lights_only=True))
    except InputError as error:
        logger.warning("the run has no lights: %s", error)
    else:
        logger.info("lights\n%s", "\n".join(texts))
