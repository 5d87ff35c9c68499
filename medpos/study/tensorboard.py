"""Write the models of a study to TensorBoard: a line of the HPARAMS page and the curves of its conditions for each."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch.utils.tensorboard import SummaryWriter

from medpos.handlers.charts import dice_of_cases, lay_out, write_results, write_settings
from medpos.runs.tables import summarize_conditions
from medpos.runs.text import format_results
from medpos.study.models import Model

PART = "test"  # first part of all tags, as those of a run's own test


def write(trained: Sequence[Model], table: pd.DataFrame, phantom: bool, folder: Path) -> None:
    """Write the events, in place of earlier ones.

    Args:
        trained: trained models.
        table: their rows, as :func:`medpos.study.results.collect` gives them.
        phantom: whether any of the data are phantoms, which the tables say.
        folder: folder for ``tensorboard --logdir``; its content is replaced.
    """
    shutil.rmtree(folder, ignore_errors=True)
    settings = sorted({key for model in trained for key in _settings(model)})
    for model in trained:
        rows = table[(table["data"] == model.data) & (table["model"] == model.variant) & (table["seed"] == model.seed)]
        rows = rows[rows["fold"] == model.fold] if model.fold else rows
        measured = [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
        conditions, cases, given = summarize_conditions(measured), dice_of_cases(measured), _settings(model)
        name = f"{model.folder().parent.name}_{model.folder().name}"
        with SummaryWriter(str(folder / name)) as writer:
            write_results(writer, PART, conditions, cases, format_results(conditions, name, phantom))
            writer.add_custom_scalars({PART: lay_out(PART, conditions)})
            # A missing setting reads "-", because TensorBoard would leave out its column otherwise.
            plain = {key: given.get(key, "-") for key in settings}
            write_settings(writer, plain, [f"{PART}/{tag}" for tag in cases])


def _settings(model: Model) -> dict[str, Any]:
    """Return data set, variant, seed and the overrides of a model."""
    overrides = {k: v for k, v in model.overrides.items() if k not in ("runs_dir", "dataset_dir", "seed")}
    return {"data": model.data, "model": model.variant, "seed": model.seed, **overrides}
