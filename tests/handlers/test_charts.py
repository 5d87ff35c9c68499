"""Read what is charted in TensorBoard back from its events, and compare the validation loss with its formula."""

import io
import math

import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from torch.nn import functional as F  # noqa: N812
from torch.utils.tensorboard import SummaryWriter

from medpos.core.files import write_json
from medpos.handlers.charts import dice_of_cases, layout, running_mean, write_picture, write_results
from medpos.handlers.validation_loss import ValidationLoss
from medpos.inferers import BackgroundInferer
from medpos.losses import BCEDice, PixelWeightedCrossEntropy, SummedCrossEntropy

NAN = float("nan")


def condition(dice, degradation="none", severity=0, shift="0", ece=None):
    """Make an entry of summary.json with one organ."""
    organs = {"heart": {"dice": {"mean": dice}, "hd95_mm": {"mean": None}}}
    place = {"degradation": degradation, "severity": severity, "shift": shift}
    scores = {"set": {"mean_iou": dice / 2}, "seg": {"mean": dice / 4}}
    entry = {**place, "organs": organs, "mean_foreground_dice": {"mean": dice}, "scores": scores}
    of_set = {"set": {"ece": ece, "mce": None, "brier": None, "nll": None}}
    return entry if ece is None else {**entry, "calibration": {"all classes": of_set}}


CONDITIONS = [
    condition(0.9, ece=0.1),
    condition(0.6, "shot_noise", 5, ece=0.3),
    condition(0.8, "shot_noise", 1, ece=0.2),
    condition(0.5, shift="y-16"),
    condition(0.7, shift="y-8"),
    condition(0.4, shift="x+8 y-8"),
    condition(0.3, "shot_noise", 1, "x+8"),
]


def events_of(folder):
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def points(events, tag):
    return [(event.step, round(event.value, 6)) for event in events.Scalars(tag)]


def test_a_picture_is_read_back_pixel_by_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    with SummaryWriter(str(tmp_path)) as writer:
        for step in (0, 4):
            write_picture(writer, "test/example", Image.fromarray(pixels[:, step:]), step)
    first, last = events_of(tmp_path).Images("test/example")
    assert (first.step, first.height, first.width) == (0, 5, 7)
    assert (last.step, last.height, last.width) == (4, 5, 3)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(first.encoded_image_string))), pixels)


def test_every_condition_is_a_point_of_a_curve_that_begins_with_the_clean_images(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        write_results(writer, "robustness", CONDITIONS, {"dice/heart": [0.8, NAN, 1.0], "dice/lung": [0.5]}, "a\nb")
    events = events_of(tmp_path)
    wanted = {
        "shot_noise/dice/heart": [(0, 0.9), (1, 0.8), (5, 0.6)],
        "shot_noise/mean_dice": [(0, 0.9), (1, 0.8), (5, 0.6)],
        "shot_noise/mean_iou": [(0, 0.45), (1, 0.4), (5, 0.3)],
        "shot_noise/seg": [(0, 0.225), (1, 0.2), (5, 0.15)],
        "shot_noise/ece/all_classes": [(0, 0.1), (1, 0.2), (5, 0.3)],
        "shift_up/dice/heart": [(0, 0.9), (8, 0.7), (16, 0.5)],
        "shift_right_shift_up/mean_dice": [(0, 0.9), (8, 0.4)],
        "shot_noise_x+8/mean_dice": [(0, 0.9), (1, 0.3)],
        "dice/heart": [(1, 0.8), (2, 0.9)],  # the mean over the first n cases that were measured
    }
    tags = set(events.Tags()["scalars"])
    for tag, curve in wanted.items():
        assert points(events, f"robustness/{tag}") == curve, tag
    # No chart of a single point, and none of what was infinite or missing.
    assert all(len(events.Scalars(tag)) > 1 for tag in tags)
    assert not [tag for tag in tags if "hd95" in tag or "mce" in tag or "lung" in tag]
    [text] = events.Tensors("robustness/results/text_summary")
    assert text.tensor_proto.string_val[0] == b"    a\n    b"


def test_the_layout_has_a_chart_of_all_organs_for_every_finished_evaluation(tmp_path):
    write_json(tmp_path / "summary.json", {"conditions": CONDITIONS[:1]})
    for name in ("shift", "until_epoch_5", "robustness"):
        (tmp_path / name).mkdir()
    write_json(tmp_path / "shift/summary.json", {"conditions": [CONDITIONS[0], CONDITIONS[3]]})
    write_json(tmp_path / "until_epoch_5/summary.json", {"conditions": CONDITIONS[:1]})
    found = layout(tmp_path, "robustness", CONDITIONS[:3])
    assert list(found) == ["training", "test", "robustness", "shift"]
    assert list(found["training"]) == ["loss", "validation: Dice", "validation: HD95 mm"]
    assert found["robustness"]["shot noise: Dice"] == ["Multiline", ["^robustness/shot_noise/dice/"]]
    assert {"shift up: Dice", "shift up: ECE"} <= set(found["shift"])
    assert "shot noise: ECE" in found["robustness"]
    with SummaryWriter(str(tmp_path / "events")) as writer:
        writer.add_custom_scalars(found)
    [event] = events_of(tmp_path / "events").Tensors("custom_scalars__config__")
    read = Layout.FromString(event.tensor_proto.string_val[0])
    assert [category.title for category in read.category] == list(found)


def test_running_means_leave_missing_values_out():
    assert running_mean([NAN, 1.0, math.inf, 0.5]) == [1.0, 0.75]
    rows = [
        {"case": case, "organ": organ, "dice": dice, "degradation": "none", "severity": severity, "shift": "0"}
        for case, organ, dice, severity in [
            ("a", "heart", 1.0, 0),
            ("a", "lung", 0.5, 0),
            ("b", "heart", NAN, 0),
            ("b", "lung", 0.7, 0),
            ("a", "heart", 0.1, 3),
        ]
    ]
    assert dice_of_cases(rows) == {"mean_dice": [0.75, 0.7], "dice/heart": [1.0], "dice/lung": [0.5, 0.7]}


# --- validation loss -------------------------------------------------------------------------------------------------


def measured(loss, batches, inferer=None):
    """Measure the loss of a network that returns its input as logits."""
    loader = [{"image": logits, "label": label} for logits, label in batches]
    network, passes = torch.nn.Identity(), []
    network.register_forward_hook(lambda *_: passes.append(1))
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=loader, network=network, inferer=inferer, decollate=False
    )
    ValidationLoss(loss).attach(evaluator)
    for epoch in (1, 2):  # the second one starts anew
        evaluator.run(epoch)
    assert len(passes) == 2 * len(batches)  # no forward pass of its own
    return evaluator.state.metrics.get("loss/validation")


def batches_of(shape, classes=3, sizes=(2, 1)):
    draw = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn((size, classes, *shape), generator=draw),
            torch.randint(max(classes, 2), (size, 1, *shape), generator=draw, dtype=torch.uint8),
        )
        for size in sizes
    ]


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 4)])
def test_the_validation_loss_is_that_of_all_images_together(shape):
    batches = batches_of(shape)
    logits, label = (torch.cat(part) for part in zip(*batches, strict=True))
    wanted = F.cross_entropy(logits, label[:, 0].long())
    assert measured(torch.nn.CrossEntropyLoss(), batches) == pytest.approx(float(wanted), rel=1e-6)
    summed = measured(SummedCrossEntropy(), batches)  # of an image or a slice
    assert summed == pytest.approx(30 * float(wanted), rel=1e-6)


def test_a_background_that_the_inferer_adds_is_taken_out_again():
    # One class: the logit of the foreground; several: the classes from 1, numbered from 0 in the training.
    batches = batches_of((5, 6), classes=1, sizes=(3,))
    [(logits, label)] = batches
    wanted = BCEDice()(logits, label[:, 0].long())
    assert measured(BCEDice(), batches, BackgroundInferer(SimpleInferer())) == pytest.approx(float(wanted), rel=1e-6)
    batches = batches_of((5, 6), classes=3, sizes=(3,))
    [(logits, label)] = batches
    shifted = torch.where(label[:, 0] > 0, label[:, 0].long() - 1, 255)
    wanted = F.cross_entropy(logits, shifted, ignore_index=255)
    found = measured(torch.nn.CrossEntropyLoss(ignore_index=255), batches, BackgroundInferer(SimpleInferer()))
    assert found == pytest.approx(float(wanted), rel=1e-6)


def test_classes_of_whole_images_have_a_loss_too():
    draw = torch.Generator().manual_seed(1)
    batch = torch.randn((4, 3), generator=draw), torch.tensor([0, 2, 1, 1])
    assert measured(torch.nn.CrossEntropyLoss(), [batch]) == pytest.approx(float(F.cross_entropy(*batch)), rel=1e-6)


def test_a_loss_that_needs_more_than_label_maps_is_left_out_with_its_reason(caplog):
    caplog.set_level("INFO")
    assert measured(PixelWeightedCrossEntropy(), batches_of((5, 6))) is None
    assert caplog.text.count("no validation loss: PixelWeightedCrossEntropy can't be computed on whole images") == 1
