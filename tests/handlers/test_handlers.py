"""Run handlers on engines that only serve masks made by hand."""

import csv
import json
import logging
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medpos.core.errors import InputError
from medpos.core.labels import ACDC, Label
from medpos.handlers import (
    CaseMetrics,
    Checkpoint,
    EpochLog,
    LoadModel,
    Overlays,
    Progress,
    ResultTable,
    ScalarLog,
    TensorBoard,
    better,
    every,
)
from medpos.handlers import checkpoint as checkpoints
from medpos.handlers.metrics import mean_foreground_dice
from medpos.networks import MeanMask, SmallCNN
from medpos.runs.folder import RunFolder

NAN = float("nan")
CLEAN_KEY = ("none", 0, "0")


@pytest.mark.parametrize(
    ("current", "best", "wanted"),
    [(0.5, 0.4, True), (0.4, 0.5, False), (0.5, 0.5, False), (NAN, -1, False), (NAN, NAN, False), (0.0, NAN, True)],
)
def test_better(current, best, wanted):
    assert better(current, best) is wanted


def never(epoch):
    """Measure surface distances in no epoch."""
    return False


def mask(*boxes):
    """Make a label map [1, 8, 8] of boxes (label, x from, x to), as high as the image."""
    out = torch.zeros(1, 8, 8)
    for label, low, high in boxes:
        out[:, low:high] = label
    return out


def item(case, **more):
    place = {"degradation": "none", "severity": 0, "shift_x": 0, "shift_y": 0, "split": "test"}
    image = {"image": torch.rand(1, 8, 8), "spacing_mm": torch.tensor([2.0, 1.0])}
    return {"case": case, "subject": case[:2], **place, **image, **more}


def engine_of(pairs, *attached):
    """Build an evaluator that iterates over (item, prediction, truth)."""
    engine = Engine(lambda engine, _: None)
    engine.logger.setLevel(logging.CRITICAL)

    @engine.on(Events.ITERATION_STARTED)
    def _serve(engine):
        element, prediction, truth = pairs[(engine.state.iteration - 1) % len(pairs)]
        engine.state.batch = [element]
        engine.served = [{"pred": prediction, "label": truth}]

    @engine.on(Events.ITERATION_COMPLETED)
    def _output(engine):
        element, *_ = pairs[(engine.state.iteration - 1) % len(pairs)]
        engine.state.batch, engine.state.output = [element], engine.served

    for handler in attached:
        handler.attach(engine, "mean_dice") if isinstance(handler, CaseMetrics) else handler.attach(engine)
    return engine


# p1: RV half found, myocardium never found, LV in neither; p2: all as it should be.
PAIRS = [
    (item("p1_ED"), mask((1, 0, 2)), mask((1, 0, 4), (2, 4, 6))),
    (item("p2_ED"), mask((1, 0, 4), (2, 4, 6)), mask((1, 0, 4), (2, 4, 6))),
]


@pytest.fixture
def source():
    entries = [{"case": "p1_ED", "group": "DCM"}, {"case": "p2_ED", "group": "MINF"}]
    return SimpleNamespace(
        name="acdc",
        nominal_spacing=False,
        warnings=["p1: is it a copy?"],
        phantom=True,
        labels=ACDC,
        cases=lambda split: entries,
    )


@pytest.mark.parametrize(
    ("interval", "last", "step", "wanted"),
    [
        (10, 25, 1, [1, 10, 20, 25]),
        (10, 5, 1, [1, 5]),
        (1, 3, 1, [1, 2, 3]),
        (10, 30, 4, [4, 12, 20, 28]),
        (3, 10, 2, [2, 4, 6, 10]),
    ],
)
def test_epochs_with_surface_distances(interval, last, step, wanted):
    assert [epoch for epoch in range(step, last + 1, step) if every(interval, last, step)(epoch)] == wanted


def test_overlap_alone_is_that_of_the_whole_measurement(source):
    pairs = [*PAIRS, (item("p3_ED"), mask((1, 0, 3), (3, 3, 8)), mask((255, 0, 1), (1, 1, 4), (3, 4, 8)))]
    whole, alone = (
        engine_of(pairs, CaseMetrics(ACDC)),
        engine_of(pairs, CaseMetrics(ACDC, never), Overlays(source)),
    )
    for engine in (whole, alone):
        engine.run(range(3), max_epochs=1)
    for one, other in zip(alone.state.rows, whole.state.rows, strict=True):
        assert list(one) == list(other)
        surfaces = ("hd95_mm", "assd_mm", "surface_dice")
        assert str({k: v for k, v in one.items() if k not in surfaces}) == str(
            {k: v for k, v in other.items() if k not in surfaces}
        )
        assert all(math.isnan(one[key]) for key in surfaces)
    assert str(alone.state.metrics) == str({k: v for k, v in whole.state.metrics.items() if not k.startswith("hd95")})
    assert (alone.state.has_surfaces, whole.state.has_surfaces) == (False, True)
    # Columns of the three cases, 8 px each, by true (rows) and predicted class; one of p3 is ignored.
    columns = [[2 + 2, 0, 0, 0], [2, 2 + 4 + 2, 0, 1], [2, 0, 2, 0], [0, 0, 0, 4]]
    for engine in (whole, alone):
        assert engine.state.confusions.counts[CLEAN_KEY].tolist() == (8 * np.array(columns)).tolist()


def test_pixels_of_void_are_in_no_confusion_matrix():
    labels = (Label(0, "void", "#000000"), *ACDC[1:])
    for surfaces in (None, never):
        engine = engine_of(PAIRS, CaseMetrics(labels, surfaces))
        engine.run(range(2), max_epochs=1)
        columns = [[0, 0, 0, 0], [2, 2 + 4, 0, 0], [2, 0, 2, 0], [0, 0, 0, 0]]
        assert engine.state.confusions.counts[CLEAN_KEY].tolist() == (8 * np.array(columns)).tolist()


def test_distances_of_an_earlier_epoch_are_not_those_of_this_one():
    engine = engine_of(PAIRS, CaseMetrics(ACDC, lambda epoch: epoch % 2 == 0))
    seen = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append("hd95_mm/rv_cavity" in e.state.metrics))
    engine.run(range(2), max_epochs=4)
    assert seen == [False, True, False, True]


def test_a_value_that_is_no_class_is_refused():
    engine = engine_of([(item("p1_ED"), mask((7, 0, 2)), mask())], CaseMetrics(ACDC, never))
    with pytest.raises(InputError, match="case p1_ED: 16 pixels are none of the classes"):
        engine.run(range(1), max_epochs=1)


def test_threads_measure_the_same_rows_in_the_same_order(monkeypatch):
    whole = engine_of(PAIRS, CaseMetrics(ACDC))
    monkeypatch.setattr("medpos.handlers.rows.is_computing_apart", lambda _: True)
    apart = engine_of(PAIRS, CaseMetrics(ACDC))
    for engine in (whole, apart):
        engine.run(range(2), max_epochs=1)
    assert str(apart.state.rows) == str(whole.state.rows)
    assert str(apart.state.metrics) == str(whole.state.metrics)


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path, "bundle", "a").create()
    folder.folder.mkdir(parents=True)
    return folder


def test_rows_by_hand():
    metrics = CaseMetrics(ACDC)
    engine = engine_of(PAIRS, metrics)
    engine.run([0, 1])
    rows = {(row["case"], row["organ"]): row for row in engine.state.rows}
    assert len(engine.state.rows) == 6
    half = rows["p1_ED", "rv_cavity"]
    assert half["dice"] == pytest.approx(2 * 16 / (16 + 32))
    assert (half["iou"], half["sensitivity"], half["precision"]) == pytest.approx((0.5, 0.5, 1.0))
    assert half["hd95_mm"] == 4.0  # two columns of 2 mm
    lost = rows["p1_ED", "myocardium"]
    assert (lost["dice"], lost["hd95_mm"], lost["assd_mm"]) == (0, math.inf, math.inf)
    absent = rows["p1_ED", "lv_cavity"]
    assert all(math.isnan(absent[name]) for name in ("dice", "iou", "hd95_mm", "assd_mm"))
    assert half["subject"] == "p1"
    # Case 1: (2/3 + 0) / 2; case 2: (1 + 1) / 2; what is missing is left out, not counted as 0.
    assert engine.state.metrics["mean_dice"] == pytest.approx((1 / 3 + 1) / 2)
    assert engine.state.metrics["dice/rv_cavity"] == pytest.approx((2 / 3 + 1) / 2)
    assert engine.state.metrics["hd95_mm/rv_cavity"] == pytest.approx(2.0)
    assert engine.state.metrics["hd95_mm/myocardium"] == 0.0  # of the one case where it was found
    assert math.isnan(engine.state.metrics["dice/lv_cavity"])


def test_rows_are_reset_in_every_epoch():
    engine = engine_of(PAIRS, CaseMetrics(ACDC))
    engine.run([0, 1], max_epochs=3)
    assert len(engine.state.rows) == 6


def test_nothing_to_measure_is_nan_not_zero():
    engine = engine_of([(item("p1_ED"), mask(), mask())], CaseMetrics(ACDC))
    engine.run([0])
    assert math.isnan(engine.state.metrics["mean_dice"])
    assert math.isnan(mean_foreground_dice([]))


def test_results_are_written_with_the_policy_for_empty_masks(run, source, caplog):
    caplog.set_level(logging.INFO)
    engine_of(PAIRS, CaseMetrics(ACDC), ResultTable(run, source, "acdc_small")).run([0, 1])
    rows = list(csv.DictReader((run.folder / "metrics.csv").open()))
    cells = {(row["case"], row["organ"]): (row["dice"], row["hd95_mm"]) for row in rows}
    assert cells["p1_ED", "myocardium"] == ("0.0", "inf")
    assert cells["p1_ED", "lv_cavity"] == ("nan", "nan")
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["warnings"] == ["p1: is it a copy?"]
    assert (summary["bundle"], summary["cases"], summary["subjects"], summary["phantom"]) == ("acdc_small", 2, 2, True)
    organs = summary["conditions"][0]["organs"]
    lv = organs["lv_cavity"]["hd95_mm"]
    assert (lv["mean"], lv["n"], lv["missing"], lv["infinite"]) == (None, 0, 2, 0)
    myocardium = organs["myocardium"]
    assert (myocardium["hd95_mm"]["n"], myocardium["hd95_mm"]["infinite"]) == (1, 1)
    assert (myocardium["dice"]["mean"], myocardium["dice"]["n"]) == (0.5, 2)
    rows = list(csv.DictReader((run.folder / "subgroups.csv").open()))
    found = {(row["by"], row["subgroup"], row["organ"]): row["dice"] for row in rows}
    assert (found["group", "DCM", "myocardium"], found["group", "MINF", "myocardium"]) == ("0.0", "1.0")
    [mean] = [s for s in summary["subgroups"] if (s["subgroup"], s["organ"]) == ("DCM", "mean of organs")]
    assert mean["mean"] == pytest.approx(1 / 3)
    assert "acdc_small: test split of acdc PHANTOMS, 2 cases of 2 subjects" in caplog.text
    source.phantom = False
    caplog.clear()
    engine_of(PAIRS, CaseMetrics(ACDC), ResultTable(run, source, "acdc_small")).run([0, 1])
    assert "PHANTOM" not in caplog.text


def test_a_shift_carries_the_score_of_the_clean_prediction_moved_with_the_image(run, source):
    truth, clean = mask((1, 0, 4)), mask((1, 1, 4))  # columns 0 to 3; the network misses column 0
    to_left = {"shift_x": -2}  # columns 0 and 1 leave the frame
    pairs = [
        (item("p1_ED"), clean, truth),
        (item("p1_ED", **to_left), mask((1, 0, 1)), mask((1, 0, 2))),  # and under the shift column 1
        (item("p1_ED", degradation="shot_noise", severity=1, **to_left), mask(), mask((1, 0, 2))),
    ]
    engine_of(pairs, CaseMetrics(ACDC), ResultTable(run, source, "acdc_small")).run(range(3))
    rows = list(csv.DictReader((run.folder / "metrics.csv").open()))
    assert [float(row["dice"]) for row in rows if row["organ"] == "rv_cavity"] == pytest.approx([6 / 7, 2 / 3, 0])
    moved = list(csv.DictReader((run.folder / "moved_predictions.csv").open()))
    assert moved[0].keys() == rows[0].keys()
    found = {row["organ"]: (row["case"], row["shift"], row["dice"], row["hd95_mm"]) for row in moved}
    assert found["rv_cavity"] == ("p1_ED", "x-2", "1.0", "0.0")  # what it missed has left the frame
    assert len(moved) == 3  # one shift; with noise too, the clean prediction is no reference


def test_moved_predictions_are_left_out_where_another_process_has_the_clean_ones(run, source, caplog):
    pairs = [
        (item("p1_ED"), mask(), mask((1, 0, 4))),
        (item("p1_ED", shift_x=1), mask(), mask((1, 1, 5))),
        (item("p2_ED", shift_x=1), mask(), mask((1, 1, 5))),
    ]
    engine_of(pairs, CaseMetrics(ACDC), ResultTable(run, source, "acdc_small")).run(range(3))
    assert not (run.folder / "moved_predictions.csv").exists()
    assert "moved_predictions.csv is left out" in caplog.text
    assert len(list(csv.DictReader((run.folder / "metrics.csv").open()))) == 9


def test_an_organ_that_is_never_found_has_no_mean_distance(run, source):
    pairs = [(item(f"p{n}_ED"), mask(), mask((1, 0, 4))) for n in range(3)]
    engine_of(pairs, CaseMetrics(ACDC), ResultTable(run, source, "b")).run([0, 1, 2])
    organ = json.loads((run.folder / "summary.json").read_text())["conditions"][0]["organs"]["rv_cavity"]
    assert organ["dice"]["mean"] == 0
    assert (organ["hd95_mm"]["mean"], organ["hd95_mm"]["infinite"]) == (None, 3)


def test_overlays_show_worst_median_and_best_of_the_clean_cases(run, source):
    shown = [(item(f"p{n}_ED"), mask((1, 0, n)), mask((1, 0, 4))) for n in (3, 1, 4)]
    noisy = [(item("p0_ED", degradation="shot_noise", severity=5), mask(), mask((1, 0, 4)))]
    board = TensorBoard(run)
    engine = engine_of(shown + noisy, CaseMetrics(ACDC), Overlays(source, run, board))
    engine.run(range(4))
    board.close()
    names = sorted(path.name for path in (run.folder / "overlays").iterdir())
    assert names == ["best_p4_ED.png", "median_p3_ED.png", "worst_p1_ED.png"]
    with Image.open(run.folder / "overlays/best_p4_ED.png") as picture:
        height, width = picture.height, picture.width
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert set(events.Tags()["images"]) == {"test/overlay/worst", "test/overlay/median", "test/overlay/best"}
    [event] = events.Images("test/overlay/best")
    assert (event.height, event.width) == (height, width)


@pytest.mark.parametrize("depth", [(), (20,)])
def test_the_first_case_is_shown_under_every_condition(run, source, depth):
    def one(case, **more):
        shape, spacing = (1, 8, 8, *depth), torch.ones(2 + len(depth))
        truth = torch.zeros(shape)
        truth[:, 2:5, 2:5] = 1
        return item(case, image=torch.rand(shape), spacing_mm=spacing, **more), truth, truth

    noisy = [{"degradation": "shot_noise", "severity": n} for n in (1, 5)]
    pairs = [one(case, **more) for more in ({}, *noisy, {"shift_x": -2}) for case in ("p1_ED", "p2_ED")]
    board = TensorBoard(run)
    engine_of(pairs, CaseMetrics(ACDC), Overlays(source, run, board)).run(range(len(pairs)))
    board.close()
    events = EventAccumulator(str(run.folder / "tensorboard"), size_guidance={"images": 0}).Reload()
    examples = {tag: events.Images(tag) for tag in events.Tags()["images"] if "example" in tag}
    steps = {tag: [event.step for event in found] for tag, found in examples.items()}
    assert steps == {"test/shot_noise/example": [0, 1, 5], "test/shift_left/example": [0, 2]}
    assert len({(event.height, event.width) for found in examples.values() for event in found}) == 1  # one slice each


def test_overlays_of_volumes_show_at_most_six_labeled_slices(run, source):
    heights = []
    for filled in (0, 3, 12):
        truth = torch.zeros(1, 8, 8, 20)
        truth[:, 2:5, 2:5, 4 : 4 + filled] = 1
        volume = item(f"p{filled}_ED", image=torch.rand(1, 8, 8, 20), spacing_mm=torch.ones(3))
        pairs = [(volume, truth if filled else truth + 0, truth)]
        engine = engine_of(pairs, CaseMetrics(ACDC), Overlays(source, run))
        engine.run([0])
        found = list((run.folder / "overlays").glob(f"best_p{filled}_ED.png"))
        if filled:
            with Image.open(found[0]) as picture:
                heights.append(picture.height)
        else:
            assert not found  # nothing to measure, so there is no rank
    row = 8 * -(-256 * 3 // 24)
    assert heights[1] - heights[0] == 3 * row


def test_a_disk_that_is_full_is_an_input_error(run, source, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medpos.core.files.os.fsync", full)
    with pytest.raises(InputError, match=r"metrics\.csv: can't be written .*No space left.*make room"):
        engine_of(PAIRS, CaseMetrics(ACDC), ResultTable(run, source, "b")).run([0, 1])
    assert list(run.folder.iterdir()) == []


# --- training --------------------------------------------------------------------------------------------------------


class Trainer:
    """Imitate a trainer with the given Dice values in its validation."""

    def __init__(self, run, values, network=None):
        self.network = network or SmallCNN()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.01)
        self.evaluator = Engine(lambda *_: None)
        self.evaluator.state.key_metric_name = "mean_dice"
        self.evaluator.state.best_metric = self.evaluator.state.best_metric_epoch = -1
        self.engine = Engine(self.step)
        for engine in (self.engine, self.evaluator):
            engine.logger.setLevel(logging.CRITICAL)
        self.engine.state.max_epochs = len(values)
        self.values = values
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, self.validate)
        self.checkpoint = Checkpoint(run, self.network, self.optimizer, self.evaluator)

    def step(self, engine, _):
        with torch.no_grad():
            self.network.score.bias.fill_(float(engine.state.epoch))
        return {"loss": torch.tensor(float(engine.state.iteration))}

    def validate(self, engine):
        value, state = self.values[engine.state.epoch - 1], self.evaluator.state
        state.metrics = {"mean_dice": value, "dice/rv_cavity": value, "hd95_mm/rv_cavity": math.inf}
        if better(value, state.best_metric):
            state.best_metric, state.best_metric_epoch = value, engine.state.epoch

    def run(self):
        self.engine.run([0, 1], max_epochs=len(self.values))
        return self


def saved_epoch(run):
    return float(torch.load(run.folder / "model.pt", weights_only=True)["score.bias"][0])


@pytest.mark.parametrize(
    ("values", "best"), [([0.1, 0.5, 0.3], 2), ([NAN, 0.2, 0.1], 2), ([NAN, NAN], 2), ([0.3, NAN], 1), ([0.0, 0.0], 1)]
)
def test_best_model_is_kept_also_after_a_nan(values, best, run):
    trainer = Trainer(run, values)
    trainer.checkpoint.attach(trainer.engine)
    trainer.run()
    assert saved_epoch(run) == best
    state = torch.load(run.folder / "resume.pt", weights_only=True)
    assert state["epoch"] == len(values)
    assert float(state["network"]["score.bias"][0]) == len(values)
    assert sorted(path.name for path in run.folder.iterdir()) == ["model.pt", "resume.pt"]


def test_scalars_and_log_line(run, caplog):
    caplog.set_level(logging.INFO)
    board = TensorBoard(run)
    trainer = Trainer(run, [0.25, NAN])
    hyper = {"seed": 3, "train_cases": None}
    for handler in (EpochLog(trainer.evaluator), ScalarLog(board, trainer.optimizer, trainer.evaluator, hyper)):
        handler.attach(trainer.engine)
    assert not (run.folder / "tensorboard").exists()  # building writes nothing
    board.close()
    trainer.run()
    board.close()
    [file] = (run.folder / "tensorboard").iterdir()  # no folder of its own for the HPARAMS page
    assert file.is_file()
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(n, n) for n in (1, 2, 3, 4)]
    assert [(event.step, event.value) for event in events.Scalars("loss/training")] == [(1, 1.5), (2, 3.5)]
    assert [(event.step, event.value) for event in events.Scalars("best_mean_dice")] == [(1, 0.25), (2, 0.25)]
    about = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    assert b"best_mean_dice" in about
    assert b"train_cases" in about
    assert [(event.step, event.value) for event in events.Scalars("mean_dice")] == [(1, 0.25)]  # no NaN
    assert "hd95_mm/rv_cavity" not in events.Tags()["scalars"]  # infinite
    assert [event.value for event in events.Scalars("learning_rate")] == pytest.approx([0.01, 0.01])
    assert "epoch 1/2; loss 1.5000; validation Dice 0.250 (rv_cavity 0.250); best 0.250 in epoch 1; " in caplog.text
    assert "epoch 2/2; loss 3.5000; validation Dice missing (rv_cavity missing); best 0.250" in caplog.text


def test_progress_writes_nothing_into_a_file(capfd):
    engine = Engine(lambda *_: None)
    Progress("training").attach(engine)
    engine.run([0, 1])
    assert capfd.readouterr() == ("", "")


def test_load_model(run):
    good = SmallCNN()
    checkpoints.save(good.state_dict(), run.model)
    network = SmallCNN()
    engine = Engine(lambda *_: None)
    LoadModel(run, network).attach(engine)
    assert not torch.equal(network.score.weight, good.score.weight)
    engine.run([0])
    assert torch.equal(network.score.weight, good.score.weight)


def test_load_network_names_the_differences(tmp_path):
    path = Path("x.pt")
    state = SmallCNN().state_dict()
    with pytest.raises(
        InputError, match=r"1 of another shape .first conv1.conv.weight .64, 1, 3, 3. instead of .64, 3"
    ):
        checkpoints.load_network(SmallCNN(in_channels=3), state, path)
    lacking = {key: value for key, value in state.items() if "score" not in key}
    with pytest.raises(InputError, match=r"2 tensors missing .first score.bias"):
        checkpoints.load_network(SmallCNN(), lacking, path)
    with pytest.raises(InputError, match=r"1 unknown .first extra"):
        checkpoints.load_network(SmallCNN(), {**state, "extra": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="of another shape"):
        checkpoints.load_network(SmallCNN(), {**state, "score.bias": 3}, path)


def test_load_network_takes_a_mean_mask_of_any_size_but_not_of_other_classes():
    fitted = MeanMask(4).fit([torch.zeros(5, 7, dtype=torch.long)])
    fresh = MeanMask(4)
    checkpoints.load_network(fresh, fitted.state_dict(), Path("x.pt"))
    assert torch.equal(fresh.probability, fitted.probability)
    with pytest.raises((InputError, RuntimeError)) as info:
        checkpoints.load_network(MeanMask(3), fitted.state_dict(), Path("x.pt"))
    assert info.type is InputError


def test_train_does_not_restart_after_the_last_epoch():
    engine = Engine(lambda *_: pytest.fail("ran"))
    engine.state.epoch = engine.state.max_epochs = 3
    checkpoints.train(engine)


def test_mean_mask_output_can_be_written_to():
    """Multiply in place, as MONAI's sliding window does when it weights a network's output."""
    output = MeanMask(2).fit([torch.zeros(4, 4, dtype=torch.long)])(torch.zeros(3, 1, 4, 4))
    output *= 2
    assert np.ptp(output.numpy(), axis=0).max() == 0
