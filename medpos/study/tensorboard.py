"""Write TensorBoard's HPARAMS page of a study: one line per model, with its settings and its Dice on clean images."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch.utils.tensorboard import SummaryWriter

from medpos.data.conditions import is_clean
from medpos.study.models import Model


def write(trained: Sequence[Model], table: pd.DataFrame, folder: Path) -> None:
    """Write the events, in place of earlier ones.

    Args:
        trained: trained models.
        table: their rows, as :func:`medpos.study.results.collect` gives them.
        folder: folder for ``tensorboard --logdir``; its content is replaced.
    """
    shutil.rmtree(folder, ignore_errors=True)
    clean = table[is_clean(table)]
    settings = sorted({key for model in trained for key in _settings(model)})
    for model in trained:
        rows = clean[(clean["data"] == model.data) & (clean["model"] == model.variant) & (clean["seed"] == model.seed)]
        rows = rows[rows["fold"] == model.fold] if model.fold else rows
        organs = rows.groupby("organ", sort=False)["dice"].mean().dropna()
        dice = {f"test_dice/{organ}": float(value) for organ, value in organs.items()}
        mean = float(rows.groupby("case")["dice"].mean().mean())
        given = _settings(model)
        with SummaryWriter(str(folder / f"{model.folder().parent.name}_{model.folder().name}")) as writer:
            # A missing setting reads "-", because TensorBoard would leave out its column otherwise.
            plain = {key: given.get(key, "-") for key in settings}
            writer.add_hparams(plain, {"test_dice/mean": mean, **dice}, run_name=".")


def _settings(model: Model) -> dict[str, bool | int | float | str]:
    """Return data set, variant, seed and the overrides of a model as plain values."""
    overrides = {k: v for k, v in model.overrides.items() if k not in ("runs_dir", "dataset_dir", "seed")}
    plain = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in overrides.items()}
    return {"data": model.data, "model": model.variant, "seed": model.seed, **plain}
