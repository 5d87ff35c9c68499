"""Write model cards of runs, and compare them and their CLAIM checklists with the files of the runs."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from medpos.cli.main import app
from medpos.core.errors import InputError
from medpos.export import write_run_card
from medpos.export.card import write_card
from medpos.export.claim import ITEMS, TO_ADD, answers
from medpos.export.facts import SOURCES, gather_facts
from medpos.predict.model import Model
from medpos.runs import files
from medpos.runs.text import format_interval

# Subjects of the items of the CLAIM 2024 update that are alike in no two places, to tell a shift of the numbers.
NUMBERS = {
    1: "title",
    7: "sources",
    11: "de-identification",
    12: "missing data",
    13: "acquisition",
    14: "obtained",
    18: "variability",
    20: "disjoint",
    21: "sample size",
    24: "initial",
    27: "ensembling",
    30: "robustness",
    33: "external",
    34: "trial",
    36: "characteristics",
    39: "failures",
    40: "limitations",
    43: "availability",
    44: "funding",
}


@pytest.fixture(scope="module")
def facts(trained):
    return gather_facts(trained, Model(trained, device="cpu"), files.Run(trained).config)


def rows_of(card):
    """Return number -> (section, item, answer) of the checklist in a card."""
    found = re.findall(r"^\| (\d+) \| (.*?) \| (.*?) \| (.*) \|$", card, re.M)
    return {int(number): rest for number, *rest in found}


def test_the_checklist_has_all_items_in_their_order(facts):
    rows = rows_of(write_card(facts, "use"))
    assert list(rows) == list(range(1, 45))
    assert [(section, item) for section, item, _ in rows.values()] == [
        (section, item) for section, items in ITEMS.items() for item in items
    ]
    for number, word in NUMBERS.items():
        assert word in rows[number][1], number
    assert all(answer for *_, answer in rows.values())


def test_the_checklist_names_numbers_and_files_of_the_run(facts, trained):
    rows = rows_of(write_card(facts, "use"))
    summary = json.loads((trained / "summary.json").read_text())
    mean = summary["conditions"][0]["mean_foreground_dice"]
    assert f"{mean['mean']:.3f} (95 % {format_interval(mean)}), n {mean['n']}" in rows[37][2]
    assert f"{summary['subjects']} subjects tested" in rows[21][2]
    assert "`medpos.networks.build_with_position of networks.SmallCNN`" in rows[22][2]
    assert "torch 2." in rows[23][2]
    assert "8 epochs, batch 5" in rows[25][2]
    # Every file that an answer names, but those that only a later command writes, is in the run.
    named = set(re.findall(r"`(\w+\.(?:json|csv|txt|pt))`", " ".join(answer for *_, answer in rows.values())))
    assert {"summary.json", "training_cases.csv", "confusion.csv"} <= named
    assert [name for name in named if name != "dataset.json" and not (trained / name).exists()] == []


def test_what_only_a_person_knows_is_marked(facts):
    marked = {n for n, answer in enumerate(answers(facts), 1) if answer.missing}
    assert {1, 2, 3, 4, 33, 34, 44} <= marked  # of any run
    assert not {11, 14, 15, 16, 17, 18, 36} & marked  # phantoms have neither patients nor annotators
    real = replace(facts, data=replace(facts.data, phantom=False))
    marked_of_real = {n for n, answer in enumerate(answers(real), 1) if answer.missing}
    assert marked | {7, 8, 11, 13, 14, 15, 16, 17, 18, 19, 28, 35, 36} == marked_of_real
    assert SOURCES["jsrt"] in answers(real)[13].known
    own = replace(real, data=replace(real.data, name="mine"))
    # The test data are those of another name then.
    assert {5, *marked_of_real} - {33} == {n for n, answer in enumerate(answers(own), 1) if answer.missing}
    assert not answers(own)[13].known
    card = write_card(real, "use")
    assert "PHANTOMS (" not in card.split("## Results")[0]
    assert f"**{TO_ADD}**: how images and names were de-identified." in card


def test_other_evaluations_and_what_the_lights_notice_have_tables(facts):
    own = facts.summary
    noisy = json.loads(json.dumps(own["conditions"][0] | {"degradation": "shot_noise", "severity": 5}))
    noisy["mean_foreground_dice"]["mean"] = 0.0123
    conditions = [own["conditions"][0], noisy]
    elsewhere = {**own, "data": "padchest"}
    row = {"detector": "all", "degradation": "shot_noise", "severity": "5", "shift": "0", "cases": "7"}
    row |= {"alarms": "0.857", "auroc": "nan", "dice_lost": "0.25"}
    more = replace(
        facts,
        evaluations={"test": own, "robustness": {**own, "conditions": conditions}, "evaluate": elsewhere},
        light={"false_alarm_rate": 0.05, "validation": 4, "training": 25, "test_cases": 11, "test_alarms": 2},
        noticed=(row, {**row, "detector": "noise", "alarms": "0.111"}),
        temperatures=None,
    )
    card = write_card(more, "use")
    [line] = re.findall(r"^\| shot noise, severity 5 \| .* \| 0\.012 .*$", card, re.M)
    assert line.count("|") == 7  # condition, three organs, their mean, n
    assert "### `evaluate`, on padchest: mean Dice" in card
    assert "| shot noise, severity 5 | 0.86 | 7 | - | 0.250 |" in card
    assert "0.11 " not in card.split("## What it notices")[1].split("## Limits")[0]
    assert "stated rate of false alarms 5.0%" in card
    assert "Of 11 clean test cases 2 had an alarm" in card
    assert "No temperatures are fitted" in card
    rows = rows_of(card)
    assert rows[30][2].startswith("`robustness`: 1 degradations or shifts")
    assert rows[33][2] == "`evaluate`: padchest."
    assert "lowest mean Dice 0.012, shot noise, severity 5" in rows[39][2]
    assert "Beside its own data it was tested on: evaluate" in card


def test_an_untested_run_says_so(facts):
    card = write_card(replace(facts, evaluations={}, cautions=(), sentences=()), "use")
    assert "The run was not tested, so its quality is unknown." in card
    assert rows_of(card)[37][2] == f"**{TO_ADD}**: the run was not tested."


def test_names_from_data_are_escaped(facts):
    label = replace(facts.data.labels[1])
    object.__setattr__(label, "name", "a|b<script>`")
    labels = (facts.data.labels[0], label)
    card = write_card(replace(facts, data=replace(facts.data, labels=labels)), "use")
    assert "<script>" not in card.split("## Data")[1]
    assert list(rows_of(card)) == list(range(1, 45))


def test_the_command_writes_the_card_of_a_run(trained, chest_bundle, tmp_path):
    run = shutil.copytree(trained, tmp_path / "a")
    (run / "robustness").mkdir()
    shutil.copy(run / "metrics.csv", run / "robustness")  # stopped before its end
    result = CliRunner().invoke(app, ["card", str(run)])
    assert result.exit_code == 0, result.output
    text = (run / "model_card.md").read_text()
    assert "Results that can't be read" in text
    assert str(run) not in text
    (run / "robustness/metrics.csv").unlink()
    path = write_run_card(run, tmp_path / "card.md")
    text = path.read_text()
    assert "**Few subjects**" in text
    assert "found the right lung with a Dice of" in text
    with pytest.raises(InputError, match=r"expected a run, got an exported bundle; read .*README\.md"):
        write_run_card(chest_bundle)
