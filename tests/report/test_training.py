"""Draw the course of a training and the Dice of every case."""

import numpy as np
import pandas as pd
import pytest
from making import ROBUST, rows, views
from torch.utils.tensorboard import SummaryWriter

from medpos.core.labels import ACDC
from medpos.plotting.training import Course, draw_training
from medpos.report.sources import Run
from medpos.report.training import draw_courses, draw_spread, read_course
from medpos.runs.events import read_scalars


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Log two epochs of three and two iterations, the second epoch twice, as a training that was killed and resumed."""
    folder = tmp_path_factory.mktemp("run")
    for first, losses in ((True, (6.0, 5.0, 4.0, 9.0, 9.0)), (False, (2.0, 1.0))):
        with SummaryWriter(str(folder / "tensorboard")) as writer:
            for n, loss in enumerate(losses, 1 if first else 4):
                writer.add_scalar("loss", loss, n)
            for epoch, end in ((1, 3), (2, 5))[not first :]:
                writer.add_scalar("learning_rate", 0.1, end)
                writer.add_scalar("mean_dice", 0.4 * epoch, epoch)
                writer.add_scalar("loss/validation", 3.0 / epoch, epoch)
                for organ in ("rv_cavity", "myocardium", "lv_cavity"):
                    writer.add_scalar(f"dice/{organ}", 0.25 * epoch, epoch)
    return Run(folder, "small CNN", 0, ())


def test_scalars_of_a_repeated_epoch_count_once(run, tmp_path):
    assert read_scalars(run.folder / "tensorboard")["loss"] == [(1, 6), (2, 5), (3, 4), (4, 2), (5, 1)]
    assert read_scalars(tmp_path) == {}
    assert read_scalars(tmp_path / "none") == {}


def test_the_course_of_a_training_has_means_of_epochs(run):
    course = read_course(run)
    assert course.loss == [(1, 5.0), (2, 1.5)]
    assert course.validation_loss == [(1, 3.0), (2, 1.5)]
    assert course.best == (2, pytest.approx(0.8))
    assert set(course.dice) == {"", "rv_cavity", "myocardium", "lv_cavity"}
    left, right = draw_training([course]).axes
    assert [line.get_label() for line in left.lines] == ["training", "validation"]
    assert list(left.lines[0].get_ydata()) == [5.0, 1.5]
    assert {line.get_color() for line in right.lines} >= {label.color for label in ACDC[1:]}


def test_seeds_share_a_figure_and_what_was_not_recorded_is_said():
    courses = [Course(seed, [(1, 1.0)], [], {"": [(1, 0.5)], "heart": [(1, 0.5)]}) for seed in (3, 4)]
    left, right = draw_training(courses).axes
    assert [line.get_label() for line in left.lines] == ["training, seed 3", "training, seed 4"]
    assert "heart" not in [line.get_label() for line in right.lines]
    left, right = draw_training([Course(0, [], [], {})]).axes
    assert [text.get_text() for axes in (left, right) for text in axes.texts] == ["not recorded"] * 2


def test_runs_without_events_are_left_out(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "data", "acdc")
    [drawn] = draw_courses([run, Run(tmp_path, "other", 0, ())])
    assert "small CNN on acdc" in drawn.title
    assert "seed 0: loss from 5 to 1.5, best mean Dice 0.800 in epoch 2" in drawn.alt


def test_every_case_is_a_dot():
    long = pd.DataFrame(rows(views(ACDC, (48, 40, 8), ("ED",)), ACDC, ROBUST))
    tables = [long.assign(data="acdc", model=name, seed=0) for name in ("a", "b")]
    [drawn] = draw_spread(pd.concat(tables))
    [axes] = drawn.figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [f"{label.title}, {name}" for label in ACDC[1:] for name in "ab"]
    clean = long[(long["severity"] == 0) & (long["organ"] == "rv_cavity")]["dice"]
    assert sorted(axes.collections[0].get_offsets()[:, 0]) == pytest.approx(sorted(clean))
    assert axes.lines[0].get_xdata()[0] == pytest.approx(np.median(clean))
    assert f"RV cavity, a: {clean.min():.3f} to {clean.max():.3f}" in drawn.alt
    [one] = draw_spread(tables[0].assign(dice=np.nan))
    assert "RV cavity: no value" in one.alt
