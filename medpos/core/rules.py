"""Check values against rules in the words of JSON Schema: type, range, choices; load the rules of the bundles' keys."""

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from numbers import Real
from typing import Any

from medpos.core.errors import InputError
from medpos.core.project import project_folder

Rule = Mapping[str, Any]
KEYS = "keys"  # key of the rules in metadata.json
_TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}
_NAMES = {
    "boolean": "True or False",
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "keys with values",
}
_LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("of at least", lambda value, limit: value >= limit),
    "exclusiveMinimum": ("above", lambda value, limit: value > limit),
    "maximum": ("of at most", lambda value, limit: value <= limit),
    "exclusiveMaximum": ("below", lambda value, limit: value < limit),
}


@lru_cache(maxsize=1)
def load_rules() -> Mapping[str, Rule]:
    """Load the rules of all keys of the bundles, which the builder writes into ``metadata.json``."""
    path = project_folder() / "bundles/metadata.json"
    rules: Mapping[str, Rule] = json.loads(path.read_text(encoding="utf-8"))[KEYS]
    return rules


def check_value(key: str, value: Any, rule: Rule) -> None:
    """Refuse a value that its rule doesn't allow.

    Args:
        key: name of the key, for the message.
        value: its value.
        rule: type, range and choices, in the words of JSON Schema.

    Raises:
        InputError: the value isn't allowed; the message names the key, the value and what was expected.
    """
    if not fits(value, rule):
        raise InputError(f"--{key}: expected {describe(rule)}, got {value!r}; {_advise(key, value, rule)}")


def fits(value: Any, rule: Rule) -> bool:
    """Tell whether a rule allows a value; NaN and infinity are no numbers, True and False no integers."""
    if not any(_is(value, name) for name in _types(rule)):
        return False
    if isinstance(value, dict):
        names, parts = rule.get("propertyNames", {}), rule.get("additionalProperties", {})
        return all(fits(key, names) and fits(part, parts) for key, part in value.items())
    if isinstance(value, list | tuple):
        enough = rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", math.inf)
        return enough and all(fits(part, rule.get("items", {})) for part in value)
    if "items" in rule and value is not None:
        return fits(value, rule["items"])  # one item in place of a list
    return value is None or _is_in_range(value, rule)


def describe(rule: Rule) -> str:
    """Describe the values that a rule allows, such as ``an integer of at least 1``."""
    if "items" in rule:
        fixed = rule.get("minItems") if rule.get("minItems") == rule.get("maxItems") else None
        return f"a list of {f'{fixed} items' if fixed else 'items'}, each {describe(rule['items'])}"
    if "propertyNames" in rule:
        others = describe({key: part for key, part in rule.items() if key != "propertyNames"})
        names, parts = describe(rule["propertyNames"]), describe(rule["additionalProperties"])
        return f"{others}, or keys with values: each key {names}, each value {parts}"
    if "enum" in rule:
        return f"one of {', '.join(map(str, rule['enum']))}"
    words = " or ".join(_NAMES[name] for name in _types(rule) if name != "null")
    limits = " and ".join(f"{word} {rule[name]}" for name, (word, _) in _LIMITS.items() if name in rule)
    if {"minimum", "maximum"} <= rule.keys():
        limits = f"from {rule['minimum']} to {rule['maximum']}"
    words = f"{words} {limits}" if limits else words
    words += " of letters, digits, spaces, '.', '_', '-', '+', '(' and ')'" if "pattern" in rule else ""
    return f"{words}, or None" if "null" in _types(rule) else words


def _is_in_range(value: Any, rule: Rule) -> bool:
    if "enum" in rule and str(value) not in map(str, rule["enum"]):
        return False
    if "pattern" in rule and not re.fullmatch(rule["pattern"], str(value)):
        return False
    limits = [(test, rule[name]) for name, (_, test) in _LIMITS.items() if name in rule]
    return isinstance(value, str | bool) or all(test(value, limit) for test, limit in limits)


def _types(rule: Rule) -> list[str]:
    given = rule.get("type", list(_TYPES))
    return [given] if isinstance(given, str) else list(given)


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name]) and (is_finite(value) or not isinstance(value, int | float))


def is_finite(value: Any) -> bool:
    """Tell whether a value is a number within the range of a float: neither NaN, nor infinite, nor a larger integer."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _advise(key: str, value: Any, rule: Rule) -> str:
    choices = [str(choice) for choice in rule.get("enum", rule.get("items", {}).get("enum", []))]
    wrong = next((str(part) for part in _parts(value) if str(part) not in choices), "")
    if near := difflib.get_close_matches(wrong, choices, n=1):
        return f"did you mean {near[0]}?"
    if choices and not isinstance(value, dict):
        return "choose among them"
    if _types(rule) == ["boolean"]:
        return advise_boolean(value)
    if "string" in _types(rule) and isinstance(value, int | float) and not isinstance(value, bool):
        return f"""for text that looks like a number, quote it twice: --{key} "'{value}'\""""
    return f"it sets: {rule['description']}" if "description" in rule else "correct it"


def advise_boolean(value: Any) -> str:
    """Say how to write ``True`` or ``False`` in place of a value that is neither."""
    return "write it with a capital letter" if str(value) in ("true", "false") else "write one of them"


def _parts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
