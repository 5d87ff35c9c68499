"""A model meets data that are not those of its training: other classes, its own training cases, other gray values."""

import json
import logging

import pytest
import running

from medpos.core.errors import InputError


def change(folder, edit):
    path = folder / "dataset.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def evaluate(tiny, data, entry="evaluate", **more):
    return running.run_here("jsrt_small_pe", entry=entry, **{**tiny, "dataset_dir": str(data), **more})


def cause_of(raised):
    error = raised.value
    while not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return str(error)


def reorder(manifest):
    """Give the left lung the number of the right one."""
    names = [label["name"] for label in manifest["labels"]]
    for label, name in zip(manifest["labels"], [names[0], names[2], names[1], *names[3:]], strict=True):
        label["name"] = name


def rename(manifest):
    manifest["labels"][3]["name"] = "liver"


def split_anew(manifest):
    """Change places of a training and a test case."""
    first, last = manifest["training"][0], manifest["test"][0]
    manifest["training"][0], manifest["test"][0] = last, first


def split_anew_under_other_names(manifest):
    split_anew(manifest)
    for part in ("training", "validation", "test"):
        for number, case in enumerate(manifest[part]):
            case["subject"] = case["case"] = f"{part}{number}"
    manifest["name"] = "other"


def split_anew_after_another_preparation(manifest):
    split_anew(manifest)
    for case in manifest["test"]:
        case["image_sha256"] = case["case"]


@pytest.mark.parametrize(
    "entry",
    ["evaluate", *(pytest.param(entry, marks=pytest.mark.torture) for entry in ("robustness", "shift"))],
)
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (reorder, "expected the classes background, right_lung, left_lung, heart, as"),
        (rename, "got background, right_lung, left_lung, liver"),
        (lambda manifest: manifest.update(channels=["red"]), "expected the channels image"),
        (split_anew, "model was not trained on, but subject"),
        (split_anew_under_other_names, "is the same"),
        (split_anew_after_another_preparation, "model was not trained on, but subject"),
    ],
)
def test_an_evaluation_on_such_data_is_refused(run_of, tiny, data, entry, edit, message):
    change(data, edit)
    with pytest.raises((RuntimeError, InputError)) as raised:
        evaluate(tiny, data, entry, run_name="a")
    assert message in cause_of(raised)
    assert not (run_of / entry).exists()


@pytest.mark.parametrize("edit", [reorder, split_anew])
def test_a_checkpoint_is_compared_with_the_data_of_its_run(run_of, tiny, data, edit):
    change(data, edit)
    with pytest.raises((RuntimeError, InputError)):
        evaluate(tiny, data, checkpoint=str(run_of / "model.pt"), run_name="b")
    assert not (run_of.parent / "b").exists()


def test_training_cases_are_marked_where_they_are_allowed(run_of, tiny, data):
    change(data, split_anew)
    run = evaluate(tiny, data, run_name="a", allow_training_cases=True)
    summary = json.loads((run / "evaluate/summary.json").read_text())
    assert summary["training_cases"] == 1
    assert "TRAINING CASES: the model was trained on 1 of these" in (run / "log.txt").read_text()
    assert "training_cases" not in json.loads((run / "summary.json").read_text())


def test_gray_values_are_standardized_as_in_the_training(run_of, tiny, data):
    expected = evaluate(tiny, data, run_name="a") / "evaluate/metrics.csv"
    change(data, lambda manifest: manifest["intensity"].update(range=[0, 9000], mean=5000.0, std=100.0))
    found = evaluate(tiny, data, run_name="a") / "evaluate-2/metrics.csv"
    assert found.read_bytes() == expected.read_bytes()


def test_a_run_of_an_earlier_version_is_compared_with_what_it_holds(run_of, tiny, data, caplog):
    (run_of / "training_cases.csv").unlink()
    change(data, split_anew)
    assert (evaluate(tiny, data, run_name="a") / "evaluate/summary.json").is_file()
    (run_of / "data.json").unlink()
    with caplog.at_level(logging.WARNING):
        evaluate(tiny, data, run_name="a")
    assert caplog.text.count("can't be compared with those of the training") == 1
