"""Measure scores in a MONAI evaluator over a small data set under two conditions."""

import csv
import json
import logging
import math
from datetime import timedelta
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from ignite.engine import Engine
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.handlers import ValidationHandler
from monai.transforms import AsDiscreted, Compose, EnsureTyped, LoadImaged, SqueezeDimd
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medpos.core.errors import InputError
from medpos.core.labels import BACKGROUND, Label
from medpos.data.cached import CachedDataset
from medpos.data.conditions import CLEAN, Condition
from medpos.data.folder import DataFolder
from medpos.handlers import CaseMetrics, EpochLog, ResultTable, ScalarLog, Scores, TensorBoard
from medpos.metrics import ClassScores, InstanceScores, WeightedDice, limits_of, summarize
from medpos.runs.folder import RunFolder
from medpos.transforms import Shifted

LABELS = (BACKGROUND, Label(1, "nucleus", "#0072B2"))
SHIFT = Condition(shift_x=4)
COLUMNS = ["seg", "pixel_error", "adapted_rand_error", "objects_true", "objects_predicted"]
COLUMNS += ["box_iou", "box_precision", "box_recall", "box_f1", "boundary_f1"]
# Columns of each object in the truth, and in the image, which the network below reads off. The last case is empty.
CASES = {
    "a1": ([(2, 6), (6, 10)], [(2, 10)]),  # two that touch, seen as one
    "a2": ([(2, 6), (12, 16)], [(2, 6), (12, 16)]),
    "b1": ([(2, 12)], [(2, 8), (20, 22)]),
    "c1": ([], []),
}

# Columns of the set: 8 + 8 + 10 true ones, 8 + 8 + 8 predicted, 8 + 8 + 6 common; 96 in all, 8 px each counts.
SET = {
    "global_accuracy": 1 - (6 * 8) / (4 * 24 * 16),
    "class_accuracy": (22 / 26 + (192 - 28) / (192 - 26)) / 2,
    "mean_iou": (22 / 28 + (192 - 28) / (192 - 22)) / 2,
    "frequency_weighted_iou": (26 * 22 / 28 + (192 - 26) * (192 - 28) / (192 - 22)) / 192,
}


def stripes(columns):
    out = np.zeros((24, 16, 1), np.uint16)
    for number, (first, last) in enumerate(columns, 1):
        out[first:last, 4:12] = number
    return out


@pytest.fixture(scope="module")
def prepared_cells(tmp_path_factory):
    """Prepare a data folder of four images with their instances."""
    folder = tmp_path_factory.mktemp("cells")
    cases = []
    for name, (truth, seen) in CASES.items():
        maps = {
            "image": np.float32(stripes(seen) > 0),
            "label": np.uint8(stripes(truth) > 0),
            "instances": stripes(truth),
        }
        case = {"case": name, "subject": name[0], "shape": [24, 16, 1], "spacing_mm": [1.0, 1.0, 1.0]}
        for key, values in maps.items():
            (folder / key).mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / key / f"{name}.nii.gz")
            case[key] = f"{key}/{name}.nii.gz"
        cases.append(case)
    content = {
        "schema_version": 1,
        "name": "cells",
        "phantom": True,
        "labels": [label.to_json() for label in LABELS],
        "intensity": {"range": [0, 1], "mean": 0.5, "std": 0.5},
        "training": [],
        "validation": [],
        "test": cases,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return DataFolder(folder)


class Threshold(torch.nn.Module):
    """Predict foreground where the image is bright."""

    def __init__(self):
        super().__init__()
        self.score = torch.nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            self.score.weight.copy_(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1))
            self.score.bias.copy_(torch.tensor([0.5, -0.5]))

    def forward(self, x):
        return self.score(x)


class WithInstances:
    """Add the case's instance map, which is transformed as the label is."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, item):
        numbers = nibabel.load(self.folder / f"instances/{item['case']}.nii.gz").get_fdata()[None, ..., 0]
        return {**item, "instances": torch.as_tensor(numbers, dtype=torch.int32).roll(int(item["shift_x"]), 1)}


def evaluator(source, handlers, conditions=(CLEAN, SHIFT), cases=None):
    keys = ["image", "label"]
    decode = Compose(
        [
            LoadImaged(keys, image_only=True, ensure_channel_first=True),
            EnsureTyped(keys, dtype=[torch.float32, torch.uint8], track_meta=False),
            SqueezeDimd(keys, dim=-1),
        ]
    )
    data = [case for case in source.cases("test") if cases is None or case["case"] in cases]
    dataset = CachedDataset(data, decode, Compose([Shifted(), WithInstances(source.folder)]), conditions=conditions)
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=3),
        network=Threshold(),
        postprocessing=AsDiscreted("pred", argmax=True),
        key_val_metric={"mean_dice": CaseMetrics(LABELS)},
        val_handlers=handlers,
    )
    engine.logger.setLevel(logging.CRITICAL)
    return engine


def all_scores():
    return [InstanceScores(), ClassScores(LABELS), WeightedDice(LABELS)]


@pytest.fixture(scope="module")
def evaluated(prepared_cells, tmp_path_factory):
    """Run an evaluation under both conditions and return its run folder, engine and log."""
    run = RunFolder(tmp_path_factory.mktemp("runs"), "bundle", "a").create()
    run.folder.mkdir(parents=True)
    lines = []
    listener = logging.Handler()
    listener.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("medpos").addHandler(listener)
    logging.getLogger("medpos").setLevel(logging.INFO)
    engine = evaluator(prepared_cells, [Scores(all_scores(), run), ResultTable(run, prepared_cells, "cells")])
    engine.run()
    logging.getLogger("medpos").removeHandler(listener)
    return SimpleNamespace(folder=run.folder, engine=engine, log="\n".join(lines))


def rows_of(folder):
    with (folder / "scores.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_csv(evaluated):
    rows = rows_of(evaluated.folder)
    assert list(rows[0]) == ["case", "subject", "split", "degradation", "severity", "shift", *COLUMNS]
    assert [(row["shift"], row["case"]) for row in rows] == [(s, c) for s in ("0", "x+4") for c in CASES]
    by_case = {row["case"]: row for row in rows[:4]}
    # Two objects of 4 columns seen as one of 8: half of the joint object is either's.
    assert float(by_case["a1"]["seg"]) == pytest.approx(1 / 2)
    assert (by_case["a1"]["objects_true"], by_case["a1"]["objects_predicted"]) == ("2.0", "1.0")
    assert float(by_case["a1"]["adapted_rand_error"]) == pytest.approx(1 - 2 * 2 * 32 * 31 / (2 * 32 * 31 + 64 * 63))
    assert (by_case["a2"]["seg"], by_case["a2"]["adapted_rand_error"], by_case["a2"]["boundary_f1"]) == (
        "1.0",
        "0.0",
        "1.0",
    )
    assert float(by_case["b1"]["seg"]) == pytest.approx(6 / 10)
    assert float(by_case["b1"]["pixel_error"]) == pytest.approx((4 + 2) * 8 / (24 * 16))
    assert (by_case["c1"]["seg"], by_case["c1"]["adapted_rand_error"], by_case["c1"]["pixel_error"]) == (
        "nan",
        "nan",
        "0.0",
    )
    assert by_case["c1"]["subject"] == "c"
    boxes = {
        name: [float(row[f"box_{kind}"]) for kind in ("iou", "precision", "recall", "f1")]
        for name, row in by_case.items()
    }
    # The joint box of a1 covers no more than half of either; of b1's boxes one of two is right.
    assert (boxes["a1"], boxes["a2"]) == ([0, 0, 0, 0], [1, 1, 1, 1])
    assert boxes["b1"] == pytest.approx([6 / 10, 1 / 2, 1, 2 / 3])
    assert all(math.isnan(value) for value in boxes["c1"])
    # Moved 4 columns to the right, b1's islet at 20 is gone; nothing else changes.
    assert float(rows[6]["pixel_error"]) == pytest.approx(4 * 8 / (24 * 16))
    assert rows[5]["seg"] == "1.0"


def test_summary(evaluated):
    conditions = json.loads((evaluated.folder / "summary.json").read_text())["conditions"]
    assert [list(condition["scores"]) for condition in conditions] == [[*COLUMNS, "set"]] * 2
    rows = rows_of(evaluated.folder)
    for condition, part in zip(conditions, (rows[:4], rows[4:]), strict=True):
        for name in COLUMNS:
            values, subjects = [float(row[name]) for row in part], [row["subject"] for row in part]
            assert condition["scores"][name] == summarize(values, subjects, limits_of(name))
    clean = conditions[0]["scores"]
    assert (clean["seg"]["n"], clean["seg"]["missing"]) == (3, 1)
    assert clean["seg"]["mean"] == pytest.approx((1 / 2 + 1 + 6 / 10) / 3)
    of_objects = {"seg_all_objects": (2 / 2 + 2 + 6 / 10) / 5, "weighted_dice": (1 + 1 + 2 * 6 / 18) / 3}
    of_objects["box_f1_all_objects"] = 2 * (0 + 2 + 1) / ((2 + 2 + 1) + (1 + 2 + 2))
    assert clean["set"] == pytest.approx({**SET, **of_objects})
    assert conditions[1]["scores"]["set"]["mean_iou"] > clean["set"]["mean_iou"]


def test_confusion_csv(evaluated):
    """Compare with the stripes of the cases: 96 columns of 8 px in the rows 4 to 11, and 4 * 24 * 8 px beside them."""
    with (evaluated.folder / "confusion.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["degradation", "severity", "shift", "true", "predicted", "pixels"]
    beside, names = 4 * 24 * 8, ("background", "nucleus")
    # More pixels are missed than predicted too many, so a transposed matrix would differ.
    clean = {("nucleus", "nucleus"): 22 * 8, ("nucleus", "background"): 4 * 8, ("background", "nucleus"): 2 * 8}
    moved = clean | {("background", "nucleus"): 0}  # b1's islet has left the frame
    for shift, wanted in (("0", clean), ("x+4", moved)):
        rest = {("background", "background"): (96 * 8 + beside) - sum(wanted.values())}
        found = {(row[3], row[4]): int(row[5]) for row in rows[1:] if row[:3] == ["none", "0", shift]}
        assert found == wanted | rest
        assert list(found) == [(true, predicted) for true in names for predicted in names]
    assert len(rows) == 1 + 2 * 4


def test_classes_of_the_set(evaluated):
    condition, _ = json.loads((evaluated.folder / "summary.json").read_text())["conditions"]
    rest = 4 * 24 * 2 - 22 - 4 - 2
    assert condition["classes"] == {
        "background": pytest.approx({"iou": rest / (rest + 6), "class_accuracy": rest / (rest + 2)}),
        "nucleus": pytest.approx({"iou": 22 / 28, "class_accuracy": 22 / 26}),
    }


def test_metrics_of_the_engine(evaluated):
    metrics, rows = evaluated.engine.state.metrics, rows_of(evaluated.folder)
    for name in COLUMNS:
        assert metrics[name] == pytest.approx(np.nanmean([float(row[name]) for row in rows]))
    sets = list(evaluated.engine.state.scores.sets.values())
    assert metrics["mean_iou"] == pytest.approx((sets[0]["mean_iou"] + sets[1]["mean_iou"]) / 2)
    assert metrics["weighted_dice"] == pytest.approx((sets[0]["weighted_dice"] + sets[1]["weighted_dice"]) / 2)


def test_console(evaluated):
    organs, cases, sets = evaluated.log.split("\nscores, ")
    assert "nucleus" in organs
    assert "SEG" not in organs
    assert "PHANTOM DATA" in sets.splitlines()[-2]
    assert "whole set: one value of all cases together" in sets.splitlines()[-3]
    found = [line.split() for part in (cases, sets) for line in part.splitlines() if line.startswith("  none")]
    assert [row[:4] for row in found[:2]] == [["none", "0", "0", "0.700"], ["none", "0", "x+4", "0.700"]]
    assert [row[:6] for row in found[2:]] == [
        ["none", "0", shift, "0.720", box, g] for shift, box, g in (("0", "0.600", "0.969"), ("x+4", "0.667", "0.979"))
    ]
    words = sets.split()  # long titles take two lines
    assert all(word in words for word in ("SEG,", "F1,", "weighted", "global", "IoU"))
    assert max(map(len, evaluated.log.splitlines())) <= 150


def test_without_scores_of_cases_the_set_alone_has_some(prepared_cells, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = RunFolder(tmp_path, "bundle", "a").create()
    engine = evaluator(prepared_cells, [ResultTable(run, prepared_cells, "cells")], [CLEAN])
    engine.run()
    assert caplog.text.count("over cases") == 2  # of the organs, and in the line about scores
    assert not (run.folder / "scores.csv").exists()
    [condition] = json.loads((run.folder / "summary.json").read_text())["conditions"]
    assert condition["scores"] == {"set": pytest.approx(SET)}
    iou = condition["organs"]["nucleus"]["iou"]
    assert iou["mean"] == pytest.approx((1 + 1 + 6 / 12) / 3)
    heads, row = (
        next(line for line in caplog.text.splitlines() if line.startswith(f"  {word}")) for word in ("organ", "nucleus")
    )
    end = heads.index("IoU") + len("IoU")
    assert row[:end].rstrip().endswith(f"{iou['mean']:.3f} ± {iou['sd']:.3f}")


def test_scores_of_two_names_are_refused(prepared_cells):
    engine = evaluator(prepared_cells, [Scores([InstanceScores(), InstanceScores()])], [CLEAN])
    with pytest.raises(
        InputError, match="expected every score once, got box_f1_all_objects, seg_all_objects from two scores"
    ):
        engine.run()


def test_a_training_shows_the_scores_of_its_validation(prepared_cells, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = RunFolder(tmp_path, "bundle", "a").create()
    validator, board = evaluator(prepared_cells, [Scores(all_scores())], [CLEAN]), TensorBoard(run)
    trainer = Engine(lambda *_: {"loss": torch.tensor(1.0)})
    trainer.logger.setLevel(logging.CRITICAL)
    for handler in (ValidationHandler(1, validator), EpochLog(validator), ScalarLog(board, None, validator, {})):
        handler.attach(trainer)
    trainer.run([0], max_epochs=2)
    board.close()
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    for name in (*COLUMNS, "seg_all_objects", "mean_iou", "weighted_dice"):
        values = [event.value for event in events.Scalars(name)]
        # The second epoch counts its own cases alone.
        assert values == pytest.approx([validator.state.metrics[name]] * 2)
    assert len(validator.state.scores.rows) == 4
    assert "; seg 0.700; " in caplog.text
    assert "; mean_iou 0.875; " in caplog.text
    assert caplog.text.count("mean_dice") == 0  # it is the validation Dice already
    assert not (run.folder / "scores.csv").exists()


def test_ignored_pixels_and_connected_parts_where_a_case_has_no_instances():
    truth, prediction = torch.zeros(2, 1, 6, 4)
    truth[:, 0], truth[:, 4], prediction[:, 0], prediction[:, 2] = 1, 255, 1, 1
    engine = Engine(lambda *_: [{"pred": prediction, "label": truth}])
    engine.logger.setLevel(logging.CRITICAL)
    Scores([InstanceScores(), ClassScores(LABELS)]).attach(engine)
    item = {"case": "a", "subject": "a", "split": "test", "spacing_mm": torch.ones(2), **CLEAN.to_item()}
    engine.run([[item]])
    [row] = engine.state.scores.rows
    assert (row["objects_true"], row["objects_predicted"], row["pixel_error"]) == (1, 2, pytest.approx(4 / 20))
    assert engine.state.metrics["global_accuracy"] == pytest.approx(16 / 20)


def _one_of_two(rank, source, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(minutes=5)
    )
    run = RunFolder(folder, "bundle", "a").create()
    run.folder.mkdir(parents=True, exist_ok=True)
    # As a sampler that pads its last batch has it, a2 is served to both.
    handlers = [Scores(all_scores(), run), ResultTable(run, source, "cells")]
    engine = evaluator(source, handlers, cases=[("a1", "a2"), ("a2", "b1", "c1")][rank])
    engine.run()
    (folder / f"{rank}.json").write_text(json.dumps(engine.state.metrics))
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_scores_of_one(prepared_cells, evaluated, tmp_path):
    started = torch.multiprocessing.start_processes(
        _one_of_two, (prepared_cells, tmp_path), 2, join=False, daemon=True, start_method="fork"
    )
    for process in started.processes:
        process.join(300)  # a busy machine takes its time
    assert [process.exitcode for process in started.processes] == [0, 0]
    assert rows_of(tmp_path / "bundle/a") == rows_of(evaluated.folder)
    for name in ("confusion.csv", "metrics.csv", "summary.json"):  # a2 counts once
        assert (tmp_path / "bundle/a" / name).read_text() == (evaluated.folder / name).read_text()
    wanted = evaluated.engine.state.metrics
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == pytest.approx(wanted)
    assert not math.isnan(wanted["seg"])
