"""Cross-validate a study: out-of-fold predictions of all subjects, one test set."""

import csv
import json

import pandas as pd
import pytest
from running import BUNDLES
from typer.testing import CliRunner

from medpos import __main__ as cli
from medpos.core.ending import explain
from medpos.core.errors import InputError
from medpos.data.folder import DataFolder
from medpos.data.schema import SPLITS
from medpos.report import build
from medpos.study import declaration, results
from medpos.study.collecting import check_folds
from medpos.study.jobs import execute
from medpos.study.models import compute_identity
from medpos.study.plan import Planner, Settings
from medpos.study.run import Watcher, run

STUDY = {
    "title": "A cross-validated study",
    "paper": "none",
    "claim": "The mean mask finds the lungs.",
    "data": ["jsrt"],
    "models": [{"name": "mean mask", "bundle": "{data}_mean_mask"}],
    "seeds": [0],
    "criteria": [{"text": "it finds them", "model": "mean mask", "at_least": 0.3, "margin": 0.1}],
    "figures": ["bars"],
}


class Here:
    def run(self, jobs, started, until=0.0):
        yield from map(execute, jobs)


@pytest.fixture(scope="module")
def done(prepared, tmp_path_factory):
    """Run the study in two folds; returns its folder, its planner and study.json."""
    folder = tmp_path_factory.mktemp("folds")
    (folder / "mine.json").write_text(json.dumps(STUDY))
    study = declaration.load(BUNDLES / "studies", str(folder / "mine.json"), folds=2)
    overrides = {"image_size": 32, "max_epochs": 1}
    places = {"jsrt": str(prepared["jsrt"])}, str(folder / "runs"), folder / "logs"
    settings = Settings(BUNDLES, overrides, *places)
    content = run(study, settings, Here(), folder / "out", "the command", Watcher())
    return folder, Planner(study, settings), content


def test_every_subject_is_tested_once_by_a_model_without_it(done, prepared):
    folder, planner, content = done
    assert content["failed"] == []
    assert [(m["seed"], m["fold"]) for m in content["models"]] == [(0, "1/2"), (0, "2/2")]
    with (folder / "out/per_case.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    source = DataFolder(prepared["jsrt"])
    known = [case["case"] for split in SPLITS for case in source.cases(split)]
    assert sorted({row["case"] for row in rows}) == sorted(known)
    assert len(rows) == 3 * len(known)  # organs
    for model in planner.plan().models:
        tested = {row["subject"] for row in rows if row["fold"] == model.fold}
        with (model.folder() / "training_cases.csv").open() as stream:
            assert tested.isdisjoint(row["subject"] for row in csv.DictReader(stream))
    assert len({compute_identity(model.config) for model in planner.plan().models}) == 2


def test_the_verdict_is_over_all_subjects(done):
    """The value is the mean over all subjects, not the mean of the folds' means."""
    folder, _, content = done
    table = pd.read_csv(folder / "out/per_case.csv", dtype={"fold": str})
    assert set(table["fold"]) == {"1/2", "2/2"}
    [finding] = content["criteria"]
    assert (finding["subjects"], finding["n"], finding["seeds"]) == (8, 8, 1)
    assert finding["value"] == pytest.approx(table.groupby("case")["dice"].mean().mean())
    assert content["data"][0]["subjects"] == 8
    page = build([folder / "out"], folder / "page").read_text()
    for words in ("Validation: 2-fold cross-validation: each subject is tested once", "test parts of 2 folds"):
        assert words in page


def test_indices_of_the_page_are_of_all_folds(done):
    folder, _, _ = done
    build([folder / "out"], folder / "page")
    [path] = (folder / "page").rglob("*agreement*.csv")
    assert set(pd.read_csv(path)["n"]) == {8}


def test_a_second_call_leaves_everything_as_it_is(done):
    folder, planner, _ = done
    assert planner.plan().jobs == ()
    assert results.is_written(planner, planner.plan(), folder / "out")
    whole = Planner(declaration.load(BUNDLES / "studies", str(folder / "mine.json")), planner.settings)
    assert len(whole.plan().jobs) == 1  # the prepared split is another training


def test_a_value_is_chosen_in_each_fold(done, tmp_path):
    """A choice on the validation part of one fold would use subjects that another fold tests."""
    _, planner, _ = done
    chooses = {"name": "mean mask", "bundle": "{data}_mean_mask", "choose": {"train_cases": [1, 2]}}
    (tmp_path / "mine.json").write_text(json.dumps({**STUDY, "models": [chooses]}))
    study = declaration.load(BUNDLES / "studies", str(tmp_path / "mine.json"), folds=2)
    plan = Planner(study, planner.settings).plan()
    assert plan.undecided == ("jsrt: mean mask, fold 1/2", "jsrt: mean mask, fold 2/2")
    assert [job.name for job in plan.jobs] == [
        f"jsrt: mean mask, train_cases {count}, fold {fold}, seed 0" for fold in ("1/2", "2/2") for count in (1, 2)
    ]


def test_a_subject_in_two_folds_is_refused():
    """Runs of a version with other folds would be tested on subjects of their training."""
    table = pd.DataFrame({"data": "jsrt", "subject": ["a", "b", "b"], "fold": ["1/2", "1/2", "2/2"]})
    with pytest.raises(InputError, match="jsrt: subject b: expected tests in one fold, got 2"):
        check_folds(table)


def test_folds_at_the_prompt(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = f"--dataset-dir=jsrt={prepared['jsrt']}"
    invoke = CliRunner().invoke
    for folds, words in (("1", "--folds: expected two or more"), ("9", "fold: expected at most 8 folds")):
        found = invoke(cli.app, ["study", "table1", "--data=jsrt", data, "--folds", folds, "--dry-run"])
        assert found.exit_code == 1
        assert words in found.output + explain(found.exception)
    shown = invoke(cli.app, ["study", "status", "table1", "--data=jsrt", data, "--folds=2", "--seeds=0"])
    assert "table1: 0 of 6 models trained" in shown.output
