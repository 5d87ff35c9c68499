"""Check the types in the declaration of a study, before anything of it is used."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medpos.core.errors import InputError
from medpos.core.rules import Rule, describe, fits
from medpos.statistics.criteria import JUDGES, MEASURES, ROLES

# Of the name of a model's clean predictions that are shifted with the image; a criterion may name them as its minus.
MOVED = ", clean prediction moved"
NETWORKS = ("unet", "small")
FIGURES = (
    "severity", "shift", "bars", "reliance", "changes", "intensities", "degraded", "variance", "noticed_severity",
    "noticed_shift",
)  # fmt: skip
_TEXT: Rule = {"type": "string"}
_TEXTS: Rule = {"type": "array", "items": _TEXT}
_SEEDS: Rule = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}}
_NUMBER: Rule = {"type": "number"}
_CONDITIONS: Rule = {"type": ["string", "array"], "items": _TEXT}
_STUDY: Mapping[str, Rule] = {
    "order": {"type": "integer", "minimum": 1},
    "title": _TEXT,
    "paper": _TEXT,
    "claim": _TEXT,
    "data": _TEXTS,
    "network": {"type": "string", "enum": NETWORKS},
    "seeds": {**_SEEDS, "minItems": 1},
    "conditions": _TEXTS,
    "figures": {"type": "array", "items": {"type": "string", "enum": FIGURES}},
}
_MODEL: Mapping[str, Rule] = {"name": _TEXT, "bundle": _TEXT, "seeds": _SEEDS, "data": _TEXTS}
_CRITERION: Mapping[str, Rule] = {
    "text": _TEXT,
    "model": _TEXT,
    "minus": _TEXT,
    "data": _TEXT,
    "organ": _TEXT,
    "conditions": _CONDITIONS,
    "minus_conditions": _CONDITIONS,
    "at_least": _NUMBER,
    "at_most": _NUMBER,
    "margin": _NUMBER,
    "min_dice_lost": _NUMBER,
    "judge": {"type": "string", "enum": tuple(JUDGES)},
    "role": {"type": "string", "enum": ROLES},
    "measure": {"type": "string", "enum": MEASURES},
    "between": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
}
_OBJECTS: Mapping[str, tuple[Mapping[str, Rule], tuple[str, ...]]] = {
    "models": (_MODEL, ("name", "bundle")),
    "criteria": (_CRITERION, ("text",)),
    "published": ({}, ()),
}
_MOST_MODELS = 1000


def check_study(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse values of a wrong type in a study's file.

    Args:
        path: the file, for the message.
        content: what it holds.

    Raises:
        InputError: a value has a wrong type; the message names its place and what was expected.
    """
    _check(path, "", content, _STUDY, ())
    for key, (rules, required) in _OBJECTS.items():
        entries = content.get(key, [])
        if not isinstance(entries, list):
            raise _refuse(path, key, "a list", entries)
        for number, entry in enumerate(entries):
            _check(path, f"{key}#{number}", entry, rules, required)
    for number, model in enumerate(content["models"]):
        _check_settings(path, f"models#{number}", model)
    for place, owner in (("", content), *((f"models#{n}#", model) for n, model in enumerate(content["models"]))):
        seeds = owner.get("seeds", [])
        if len(set(seeds)) < len(seeds):
            raise _refuse(path, f"{place}seeds", "each seed once", seeds)


def check_models(path: Path, criteria: Iterable[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Refuse two models of one name, and criteria on models that a study doesn't train, which would never be measured.

    Args:
        path: file of the study, for the message.
        criteria: criteria of the study.
        names: names of its models.

    Raises:
        InputError: a name stands twice, or a criterion names another model.
    """
    known = list(dict.fromkeys(names))
    if double := [name for name in known if names.count(name) > 1]:
        raise InputError(
            f"{path}: models: expected a name for each model, got {double[0]!r} {names.count(double[0])} times; tell "
            "them apart, those of 'vary' by its key in braces"
        )
    for number, criterion in enumerate(criteria):
        for key, suffix in (("model", ""), ("minus", MOVED)):
            if key in criterion and criterion[key].removesuffix(suffix) not in known:
                raise _refuse(
                    path, f"criteria#{number}#{key}", f"a model of the study, {', '.join(known)}", criterion[key]
                )


def _check(path: Path, place: str, found: Any, rules: Mapping[str, Rule], required: tuple[str, ...]) -> None:
    if not isinstance(found, dict):
        raise _refuse(path, place, "keys with values", found)
    before = f"{place}#" if place else ""
    if missing := [key for key in required if key not in found]:
        raise InputError(f"{path}: {place}: expected the keys {', '.join(required)}; add {', '.join(missing)}")
    for key, rule in rules.items():
        if key in found and not fits(found[key], rule):
            raise _refuse(path, f"{before}{key}", describe(rule), found[key])


def _check_settings(path: Path, place: str, model: Mapping[str, Any]) -> None:
    """Check the overrides of a model: ``set`` holds values, ``vary`` and ``choose`` lists of them."""
    count = 1
    for key in ("set", "vary", "choose"):
        values = model.get(key, {})
        if not isinstance(values, dict):
            raise _refuse(path, f"{place}#{key}", "keys with values", values)
        for name, value in values.items() if key != "set" else ():
            if not isinstance(value, list) or not value:
                raise _refuse(path, f"{place}#{key}#{name}", "a list of values", value)
            count *= len(value)
    if count > _MOST_MODELS:
        raise InputError(f"{path}: {place}: expected at most {_MOST_MODELS} models, got {count}; vary fewer values")


def _refuse(path: Path, place: str, expected: str, found: Any) -> InputError:
    return InputError(f"{path}: {place}: expected {expected}, got {found!r:.100}; correct it")
