"""Train the other papers' bundles on their phantoms, and check their run folders and recipes."""

import csv
import json

import numpy as np
import pytest
import torch
from monai.data import set_track_meta
from running import CRF, SECONDARY, at, kept_state, leave_to_torture, parser, run_here, targets
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medpos.data.folder import DataFolder
from medpos.networks import FCN32s
from medpos.runs.cases import load_cases

# Narrow networks and few patches, so that two epochs and the test take seconds.
SMALL = {
    "jsrt_patch": {"image_size": 40, "patches_per_epoch": 64, "batch_size": 16},
    "nuclei": {"image_size": 48, "network_def#width": 0.125, "batch_size": 2},
    "polyp": {"image_size": 48, "network_def#width": 0.125, "batch_size": 2},
    "liver": {"image_size": 48, "network_def#width": 0.125, "batch_size": 8},
    "nodule": {"image_size": 32, "network_def#width": 0.125},
    "nuclei_unet2015": {"image_size": 284, "network_def#width": 0.0625},
    "cells": {"image_size": 284, "network_def#width": 0.0625},
    "brain": {"network_def#width": 0.125, "patch_step": 30, "patches_per_epoch": 16},
    "brain_fuzzy_c_means": {},
    "brain_segnet": {"network_def#width": 0.0625, "batch_size": 2, "slices_per_epoch": 4},
    "camvid": {"network_def#width": 0.0625, "batch_size": 1},
    "sunrgbd": {"network_def#width": 0.0625, "batch_size": 1, "steps#resize#spatial_size": [256, 200]},
    "retina": {"network_def#width": 0.125, "crops_per_image": 2},
    "voc": {"network_def#width": 0.0625, "batch_size": 2, "image_size": 65},
    "voc_fcn": {"network_def#width": 0.0625, "image_size": 65},
    "voc_sunet": {"network_def#width": 0.0625, "batch_size": 2, "image_size": 64, "short_side": 64},
    "voc_dilated": {"network_def#width": 0.0625, "batch_size": 2, "image_size": 64, "short_side": 64, "variant": 18},
    "context": {"network_def#width": 0.0625, "image_size": 65, "window": 129, "scales": [1.0], "crf_iterations": 1},
    "parts": {"network_def#width": 0.0625, "batch_size": 2, "image_size": 65, "window": 129, "scales": [1.0]},
    "cityscapes": {"network_def#width": 0.0625, "batch_size": 2, "image_size": 65},
    "cityscapes_sunet": {"network_def#width": 0.0625, "batch_size": 2, "image_size": 64, "short_side": 32},
}
FILES = {"config.json", "environment.json", "data.json", "log.txt", "model.pt", "resume.pt", "metrics.csv"}
FILES |= {"confusion.csv", "calibration.csv", "reliability.csv", "temperatures.json", "temperature_scaling.csv"}
FILES |= {"summary.json", "cases.npz", "overlays", "tensorboard", "training_cases.csv"}
OBJECTS = ["seg", "pixel_error", "adapted_rand_error", "objects_true", "objects_predicted"]
OBJECTS += ["box_iou", "box_precision", "box_recall", "box_f1"]
SCORES = {
    "nuclei": OBJECTS,
    "cells": OBJECTS,
    "brain": [],
    "camvid": ["boundary_f1"],
}
OF_CLASSES = {"global_accuracy", "class_accuracy", "mean_iou", "frequency_weighted_iou"}
OF_SET = {
    "nuclei": {"seg_all_objects", "box_f1_all_objects"},
    "cells": {"seg_all_objects", "box_f1_all_objects"},
    "brain": {"weighted_dice"},
    "camvid": set(),
}
SCORES |= dict.fromkeys(("voc", "context", "parts", "cityscapes", "sunrgbd"), SCORES["camvid"])
OF_SET |= dict.fromkeys(("voc", "context", "parts", "cityscapes", "sunrgbd"), OF_SET["camvid"])
TRIMAP = {f"trimap_{score}_{width}px" for score in ("iou", "accuracy") for width in (1, 5, 10, 20, 40)}


def settings(name, secondary, tmp_path):
    small = SMALL[max((part for part in SMALL if name.startswith(part)), key=len)]
    folders = {"dataset_dir": str(secondary[name.split("_")[0]]), "runs_dir": str(tmp_path / "runs")}
    return {**folders, **small, **(CRF if "deeplab" in name else {})}


# Of each kind of network one bundle is trained in make test, the others in make torture.
OTHERS = {name for name in SECONDARY if name.startswith("cityscapes") or name in ("voc_sunet128", "voc_sunet7_128")}
OTHERS |= {"sunrgbd_segnet", "sunrgbd_deconvnet", "sunrgbd_deeplab_largefov"}
OTHERS |= {"voc_fcn32s_fixed", "voc_fcn16s", "voc_fcn8s_at_once", "cells_unet2015", "nuclei_wide_unet"}
OTHERS |= {"polyp_unet", "nodule_unet", "liver_unet", "brain_unet", "voc_fcn32s", "sunrgbd_fcn", "camvid_fcn"}
OTHERS |= {"camvid_deeplab_largefov", "voc_deeplab_largefov", "context_deeplab_resnet101", "parts_deeplab_resnet101"}
OTHERS |= {"retina_unet", "camvid_deconvnet", "voc_deeplab_resnet101"}
OTHERS |= {"brain_segnet", "camvid_segnet", "camvid_segnet_basic"}  # the latter is trained below


@pytest.mark.parametrize("name", leave_to_torture(SECONDARY, OTHERS))
def test_two_epochs_give_a_complete_run_folder(name, secondary, tmp_path):
    kind = name.split("_")[0]
    run = run_here(name, run_name="a", max_epochs=2, **settings(name, secondary, tmp_path))
    source = DataFolder(secondary[kind])
    has_lights = len(source.cases("training")) > 1
    optional = {"scores.csv": kind in SCORES, "subgroups.csv": kind == "nuclei", "detectors.npz": has_lights}
    assert {path.name for path in run.iterdir()} == FILES | {name for name, is_there in optional.items() if is_there}
    organs = [label.name for label in source.labels[1:]]
    cases = [case["case"] for case in source.cases("test")]
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [(row["case"], row["organ"]) for row in rows] == [(case, organ) for case in cases for organ in organs]
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["bundle"], summary["phantom"], summary["cases"]) == (name, True, len(cases))
    check_scores(run, kind, summary)
    check_confusion(run, source, summary["conditions"][0])
    weights = torch.load(run / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in weights.values())
    log = (run / "log.txt").read_text()
    assert "epoch 2/2" in log
    assert "PHANTOM DATA" in log
    assert ("the run has no lights" in log) == (not has_lights)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    learns = name != "brain_fuzzy_c_means"  # by gradients
    assert {"mean_dice", *(("loss", "learning_rate") if learns else ())} <= scalars
    assert {f"dice/{organ}" for organ in organs} & scalars  # few phantom photographs have every class
    assert {f"overlay/{rank}" for rank in ("worst", "median", "best")} <= set(events.Tags()["images"])
    losses = [event.value for event in events.Scalars("loss")] if learns else []
    assert np.isfinite(losses).all()


def check_confusion(run, source, condition):
    """Count the confusions again from the saved cases, and compute the scores of CamVid's void, and of road, anew."""
    names = [label.name for label in source.labels]
    maps = [(case.truth.ravel(), case.prediction.ravel()) for case in load_cases(run / "cases.npz")]
    truth, prediction = (np.concatenate(part) for part in zip(*maps, strict=True))
    counted = (truth != 255) & ((truth > 0) | (names[0] != "void"))
    wanted = np.zeros((len(names), len(names)), int)
    np.add.at(wanted, (truth[counted], prediction[counted]), 1)
    rows = list(csv.DictReader((run / "confusion.csv").open()))
    assert [(row["true"], row["predicted"]) for row in rows] == [(true, found) for true in names for found in names]
    assert [int(row["pixels"]) for row in rows] == wanted.ravel().tolist()
    assert list(condition["classes"]) == [name for name in names if name != "void"]
    ious = [found["iou"] for found in condition["classes"].values() if found["iou"] is not None]
    assert condition["scores"]["set"]["mean_iou"] == pytest.approx(np.mean(ious))
    assert condition["scores"]["set"]["global_accuracy"] == pytest.approx(np.trace(wanted) / wanted.sum())


def check_scores(run, kind, summary):
    [condition] = summary["conditions"]
    if kind not in SCORES:
        assert condition["scores"].keys() == {"set"}
        return
    with (run / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == summary["cases"]
    assert [name for name in rows[0] if name in condition["scores"]] == SCORES[kind]
    assert set(condition["scores"]) - {"set"} == set(SCORES[kind])
    assert set(condition["scores"]["set"]) == OF_SET[kind] | OF_CLASSES | (
        TRIMAP if "deeplab" in summary["bundle"] else set()
    )


# The essential values of each system, by their paths in the bundle.
UNETPP = {
    "lr": 0.0003,
    "image_size": 96,
    "train::optimizer::_target_": "medpos.optim.adam",
    "train::optimizer::weight_decay": 0.0001,
    "train::loss::_target_": "medpos.losses.BCEDice",
    "inferer::_target_": "medpos.inferers.BackgroundInferer",
    "network_def::out_channels": 1,
}
# The paper's further data, and its two kinds of networks.
VOLUMES = {"inferer::inferer::inferer::_target_": "SliceInferer", "dataloader::batch_size": 1}
LATER_DATA = {
    "polyp": {"image_size": 224, "network_def::in_channels": 3},
    "liver": {**VOLUMES, "image_size": 512, "window_hu": [-200, 250], "spacing_mm": None},
    "nodule": {**VOLUMES, "image_size": 64, "window_hu": [-1000, 400]},
}
KINDS = {
    "unetpp": {
        "deep_supervision": False,
        "network_def::deep_supervision": "@deep_supervision",
        "network_def::_target_": "medpos.networks.UNetPlusPlus",
        "train::loss::_target_": "medpos.losses.DeepSupervision",
        "train::loss::loss::_target_": "medpos.losses.BCEDice",
    },
    "unet": {"wide": False, "network_def::wide": "@wide", "network_def::_target_": "medpos.networks.PlainUNet"},
}
UNET2015 = {
    "batch_size": 1,
    "rotations": 1,
    "network_def::_target_": "medpos.networks.UNet2015",
    "train::optimizer::_target_": "torch.optim.SGD",
    "train::optimizer::momentum": 0.99,
    "train::loss::_target_": "medpos.losses.PixelWeightedCrossEntropy",
    "train::loss::class_weights": "@class_weights",
    "class_weights": "$losses.inverse_frequency(@train::dataset.class_counts(2))",
    "inferer::_target_": "medpos.inferers.RotationMeanInferer",
    "inferer::inferer::inferer::_target_": "medpos.inferers.OverlapTileInferer",
}
BRAIN = {
    "train::dataset::_target_": "medpos.data.Patches",
    "train::slices::neighbours": 1,
    "patch_step": 10,
    "phantom::values": {"patch_step": 40, "patches_per_epoch": 640, "max_epochs": 2},
    "batch_size": 64,
    "momentum": 0.9,
    "weight_decay": 0.0001,
    "inferer::inferer::_target_": "medpos.inferers.VotingInferer",
    "inferer::inferer::neighbours": 1,
    "scores::_target_": "medpos.metrics.WeightedDice",
}
CAMVID = {
    "train::loss::ignore_index": 255,
    "train::loss::weight": "@class_weights",
    "network_def::out_channels": 11,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "scores::_target_": "medpos.metrics.ClassScores",
}
# SegNet's comparison: one rate for all, in iterations.
BENCHMARK = {key: value for key, value in CAMVID.items() if not key.startswith("train::loss")}
BENCHMARK |= {"lr": 0.001, "batch_size": 5, "publisher": "torchvision"}
UNBALANCED = {"class_balancing": False, "train::loss::ignore_index": 255, "train::loss::weight": "@class_weights"}
REESTIMATED = {
    **UNBALANCED,
    "validate::handlers::-1::_target_": "medpos.handlers.ReestimateStatistics",
    "network_def::dropout": 0.5,
}
COMPARED = {
    "segnet": {**REESTIMATED, "iterations": 140_000, "network_def::_target_": "medpos.networks.SegNet"},
    "deconvnet": {**REESTIMATED, "iterations": 260_000, "network_def::_target_": "medpos.networks.DeconvNet"},
    "fcn": {
        **UNBALANCED,
        "iterations": 200_000,
        "upsampling": "frozen",
        "network_def::upsampling": "@upsampling",
        "network_def::_target_": "medpos.networks.FCN8s",
    },
    "deeplab_largefov": {
        "iterations": 140_000,
        "network_def::_target_": "medpos.networks.DeepLabVGG",
        "network_def::head": "large_fov",
        "train::loss": {"_target_": "medpos.losses.ScoreCrossEntropy"},
        "steps::pad::size": [481, 361],
        "inferer::_target_": "medpos.inferers.CRFInferer",
        "inferer::inferer::_target_": "medpos.inferers.BackgroundInferer",
    },
}
FCN = {
    "iterations": 100_000,
    "batch_size": 1,
    "momentum": 0.99,
    "weight_decay": 0.0005,
    "publisher": "$'caffe' if @weights or @transplant else 'torchvision'",
    "upsampling": "frozen",
    "network_def::upsampling": "@upsampling",
    "train::loss": {"_target_": "medpos.losses.SummedCrossEntropy", "keep": 1.0},
    "train::optimizer::params::factors": {"bias$": [2, 0]},
    "train::optimizer::params::_target_": "medpos.optim.parameter_groups",
    "scores::_target_": "medpos.metrics.ClassScores",
    "initialize::-1": "$pretrained.begin(@network_def, @weights, @transplant, @publisher)",
}
DEEPLAB = {
    "iterations": 20_000,
    "batch_size": 10,
    "phantom::values": {"max_epochs": 2, "batch_size": 2},
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "image_size": 321,
    "window": 513,
    "train::loss::_target_": "medpos.losses.ScoreCrossEntropy",
    "steps::zoom::min_zoom": 0.5,
    "steps::zoom::max_zoom": 1.5,
    "train::schedule::_target_": "medpos.optim.schedules.poly",
    "train::handlers::-1::_target_": "medpos.handlers.LearningRate",
    "factors": {"fc8.*bias$": [20, 0], "fc8": [10, 1], "bias$": [2, 0]},
    "train::optimizer::params::factors": "@factors",
}
ASPP = {
    **DEEPLAB,
    "head": "aspp_l",
    "lr": 0.001,
    "scales": [1.0],
    "publisher": "$'caffe' if @weights or @transplant else 'torchvision'",
}
LARGE_FOV = {**DEEPLAB, "head": "large_fov", "lr": 0.001, "scales": [1.0]}
RESNET = {
    **DEEPLAB,
    "head": "aspp_l",
    "lr": 0.00025,
    "scales": [0.5, 0.75, 1.0],
    "publisher": "torchvision",
    "network_def::_target_": "medpos.networks.DeepLabResNet",
    "network_def::frozen_norms": "$bool(@weights or @transplant)",
    "factors": {"heads.*bias$": [20, 0], "heads": [10, 1]},
}
SUNET = {
    "lr": 0.0002,
    "iterations": 45_000,
    "batch_size": 22,
    "phantom::values": {"max_epochs": 2, "batch_size": 2},
    "momentum": 0.95,
    "weight_decay": 0.0001,
    "image_size": 512,
    "output_stride": 16,
    "publisher": "torchvision",
    "network_def::freeze_bn": "@freeze_bn",
    "network_def::degridding": "@degridding",
    "network_def::strided": "@strided",
    "network_def::depth": "@depth",
    "network_def::dense": "@dense",
    "depth": 2,
    "dense": False,
    "train::loss::_target_": "torch.nn.CrossEntropyLoss",
    "train::loss::ignore_index": 255,
    "train::schedule::_target_": "medpos.optim.schedules.cosine",
    "train::handlers::-1::_target_": "medpos.handlers.LearningRate",
    "steps::zoom::max_zoom": 2.0,
    "train::optimizer::params::factors": {"^final.conv.*bias$": [20, 1], "^final": [10, 1]},
    "inferer::inferer::_target_": "medpos.inferers.MultiScaleInferer",
    "scales": [0.5, 0.75, 1.0, 1.25],
    "flip": True,
}
OF_SUNET = ("degridding", "strided", "depth", "dense")
RECIPES = {
    "jsrt_patch": {
        "image_size": 128,
        "patches_per_epoch": 8192,
        "resample": True,
        "mean_image": False,
        "heat_maps": "stitched",
        "network_def::_target_": "medpos.networks.lecture.PatchClassifier",
        "train::dataset::_target_": "medpos.data.CenterPatches",
        "inferer::inferer::_target_": "medpos.inferers.HeatMapInferer",
    },
    "nuclei_unetpp": UNETPP,
    "nuclei_unetpp_ds": {
        **UNETPP,
        "train::loss::_target_": "medpos.losses.DeepSupervision",
        "train::loss::loss::_target_": "medpos.losses.BCEDice",
        "network_def::deep_supervision": True,
        "supervision_mode": "accurate",
    },
    **{f"{data}_{kind}": {**UNETPP, **own, **more} for data, own in LATER_DATA.items() for kind, more in KINDS.items()},
    "nuclei_unet": {**UNETPP, "network_def::_target_": "medpos.networks.PlainUNet"},
    "nuclei_wide_unet": {**UNETPP, "network_def::wide": True},
    "nuclei_unet2015": UNET2015,
    "cells_unet2015": UNET2015,
    "brain_usegnet": {**BRAIN, "image_size": 40, "skips": 1, "network_def::_target_": "medpos.networks.USegNet"},
    "brain_unet": {**BRAIN, "image_size": 48},
    "brain_fuzzy_c_means": {
        "fuzziness": 2.0,
        "network_def::_target_": "medpos.networks.encoder_decoder.fuzzy_c_means.FuzzyCMeans",
        "train::trainer::iteration_update": "$fuzzy_c_means.add_tissues",
        "inferer::_target_": "SimpleInferer",
    },
    "brain_segnet": {
        "network_def::_target_": "medpos.networks.SegNet",
        "network_def::dropout": 0.5,
        "validate::handlers::-1::_target_": "medpos.handlers.ReestimateStatistics",
    },
    **{
        f"{data}_{network}": {**BENCHMARK, **classes, **own}
        for data, classes in (("camvid", {}), ("sunrgbd", {"network_def::out_channels": 37, "batch_size": 4}))
        for network, own in COMPARED.items()
    },
    "camvid_segnet_basic": {
        **CAMVID,
        "lr": 0.1,
        "batch_size": 12,
        "class_balancing": True,
        "validate::key_metric::global_accuracy::_target_": "medpos.handlers.Scores",
    },
    "retina_unet": {
        "lr": 0.01,
        "image_size": 64,
        "stride": 42,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "train::loss::_target_": "medpos.losses.AuxiliaryLoss",
        "train::schedule::_target_": "medpos.optim.schedules.poly",
        "train::schedule::floor": 0.0001,
        "train::handlers::-1::_target_": "medpos.handlers.LearningRate",
        "inferer::inferer::_target_": "SlidingWindowInferer",
        "inferer::inferer::overlap": "$1 - @stride / @image_size",
    },
    "voc_fcn32s": {**FCN, "lr": 1e-10, "network_def::_target_": "medpos.networks.FCN32s"},
    "voc_fcn32s_fixed": {
        **FCN,
        "lr": 1e-10,
        "network_def::_target_": "medpos.networks.FCN32s",
        "initialize::-1": "$networks.freeze_all_but(@network_def, ['score_fr'])",
        "initialize::-2": "$pretrained.begin(@network_def, @weights, @transplant, @publisher)",
    },
    "voc_fcn16s": {**FCN, "lr": 1e-12, "network_def::_target_": "medpos.networks.FCN16s"},
    "voc_fcn8s": {**FCN, "lr": 1e-14, "network_def::_target_": "medpos.networks.FCN8s"},
    "voc_fcn8s_at_once": {**FCN, "lr": 1e-10, "iterations": 300_000, "network_def::at_once": True},
    "voc_fcn_googlenet": {**FCN, "lr": 1e-10, "network_def::_target_": "medpos.networks.FCNGoogLeNet"},
    "voc_fcn_alexnet": {
        **FCN,
        "lr": 0.0001,
        "momentum": 0.9,
        "iterations": 2_000_000,
        "network_def::_target_": "medpos.networks.FCNAlexNet",
        "train::loss": {"_target_": "torch.nn.CrossEntropyLoss", "ignore_index": 255},
        "train::trainer::accumulation_steps": 20,
        "train::optimizer::params::factors": {"^score_fr.bias": [2, 0]},
    },
    "voc_deeplab_largefov": LARGE_FOV,
    "voc_deeplab_aspp": ASPP,
    "voc_deeplab_resnet101": RESNET,
    "context_deeplab_resnet101": {**RESNET, "classes": 60},
    "parts_deeplab_resnet101": {**RESNET, "classes": 7, "head": "1x1"},
    "cityscapes_deeplab_largefov": {**LARGE_FOV, "classes": 19},
    "cityscapes_deeplab_aspp": {**ASPP, "classes": 19},
    "cityscapes_deeplab_resnet101": {**RESNET, "classes": 19},
    "voc_dilated_resnet": {
        **{key: value for key, value in SUNET.items() if key.rpartition("::")[2] not in OF_SUNET},
        "network_def::_target_": "medpos.networks.DilatedResNet",
        "network_def::depth": "$int(@variant)",
        "network_def::output_stride": "@output_stride",
        "variant": 101,
    },
    "voc_sunet64": {**SUNET, "variant": "64"},
    "voc_sunet128": {**SUNET, "variant": "128"},
    "voc_sunet7_128": {**SUNET, "variant": "7-128"},
    "cityscapes_sunet": {
        **SUNET,
        "variant": "7-128",
        "classes": 19,
        "iterations": 90_000,
        "scales": [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5],
        "phantom::values": {"max_epochs": 2, "batch_size": 2, "scales": [0.5, 1.0]},
    },
}


# What happens to an image in training, by the first part of a name.
TO_CLASSES = ["SqueezeDimd", "CastToTyped"]
TRAINING = {
    "jsrt_patch": ["@standardise", *TO_CLASSES],
    **{data: ["@standardise", *TO_CLASSES] for data in ("nuclei", "polyp", "liver", "nodule")},
    "brain": ["@standardise", *TO_CLASSES],
    "camvid": ["@standardise", "medpos.transforms.IgnoreVoid", *TO_CLASSES],
    "voc_fcn": ["@standardise", *TO_CLASSES],
}
PADDED = ["@standardise", "medpos.transforms.IgnoreVoid", "medpos.transforms.RandCropWithClassCap", *TO_CLASSES]
TRAINING |= {"sunrgbd": TRAINING["camvid"], "camvid_deeplab": PADDED, "sunrgbd_deeplab": PADDED}
TRAINING["nuclei_unet2015"] = TRAINING["cells"] = [
    "@standardise",
    "medpos.transforms.RandElastic",
    "RandAffined",
    "RandShiftIntensityd",
    "RandScaleIntensityd",
    "medpos.transforms.RandomTile",
    "ConcatItemsd",
]
TRAINING["retina"] = [
    "RandZoomd",
    "medpos.transforms.RandCropWithClassCap",
    "RandFlipd",
    "medpos.transforms.PhotometricDistortion",
    "@standardise",
    *TO_CLASSES,
]
TRAINING["voc_deeplab"] = TRAINING["cityscapes_deeplab"] = TRAINING["context"] = TRAINING["parts"] = [
    "RandZoomd",
    "@standardise",
    "medpos.transforms.RandCropWithClassCap",
    "RandFlipd",
    *TO_CLASSES,
]
TRAINING["voc_sunet"] = TRAINING["cityscapes_sunet"] = TRAINING["voc_dilated"] = [
    "RandZoomd",
    "SpatialPadd",
    "SpatialPadd",
    "RandSpatialCropd",
    "RandFlipd",
    "ShiftIntensityd",
    "RandRotated",
    "ShiftIntensityd",
    "ThresholdIntensityd",
    "ThresholdIntensityd",
    "@standardise",
    *TO_CLASSES,
]


SCENES = (
    "voc",
    "context",
    "parts",
    "cityscapes",
    "sunrgbd",
    *(f"camvid_{network}" for network in ("segnet", "fcn", "deeplab", "deconvnet")),
)


@pytest.mark.parametrize("name", [n for n in SECONDARY if n.startswith(SCENES) and n != "camvid_segnet_basic"])
def test_scenes_keep_the_model_of_the_best_mean_iou(name):
    config = parser(name).get()
    [(metric, made)] = config["validate"]["key_metric"].items()
    assert (metric, made["_target_"], made["scores"]) == ("mean_iou", "medpos.handlers.Scores", ["@scores"])
    assert set(config["validate"]["evaluator"]["additional_metrics"]) == {"mean_dice"}


@pytest.mark.parametrize("name", SECONDARY)
def test_the_recipe_is_complete(name):
    config = parser(name).get()
    assert {path: at(config, path) for path in RECIPES[name]} == RECIPES[name]
    kind = max((part for part in TRAINING if name.startswith(part)), key=len)
    assert targets(config, "train::preprocessing") == TRAINING[kind]
    assert ("medpos.transforms.BorderWeight" in targets(config, "decode")) == name.endswith("2015")
    assert ("medpos.transforms.ClearUnlabeled" in targets(config, "postprocessing")) == name.startswith(
        ("camvid", "sunrgbd")
    )


def built(name, secondary, tmp_path, key, **overrides):
    with kept_state():
        set_track_meta(False)
        return parser(name, **{**settings(name, secondary, tmp_path), **overrides}).get_parsed_content(key)


def test_a_tile_of_unet_2015_has_classes_and_weights(secondary, tmp_path):
    dataset = built("nuclei_unet2015", secondary, tmp_path, "train::dataset")
    item = dataset[0]
    assert item["image"].shape == (1, 284, 284)
    assert item["label"].shape == (2, 100, 100)
    assert set(item["label"][0].unique().tolist()) <= {0.0, 1.0}
    assert max(float(dataset[n]["label"][1].max()) for n in range(len(dataset))) > 1  # between touching nuclei
    dataset.epoch = 1
    assert not torch.equal(dataset[0]["image"], item["image"])


def test_balancing_of_camvid_counts_classes_without_void(secondary, tmp_path):
    weights = built("camvid_segnet_basic", secondary, tmp_path, "class_weights")
    assert weights.shape == (11,)
    assert weights[0] < weights[2]  # there is more sky than poles
    assert built("camvid_segnet", secondary, tmp_path, "class_weights") is None
    label = built("camvid_segnet", secondary, tmp_path, "train::dataset")[0]["label"]
    assert int(label.max()) == 255
    assert int(label[label < 255].max()) <= 10


def test_segnet_basic_keeps_the_model_of_the_best_global_accuracy(secondary, tmp_path):
    name = "camvid_segnet_basic"
    run = run_here(name, run_name="a", max_epochs=3, **settings(name, secondary, tmp_path))
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    accuracies = [event.value for event in events.Scalars("global_accuracy")]
    state = torch.load(run / "resume.pt", weights_only=True)
    assert state["best_metric_epoch"] == 1 + int(np.argmax(accuracies))
    assert state["best_metric"] == pytest.approx(max(accuracies), abs=1e-6)


def test_the_schedule_of_the_retina_ends_at_its_floor(secondary, tmp_path):
    name, key = "retina_unet", "train::schedule"
    schedule = built(name, secondary, tmp_path, key, max_epochs=3, batch_size=2)
    loader = built(name, secondary, tmp_path, "train::dataloader", batch_size=2)
    assert schedule(0.01, 0) == pytest.approx(0.01)
    assert schedule(0.01, 3 * len(loader)) == pytest.approx(0.0001)


@pytest.mark.parametrize("name", ["nuclei_unetpp_ds", "liver_unetpp"])
def test_pruning_levels_of_a_trained_run(secondary, tmp_path, name):
    small = settings(name, secondary, tmp_path)
    small |= {} if name.endswith("ds") else {"deep_supervision": True}
    run = run_here(name, run_name="a", max_epochs=1, **small)
    run_here(name, entry="prune", run_name="a", **small)
    with (run / "prune/pruning.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["level"] for row in rows] == ["1", "2", "3", "4"]
    parameters = [int(row["parameters"]) for row in rows]
    assert parameters == sorted(set(parameters))
    assert all(0 <= float(row["iou"]) <= 1 for row in rows)
    assert float(rows[3]["ratio"]) == 1
    assert json.loads((run / "prune/summary.json").read_text())["phantom"] is True
    assert "pruning levels" in (run / "log.txt").read_text()


def test_fcn32s_fixed_learns_its_last_layer_alone(secondary, tmp_path):
    """Train it from the weights of another network: the trunk stays, the scores change."""
    small = settings("voc_fcn32s_fixed", secondary, tmp_path)
    torch.manual_seed(5)
    donor = FCN32s(3, 21, width=small["network_def#width"])
    torch.save(donor.state_dict(), tmp_path / "donor.pt")
    options = {"transplant": str(tmp_path / "donor.pt"), "lr": 1e-4, "max_epochs": 1}
    run = run_here("voc_fcn32s_fixed", run_name="a", **small, **options)
    weights = torch.load(run / "model.pt", weights_only=True)
    changed = {name for name, before in donor.state_dict().items() if not torch.equal(weights[name], before)}
    assert changed == {"score_fr.weight", "score_fr.bias"}
    optimizer = torch.load(run / "resume.pt", weights_only=True)["optimizer"]
    assert [(group["lr"], group["weight_decay"]) for group in optimizer["param_groups"]] == [(2e-4, 0), (1e-4, 5e-4)]


@pytest.fixture(scope="module")
def patch_run(secondary, tmp_path_factory):
    """Train the classifier of patches for a few steps, with the mean image."""
    small = settings("jsrt_patch", secondary, tmp_path_factory.mktemp("patch")) | {"mean_image": True}
    return run_here("jsrt_patch", run_name="a", max_epochs=1, **small), small


@pytest.mark.parametrize(("entry", "ways"), [("heatmap", 1), ("stitch", 2)])
def test_class_heat_maps_of_a_trained_run(entry, ways, patch_run):
    run, small = patch_run
    run_here("jsrt_patch", entry=entry, run_name="a", **small)
    with (run / entry / "heat_maps.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == ways
    assert {row["side"] for row in rows} == {"10" if entry == "heatmap" else "40"}  # every fourth of 40 px, or each
    assert all(float(row["difference"]) < 1e-4 for row in rows)
    assert all(0 <= float(row["iou"]) <= 1 for row in rows)
    assert json.loads((run / entry / "summary.json").read_text())["phantom"] is True
    cases = {case["case"] for case in DataFolder(small["dataset_dir"]).cases("test")}
    assert {path.stem for path in (run / entry / "heat_maps").iterdir()} == cases


def test_the_mean_image_is_that_of_the_training_and_belongs_to_the_model(patch_run):
    """Compute it anew from the decoded training images, and evaluate with it in a process that hasn't trained."""
    run, small = patch_run
    mean = torch.load(run / "model.pt", weights_only=True)["mean_image.values"]
    with kept_state():
        images = parser("jsrt_patch", **{**small, "mean_image": False}).get_parsed_content("train::images")
        wanted = torch.stack([images[n]["image"] for n in range(len(images))]).mean(0)
    torch.testing.assert_close(mean, wanted, rtol=0, atol=1e-5)
    assert mean.std() > 0.1
    run_here("jsrt_patch", entry="evaluate", run_name="a", **small)
    assert (run / "evaluate/metrics.csv").read_text() == (run / "metrics.csv").read_text()


@pytest.mark.torture
def test_a_killed_training_with_dropout_and_deformation_resumes_bit_identically(secondary, tmp_path):
    small = settings("nuclei_unet2015", secondary, tmp_path)
    whole = run_here("nuclei_unet2015", run_name="whole", max_epochs=2, **small)
    part = run_here("nuclei_unet2015", run_name="part", max_epochs=1, **small)
    (part / "summary.json").unlink()
    run_here("nuclei_unet2015", run_name="part", max_epochs=2, resume=True, **small)
    one, other = (torch.load(run / "resume.pt", weights_only=True)["network"] for run in (whole, part))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_segnet_starts_from_the_published_vgg16(secondary, tmp_path):
    """Load weights with torchvision's names, and ignore those of the fully connected layers."""
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    outs = (64, 64, 128, 128, 256, 256, 256, *(512,) * 6)
    shapes = dict(zip(places, zip(outs, (3, *outs[:-1]), strict=True), strict=True))
    weights = {f"features.{n}.weight": torch.full((out, into, 3, 3), n / 1000) for n, (out, into) in shapes.items()}
    weights |= {f"features.{n}.bias": torch.full((out,), n / 10) for n, (out, _) in shapes.items()}
    torch.save({**weights, "classifier.6.bias": torch.zeros(1000)}, tmp_path / "vgg16.pth")
    given = settings("camvid_segnet", secondary, tmp_path)
    del given["network_def#width"]
    with kept_state():
        config = parser("camvid_segnet", weights=str(tmp_path / "vgg16.pth"), **given)
        config.get_parsed_content("initialize")
        encoder = config.get_parsed_content("network_def").conv5
    assert encoder.conv5_3.conv.weight.mean().item() == pytest.approx(0.028)
    assert encoder.conv5_3.conv.bias.mean().item() == pytest.approx(2.8)
