"""Test that results are pooled only where model, data, split, conditions and inference settings are the same."""

import json
import shutil

import pandas as pd
import pytest
from making import make_run, make_study

from medpos.report import build
from medpos.report.sources import read
from medpos.report.tables import tabulate_external, tabulate_organs
from medpos.transforms.intensity.degradations import TABLES

SETTINGS = {
    "data_sha256": "a",
    "degradation_table": "study",
    "noise_seed": 0,
    "overlap": 0.25,
    "dataset": {"data": "$@source.cases('test')"},
    "inferer": {"_target_": "SlidingWindowInferer", "overlap": "@overlap"},
    "max_epochs": 9,
}


def configure(folder, **changes):
    (folder / "config.json").write_text(json.dumps({**SETTINGS, **changes}))


@pytest.fixture
def run(tmp_path):
    """Make a run with a test, its robustness, and another evaluation of a part of the cases, with other values."""
    run = make_run(tmp_path / "runs/b/0")
    configure(run)
    shutil.copytree(run / "robustness", run / "evaluate")
    for part in ("robustness", "shift", "evaluate"):
        configure(run / part)
    table = pd.read_csv(run / "evaluate/metrics.csv")
    table.assign(dice=0.125, case="x" + table["case"]).to_csv(run / "evaluate/metrics.csv", index=False)
    return run


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"data_sha256": "b"}, "data"),
        ({"dataset": {"data": "$@source.cases('validation')"}}, "split"),
        ({"overlap": 0.5}, "overlap"),
        ({"inferer": {"_target_": "medpos.inferers.DenseCRF"}}, "overlap, inferer"),
        ({"degradation_table": "cifar_c"}, "degradation_table"),
        ({"noise_seed": 1}, "noise_seed"),
    ],
)
def test_what_differs_stands_by_itself(changes, differs, run):
    configure(run / "evaluate", **changes)
    found = read([run])
    external = tabulate_external(found.runs).frame
    assert set(external["differs in"]) == {differs}
    assert set(external["dice_mean"]) == {0.125}
    assert len(external) == 6 * 4  # conditions; organs and their mean
    table = found.table()
    assert 0.125 not in set(table["dice"])
    assert set(tabulate_organs(table).frame["cases"]) == {12}
    assert (table["severity"] == 5).any()


def test_the_page_has_a_section_of_external_evaluations(run, tmp_path):
    configure(run / "evaluate", data_sha256="b")
    page = build([run], tmp_path / "out").read_text()
    assert '<section id="external">' in page
    assert '<a href="#external">' in page
    assert (tmp_path / "out/csv/external.csv").is_file()


def test_what_only_changes_a_training_does_not_count(run):
    configure(run / "evaluate", max_epochs=5, known_keys=["a"])
    found = read([run])
    assert found.runs[0].external == ()
    assert 0.125 in set(found.table()["dice"])


def test_another_table_of_strengths_has_its_name(run):
    """A run that was tested under one table alone shows it, by its name."""
    shutil.rmtree(run / "evaluate")
    configure(run / "robustness", degradation_table="imagenet_c")
    found = read([run])
    assert found.runs[0].external == ()
    assert set(found.table()["degradation"]) == {"none", "gaussian_noise (imagenet_c)"}


def test_the_numbers_of_the_study_are_its_table(run):
    shutil.rmtree(run / "evaluate")
    study = {kind: list(strengths) for kind, strengths in TABLES["study"].items()}
    configure(run / "robustness", degradation_table=study)
    assert read([run]).runs[0].external == ()
    configure(run / "robustness", degradation_table={**study, "gaussian_noise": [0.1, 0.2, 0.3, 0.4, 0.5]})
    assert set(read([run]).table()["degradation"]) == {"none", "gaussian_noise (0.1, 0.2, 0.3, 0.4, 0.5)"}


def test_a_study_says_under_which_table_its_models_were_tested(tmp_path):
    study = make_study(tmp_path / "study")
    run = study / "runs/a/0"
    configure(run)
    shutil.copytree(run / "robustness", run / "robustness-2")
    for part, table in (("robustness", "study"), ("robustness-2", "cifar_c"), ("shift", "study")):
        configure(run / part, degradation_table=table)
    content = json.loads((study / "study.json").read_text())
    for tests, external in ({}, "robustness-2"), ({"degradation_table": "cifar_c"}, "robustness"):
        content["models"][0]["tests"] = tests
        (study / "study.json").write_text(json.dumps(content))
        assert [entry.name for entry in read([study]).runs[0].external] == [external]
