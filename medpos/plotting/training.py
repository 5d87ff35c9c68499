"""Draw the course of a training: its losses, and the Dice on the validation split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medpos.core.labels import labels_of
from medpos.plotting.style import INK, LINES, styled

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Course:
    """Hold the course of one training.

    Args:
        seed: random seed of the training, None where it is not recorded.
        loss: epoch and mean training loss of each epoch.
        validation_loss: epoch and loss on the validation split; empty where it wasn't measured.
        dice: epoch and Dice, 0 to 1, on the validation split by organ; the key ``""`` is the mean of the organs.
    """

    seed: int | None
    loss: Points
    validation_loss: Points
    dice: Mapping[str, Points]

    @property
    def best(self) -> tuple[float, float] | None:
        """Epoch and value of the greatest mean Dice, the first one of equals; None without a validation."""
        return max(self.dice.get("", ()), key=lambda point: point[1], default=None)


def draw_training(courses: Sequence[Course]) -> Figure:
    """Draw losses and Dice over the epochs; of one training every organ, of several the mean of organs of each.

    Args:
        courses: trainings of one model, with different seeds.
    """
    with styled():
        figure = Figure(figsize=(8.4, 3.3), layout="constrained")
        left, right = figure.subplots(1, 2)
        for n, course in enumerate(courses):
            line = LINES[n % len(LINES)]
            name = "" if len(courses) == 1 else f", seed {course.seed}"
            _plot(left, course.loss, f"training{name}", INK, line)
            _plot(left, course.validation_loss, f"validation{name}", "#0072B2", line)
            if len(courses) == 1:
                for label in labels_of(organ for organ in course.dice if organ)[1:]:
                    _plot(right, course.dice[label.name], label.title, label.color, "-")
            _plot(right, course.dice.get("", ()), f"mean of organs{name}", INK, line)
            if best := course.best:
                right.plot(*best, "o", color=INK, markersize=5, clip_on=False)
        _finish(left, "loss", bool(courses and any(course.loss for course in courses)))
        _finish(right, "Dice, validation split", any(course.best for course in courses))
        right.set_ylim(-0.03, 1.03)
    return figure


def _plot(axes: Axes, points: Points, name: str, color: str, line: object) -> None:
    if points:
        marker = "." if len(points) == 1 else None  # a line of one point would be invisible
        axes.plot(*zip(*points, strict=True), color=color, linestyle=line, marker=marker, linewidth=1.4, label=name)


def _finish(axes: Axes, label: str, has_lines: bool) -> None:
    axes.set(xlabel="epoch", ylabel=label)
    if has_lines:
        axes.legend(fontsize=8)
    else:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center")
