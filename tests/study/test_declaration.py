"""Read the declarations of studies, and refuse bad ones."""

import json
import re

import pytest
from running import BUNDLES

from medpos.core.errors import InputError
from medpos.statistics.criteria import Criterion
from medpos.study import declaration
from medpos.study.variance import find_factors

STUDIES = BUNDLES / "studies"
NAMES = declaration.list_studies(STUDIES)


def test_every_study_of_the_paper_is_declared():
    wanted = "table1 table2 figure1 figure2 figure3 figure4 figure5 intensities reliance encodings trust noticed"
    assert sorted(wanted.split()) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("network", ["unet", "small"])
def test_a_study_names_existing_bundles_and_models(name, network):
    study = declaration.load(STUDIES, name, network)
    assert study.claim.endswith(".")
    assert "{network" not in json.dumps([v.name for v in study.variants])
    models = {v.name for v in study.variants}
    assert len(models) == len(study.variants)
    for variant in study.variants:
        for data in variant.data or study.data:
            bundle = json.loads((BUNDLES / f"{variant.bundle.replace('{data}', data)}.json").read_text())
            assert {*variant.overrides, *variant.choose} <= set(bundle)
    primary = [c for c in (*study.criteria, *study.intensity_criteria) if c.role == "primary"]
    assert primary
    for criterion in primary:
        assert criterion.low < criterion.high
        assert criterion.likely is not None, "a primary criterion needs a margin, for its power"
        assert criterion.low < criterion.likely < criterion.high


@pytest.mark.parametrize("name", ["figure2", "figure3", "figure5", "reliance"])
def test_conditions_are_judged_one_by_one(name):
    """An average over conditions hides reversals, so none decides on a claim of the paper."""
    assert not [c for c in declaration.load(STUDIES, name).criteria if c.judge == "mean"]


def test_published_values_are_descriptions():
    for name in NAMES:
        published = [c for c in declaration.load(STUDIES, name).criteria if "published" in c.text]
        assert {c.role for c in published} <= {"exploratory"}


def test_the_claim_keeps_the_data_sets_that_are_not_run():
    study = declaration.load(STUDIES, "table1", data=["jsrt"])
    assert (study.data, study.declared) == (("jsrt",), ("jsrt", "acdc"))
    assert {c.data for c in study.criteria} == {"", "jsrt", "acdc"}


def test_vary_makes_a_model_of_each_value():
    study = declaration.load(STUDIES, "figure2")
    alphas = [v.overrides.get("pe_alpha") for v in study.variants]
    assert alphas == [None, 1.0, 3.0, 10.0, 30.0, 100.0]
    assert study.variants[2].name == "U-Net + position, alpha 3.0"


def test_the_user_chooses_data_seeds_and_network():
    study = declaration.load(STUDIES, "figure3", "unet", ["acdc"], [4, 5])
    assert (study.data, study.seeds) == (("acdc",), (4, 5))
    by_name = {v.name: v for v in study.variants}
    assert by_name["U-Net"].seeds == ()
    assert by_name["mean mask"].seeds == (4,)


MODEL = {"name": "a", "bundle": "{data}"}


def write(tmp_path, **changes):
    content = {"title": "t", "paper": "p", "claim": "c.", "data": ["jsrt"], "models": [MODEL], **changes}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return str(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"claim": None}, "add claim"),
        ({"seed": [1]}, "remove seed"),
        ({"conditions": ["fog"]}, "got 'fog'"),
        (
            {"criteria": [{"text": "t", "model": "b", "at_least": 0}]},
            "criteria#0#model: expected a model of the study, a, got 'b'",
        ),
        (
            {"criteria": [{"text": "t", "model": "a", "minus": "b", "at_least": 0}]},
            "criteria#0#minus: expected a model of the study, a, got 'b'",
        ),
        (
            {"criteria": [{"text": "t", "model": "a", "data": "x", "at_least": 0}]},
            "criteria#0#data: expected one of jsrt, got 'x'",
        ),
        ({"criteria": [{"text": "t", "model": "a"}]}, "criteria#0: criterion 't': expected a range"),
        ({"models": [{"name": "a", "bundle": "b", "overide": {}}]}, "remove overide"),
        ({"models": [{"name": "a", "bundle": "b", "choose": {"lr": [1], "seed": [1]}}]}, "choose: expected one key"),
        ({"title": 3}, "mine.json: title: expected text, got 3; correct it"),
        ({"data": "jsrt"}, "data: expected a list of items, each text, got 'jsrt'"),
        ({"data": [["jsrt"]]}, "data: expected a list"),
        ({"network": "vgg"}, "network: expected one of unet, small, got 'vgg'"),
        ({"seeds": 1}, "seeds: expected a list of items, each an integer from 0"),
        ({"seeds": [True]}, "seeds: expected a list"),
        ({"seeds": []}, "seeds: expected a list"),
        ({"conditions": "clean"}, "conditions: expected a list"),
        ({"figures": ["bar"]}, "figures: expected a list of items, each one of severity, shift, bars"),
        ({"models": {}}, "models: expected a list, got {}"),
        ({"models": ["a"]}, "models#0: expected keys with values, got 'a'"),
        ({"models": [{"bundle": "b"}]}, "models#0: expected the keys name, bundle; add name"),
        ({"models": [{"name": "a", "bundle": "b", "set": []}]}, "models#0#set: expected keys with values"),
        ({"models": [{"name": "a", "bundle": "b", "vary": {"lr": 1}}]}, "models#0#vary#lr: expected a list of values"),
        ({"models": [{"name": "a", "bundle": "b", "choose": {"lr": []}}]}, "choose#lr: expected a list of values"),
        (
            {"models": [{"name": "a", "bundle": "b", "vary": {key: [0] * 20 for key in "abc"}}]},
            "models#0: expected at most 1000 models, got 8000; vary fewer values",
        ),
        ({"criteria": 3}, "criteria: expected a list, got 3"),
        ({"criteria": [{}]}, "criteria#0: expected the keys text; add text"),
        ({"criteria": [{"text": "x", "at_least": "0.5"}]}, "criteria#0#at_least: expected a number, got '0.5'"),
        (
            {"criteria": [{"text": "x", "between": [1]}]},
            "criteria#0#between: expected a list of 2 items, each a number",
        ),
        ({"criteria": [{"text": "x", "model": "U-Nett"}]}, "criteria#0#model: expected a model of the study"),
        ({"criteria": [{"text": "x", "at_least": 0}]}, "criteria#0: expected the key model, got none"),
        ({"criteria": [{"text": "x", "judge": "best"}]}, "criteria#0#judge: expected one of each, dose, mean"),
        ({"criteria": [{"text": "x", "role": 1}]}, "criteria#0#role: expected one of primary, exploratory"),
        ({"criteria": [{"text": "x", "margin": "0.1"}]}, "criteria#0#margin: expected a number, got '0.1'"),
        ({"published": ["x"]}, "published#0: expected keys with values"),
        ({"seeds": [1, 1]}, "seeds: expected each seed once, got [1, 1]"),
        ({"models": [{"name": "a", "bundle": "b", "seeds": [2, 2]}]}, "models#0#seeds: expected each seed once"),
        ({"models": [{"name": "a", "bundle": "b"}] * 2}, "models: expected a name for each model, got 'a' 2 times"),
        ({"models": [{"name": "a", "bundle": "b", "vary": {"lr": [1, 2]}}]}, "got 'a' 2 times; tell them apart"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, changes, words):
    with pytest.raises(InputError, match=re.escape(words)):
        declaration.load(STUDIES, write(tmp_path, **changes))


def test_a_users_own_file_is_accepted(tmp_path):
    assert declaration.load(STUDIES, write(tmp_path)).name == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "figure33"}, "did you mean figure3?"),
        ({"name": "figure3", "network": "vgg"}, "expected unet or small"),
        ({"name": "figure3", "data": ["brats"]}, "got 'brats'"),
    ],
)
def test_unknown_names_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        declaration.load(STUDIES, **arguments)


def test_an_unknown_profile_is_refused():
    with pytest.raises(InputError, match="expected paper, quick, tiny"):
        declaration.load_profile(STUDIES, "huge")


def test_a_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="can't be read as JSON"):
        declaration.load(STUDIES, str(tmp_path / "bad.json"))


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("figure2", {"position": {"no", "yes"}, "alpha": {"none", "1.0", "3.0", "10.0", "30.0", "100.0"}}),
        ("figure4", {"position": {"no", "yes"}, "padding": {"zeros", "reflect"}}),
        ("table1", {"position": {"no", "yes"}}),
    ],
)
def test_factors_tell_the_models_of_a_study_apart(name, factors):
    variants = declaration.load(STUDIES, name).variants
    found = find_factors(variants)
    assert {factor: set(levels.values()) for factor, levels in found.items()} == factors
    assert set(found["position"]) == {variant.name for variant in variants if "mask" not in variant.name}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"between": [0.2, 0.1]}, "expected a lower end below the upper one"),
        ({"at_least": "nan"}, "expected a lower end below the upper one"),
        ({"at_least": 0.1, "margin": -1}, "margin: expected a number above 0, got -1"),
        ({"at_least": 0.1, "margin": "inf"}, "margin: expected a number above 0, got 'inf'"),
    ],
)
def test_a_range_that_nothing_can_meet_is_refused(entry, words):
    with pytest.raises(InputError, match=words):
        Criterion.from_json({"text": "t", "model": "a", **entry})
