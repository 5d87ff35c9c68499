"""Test the folds of a cross-validation: the split, the gray values learned from it, and a run of one fold."""

import csv
import json
import re
from collections import Counter

import nibabel
import numpy as np
import pytest
from running import BUNDLES, refusal, run_here

from medpos.core.errors import InputError
from medpos.core.moved import without_later_keys
from medpos.data.folder import DataFolder
from medpos.data.gray_values import intensity_statistics, read_moments
from medpos.data.schema import SPLITS
from medpos.data.split import list_folds, parse_fold, split_by_fold
from medpos.runs.identity import ResultSettings
from medpos.study.models import compute_identity, resolve_configuration

GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")


def hearts(count, **more):
    """Make the entries of subjects with two phases and one of five groups each, split 14/2/4 as in ACDC."""
    parts = {part: [] for part in SPLITS}
    for number in range(count):
        about = {"subject": f"patient{number:03}", "group": GROUPS[number % 5], **more.get(f"patient{number:03}", {})}
        part = SPLITS[0 if number % 20 < 14 else 1 if number % 20 < 16 else 2]
        parts[part] += [{**about, "case": f"{about['subject']}_{phase}", "split": part} for phase in ("ED", "ES")]
    return parts


def subjects(cases):
    return {case["subject"] for case in cases}


@pytest.mark.parametrize(("count", "folds"), [(100, 5), (80, 5), (20, 5), (28, 5), (23, 3), (9, 2), (12, 12)])
def test_each_subject_is_tested_in_one_fold(count, folds):
    prepared = hearts(count)
    split = [split_by_fold(prepared, fold) for fold in list_folds(folds)]
    names = [case["case"] for part in prepared.values() for case in part]
    assert sorted(case["case"] for parts in split for case in parts["test"]) == sorted(names)
    sizes = [len(subjects(parts["test"])) for parts in split]
    assert max(sizes) - min(sizes) <= 1
    for group in GROUPS:
        of_group = [len(subjects(c for c in parts["test"] if c["group"] == group)) for parts in split]
        assert max(of_group) - min(of_group) <= 1
    for parts in split:
        assert sorted(case["case"] for part in parts.values() for case in part) == sorted(names)
        training, validation, test = (subjects(parts[name]) for name in SPLITS)
        assert not training & validation
        assert not test & (training | validation)
        assert all(case["split"] == name for name in SPLITS for case in parts[name])
        share = len(subjects(prepared["validation"])) / len(subjects(prepared["validation"] + prepared["training"]))
        assert abs(len(validation) - share * (count - len(test))) < 1


def test_folds_depend_on_names_and_groups_alone():
    prepared = hearts(20)
    moved = {"training": prepared["test"][::-1], "validation": prepared["validation"], "test": prepared["training"]}
    assert [c["case"] for c in split_by_fold(prepared, "2/5")["test"]] == [
        c["case"] for c in split_by_fold(moved, "2/5")["test"]
    ]
    # Golden: they must stay the same on every machine and version.
    found = {name: sorted(subjects(part)) for name, part in split_by_fold(prepared, "2/5").items()}
    assert found["test"] == ["patient005", "patient008", "patient012", "patient016"]
    assert found["validation"] == ["patient001", "patient004"]


def test_subjects_with_the_same_image_stay_together():
    copies = {name: {"image_sha256": "same"} for name in ("patient003", "patient008", "patient017")}
    for fold in list_folds(5):
        parts = split_by_fold(hearts(20, **copies), fold)
        assert [len(copies.keys() & subjects(part)) for part in parts.values() if copies.keys() & subjects(part)] == [3]


@pytest.mark.parametrize("fold", ["0/5", "6/5", "a", "1/1", "2", "2/5 ", "-1/5", "1/5x", "\u0662/\u0665", 2, None])
def test_something_else_is_refused(fold):
    with pytest.raises(InputError, match=r"^fold: expected a fold of two or more"):
        parse_fold(fold)


def test_more_folds_than_subjects_are_refused():
    with pytest.raises(InputError, match=r"^fold: expected at most 20 folds, one per subject, got 1/21; take fewer"):
        split_by_fold(hearts(20), "1/21")


def test_nothing_can_be_trained_without_a_training_part():
    with pytest.raises(InputError, match=r"^fold: expected a training subject in the prepared split, got none"):
        split_by_fold({**hearts(20), "training": []}, "1/5")


@pytest.mark.parametrize("kind", ["jsrt", "acdc"])
def test_gray_values_are_those_of_the_fold_s_training_set(prepared, kind):
    """A range that is known beforehand, 0 to 4095 of X-rays, stays; that of hearts is learned."""
    source, whole = DataFolder(prepared[kind], "2/3"), DataFolder(prepared[kind])
    gray = np.concatenate(
        [np.asarray(nibabel.load(case["image"]).dataobj, np.float64).ravel() for case in source.cases("training")]
    )
    low, high = (whole.intensity["low"], whole.intensity["high"]) if kind == "jsrt" else (gray.min(), gray.max())
    assert (source.intensity["low"], source.intensity["high"]) == (low, high)
    assert source.intensity["mean"] == pytest.approx((gray.mean() - low) / (high - low), rel=1e-9)
    assert source.intensity["std"] == pytest.approx(gray.std() / (high - low), rel=1e-9)
    assert source.intensity != whole.intensity
    assert source.sha256 == whole.sha256


def test_the_prepared_split_has_the_stated_gray_values(prepared):
    """So what a fold computes is what the preparation wrote."""
    for kind in ("jsrt", "acdc"):
        stated = json.loads((prepared[kind] / "dataset.json").read_text())["intensity"]
        moments = [
            read_moments(prepared[kind] / case["image"]) for case in DataFolder(prepared[kind])._cases["training"]
        ]
        assert intensity_statistics(moments, None if kind == "acdc" else stated["range"]) == stated


def test_a_run_of_a_fold(prepared, tiny):
    """Its table, data.json and training_cases.csv are those of the fold, and its other subjects can't be tested."""
    run = run_here("jsrt_mean_mask", **tiny, fold="2/3", run_name="a")
    source = DataFolder(prepared["jsrt"], "2/3")
    with (run / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["case"] for row in rows} == {case["case"] for case in source.cases("test")}
    assert {row["split"] for row in rows} == {"test"}
    assert json.loads((run / "data.json").read_text())["intensity"] == source.intensity
    with (run / "training_cases.csv").open() as stream:
        assert {row["case"] for row in csv.DictReader(stream)} == {c["case"] for c in source.cases("training")}
    message = refusal("jsrt_mean_mask", **tiny, entry="evaluate", run_name="a", conditions=["clean"])
    assert "evaluate those of its fold by --fold 2/3, or other cases" in message
    run_here("jsrt_mean_mask", **tiny, entry="evaluate", run_name="a", fold="2/3")
    assert (run / "evaluate/metrics.csv").read_bytes() == (run / "metrics.csv").read_bytes()


@pytest.mark.parametrize("fold", ["0/5", "6/5", "a", "1/9"])
def test_a_run_of_no_fold_is_refused(tiny, tmp_path, fold):
    assert re.search(r"expected (a fold|at most 8 folds)", refusal("jsrt_small", **tiny, fold=fold))
    assert not (tmp_path / "runs").exists()


def test_a_fold_is_part_of_the_identity(prepared):
    """A model of a fold is another model, and its test another test; those without a fold stay what they were."""
    plain, fold, other = (
        resolve_configuration(BUNDLES / "jsrt_small.json", {"dataset_dir": str(prepared["jsrt"]), **more})
        for more in ({}, {"fold": "1/3"}, {"fold": "2/3"})
    )
    before = {key: value for key, value in plain.items() if key != "fold"}
    before["source"] = {key: value for key, value in plain["source"].items() if key != "fold"}
    assert without_later_keys(plain) == without_later_keys(before)
    assert compute_identity(plain) == compute_identity(before)
    assert len(Counter(map(compute_identity, (plain, fold, other)))) == 3
    assert ResultSettings.of(plain) == ResultSettings.of(before)
    assert ResultSettings.of(fold).find_differences(ResultSettings.of(other), []) == ["fold"]
    assert ResultSettings.of(plain).find_differences(ResultSettings.of(fold), []) == ["fold"]
