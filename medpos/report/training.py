"""Draw how a report's models were trained, and how the Dice of their cases is spread."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medpos.core.labels import labels_of
from medpos.plotting.strips import Strip, draw_strips
from medpos.plotting.style import Drawing
from medpos.plotting.training import Course, draw_training
from medpos.report.sources import Run, clean_rows
from medpos.report.tables import slug
from medpos.runs import files
from medpos.runs.events import Points, read_scalars
from medpos.trust.failure import FAILED_BELOW

_MEAN, _ORGAN = "mean_dice", "dice/"
_TRAINING_LOSS, _VALIDATION_LOSS, _LOSS, _RATE = "loss/training", "loss/validation", "loss", "learning_rate"


def read_course(run: Run) -> Course | None:
    """Read the course of a training from the events of its run; None where they have neither losses nor Dice."""
    scalars = read_scalars(run.folder / files.TENSORBOARD)
    organs = {tag.removeprefix(_ORGAN): points for tag, points in scalars.items() if tag.startswith(_ORGAN)}
    dice = {**organs, "": scalars[_MEAN]} if _MEAN in scalars else {}
    # Earlier versions logged the loss of the iterations alone.
    ends = [step for step, _ in scalars.get(_RATE, [])]
    loss = scalars.get(_TRAINING_LOSS) or _average_by_epoch(scalars.get(_LOSS, []), ends)
    return Course(run.seed, loss, scalars.get(_VALIDATION_LOSS, []), dice) if loss or dice else None


def _average_by_epoch(losses: Points, ends: Sequence[int]) -> Points:
    """Average the losses of the iterations over each epoch.

    Args:
        losses: iteration and loss.
        ends: last iteration of each epoch; the learning rate was logged there.
    """
    values = np.array([loss for _, loss in losses])
    epochs = np.searchsorted(np.array(ends), [step for step, _ in losses]) + 1
    return [(n, float(values[epochs == n].mean())) for n in range(1, len(ends) + 1) if (epochs == n).any()]


def draw_courses(runs: Sequence[Run]) -> list[Drawing]:
    """Draw the course of the trainings of each model and data set; none where no run has events."""
    found: dict[tuple[str, str], list[Course]] = {}
    for run in runs:
        if course := read_course(run):
            found.setdefault((run.data, run.model), []).append(course)
    drawings = []
    for n, ((data, model), courses) in enumerate(found.items(), 1):
        caption = (
            f"{model} on {data}: training loss and Dice on the validation split; dot: the best epoch, which was kept"
        )
        name = f"training_{n:02d}_{slug(model)[:40]}"
        drawings.append(Drawing(name, caption, f"{caption}. {_describe(courses)}", draw_training(courses)))
    return drawings


def _describe(courses: Sequence[Course]) -> str:
    parts = []
    for course in courses:
        loss = f"loss from {course.loss[0][1]:.3g} to {course.loss[-1][1]:.3g}" if course.loss else "no loss recorded"
        best = f"best mean Dice {course.best[1]:.3f} in epoch {course.best[0]:g}" if course.best else "no validation"
        parts.append(f"seed {course.seed}: {loss}, {best}")
    return f"{'; '.join(parts)}."


def draw_spread(table: pd.DataFrame) -> list[Drawing]:
    """Draw the Dice of every case on clean images as a dot, for each data set.

    Args:
        table: long table from :meth:`medpos.report.sources.Sources.table`.
    """
    drawings = []
    for key, part in clean_rows(table).groupby(["data", "split"], sort=False):
        data, split = map(str, key)
        models = list(dict.fromkeys(part["model"]))
        strips = []
        for label in labels_of(part["organ"])[1:]:
            for model in models:
                values = part.loc[(part["organ"] == label.name) & (part["model"] == model), "dice"].dropna()
                name = label.title if len(models) == 1 else f"{label.title}, {model}"
                strips.append(Strip(name, label.color, values.tolist()))
        caption = f"Dice of every case, {data}{'' if split == 'test' else f', {split}'}; line: median"
        drawings.append(
            Drawing(
                f"spread_{slug(data)}_{slug(split)}",
                caption,
                f"{caption}. {'; '.join(map(_describe_strip, strips))}.",
                draw_strips(strips, "Dice, clean images"),
            )
        )
    return drawings


def _describe_strip(strip: Strip) -> str:
    if not strip.values:
        return f"{strip.name}: no value"
    low, middle, high = np.quantile(strip.values, [0, 0.5, 1])
    failed = sum(value < FAILED_BELOW for value in strip.values)
    counts = f"{failed} of {len(strip.values)} below {FAILED_BELOW}"
    return f"{strip.name}: {low:.3f} to {high:.3f}, median {middle:.3f}, {counts}"
