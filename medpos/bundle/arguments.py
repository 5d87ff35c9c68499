"""Check the arguments of a bundle's components against the annotations of the classes that their ``_target_`` names."""

import collections.abc
import enum
import inspect
import pydoc
import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from monai.bundle import ComponentLocator, ConfigComponent

from medpos.core.config import Config
from medpos.core.errors import InputError
from medpos.core.rules import Rule, advise_boolean, check_value, load_rules

_COUNT: Rule = {"type": "integer", "minimum": 1}
_SHARE: Rule = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
# Arguments with a range that their annotation doesn't say, in medpos, MONAI and PyTorch.
_RANGES: Mapping[str, Rule] = {
    **dict.fromkeys(("in_channels", "out_channels", "num_classes", "interval", "epoch_length"), _COUNT),
    **dict.fromkeys(("sw_batch_size", "accumulation_steps", "num_replicas", "repeats"), _COUNT),
    "overlap": _SHARE,
}
_TYPES = {bool: "True or False", int: "an integer", float: "a number", str: "text", type(None): "None"}


def check_arguments(config: Config, locator: ComponentLocator) -> None:
    """Refuse arguments of components that can't be right: of another type than annotated, or out of range.

    An argument with the name of a top-level key, such as ``max_epochs``, has the range of that key. Expressions and
    references are left to their evaluation.

    Args:
        config: raw configuration, with the overrides applied.
        locator: MONAI's table of the full names of its components.

    Raises:
        InputError: an argument is wrong; the message names it, its value and what was expected.
    """
    for path, node in find_dictionaries(config):
        target = locate_target(node, locator) if "_target_" in node else None
        if not callable(target):
            continue
        hints, defaults = _find_hints(target)
        for key, value in node.items():
            is_plain = key in hints and not _holds_expression(value)
            if is_plain and not (key in defaults and _is_equal(value, defaults[key])):
                _check_argument(f"{path}#{key}", value, hints[key], _find_rule(key))


def find_dictionaries(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the nested dictionaries with their paths, ``#`` between the keys, without the outermost dictionary."""
    if isinstance(node, dict) and path:
        yield path, node
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from find_dictionaries(value, f"{path}#{key}" if path else str(key))


def locate_target(node: Config, locator: ComponentLocator) -> Any:
    """Return the class or function that a component's ``_target_`` names; None where there is none."""
    name = ConfigComponent(node, locator=locator).resolve_module_name()
    return pydoc.locate(name) if isinstance(name, str) and name[:1] not in ("$", "@") else name


def _check_argument(place: str, value: Any, hint: Any, rule: Rule | None) -> None:
    if not _fits(value, hint):
        advice = advise_boolean(value) if hint is bool and isinstance(value, str) else "correct it"
        raise InputError(f"--{place}: expected {_describe(hint)}, got {value!r:.80}; {advice}")
    if rule and isinstance(value, int | float):
        check_value(place, value, rule)


def _find_rule(key: str) -> Rule | None:
    """Return the range of an argument: its own, or that of the number of its name at the top of the bundles."""
    rule = _RANGES.get(key) or load_rules().get(key, {})
    kinds = [rule["type"]] if isinstance(rule.get("type"), str) else rule.get("type", [])
    return rule if kinds and kinds[0] in ("integer", "number") else None


def _find_hints(target: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the annotations and the defaults of a class's or function's arguments, as far as they are known.

    Arguments that a class passes on to its base (``**options``) are those of the base.
    """
    hints: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    classes = target.__mro__[:-1] if inspect.isclass(target) else ()
    for function in [vars(owner)["__init__"] for owner in classes if "__init__" in vars(owner)] or [target]:
        try:
            parameters = inspect.signature(function).parameters
            found = get_type_hints(function)
        except (TypeError, ValueError, NameError, AttributeError):
            break
        for name, parameter in parameters.items():
            if name in found and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                hints.setdefault(name, found[name])
                if parameter.default is not parameter.empty:
                    defaults.setdefault(name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return hints, defaults


def _holds_expression(value: Any) -> bool:
    """Tell whether a value has to be evaluated first: an expression, a reference, a component or a list of them."""
    if isinstance(value, dict):
        return True
    return (
        any(map(_holds_expression, value)) if isinstance(value, list) else isinstance(value, str) and value[:1] in "$@%"
    )


def _is_equal(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether an annotation allows a plain value; annotations that say little allow all."""
    if (choices := _alternatives(hint)) is not None:
        return any(_fits(value, choice) for choice in choices)
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin is not None:
        return _fits_container(value, origin, get_args(hint))
    if hint in (bool, int, str, type(None)):
        return type(value) is hint
    if hint is float:
        return type(value) in (int, float)
    return not _is_own_class(hint) or isinstance(value, hint)


def _fits_container(value: Any, origin: Any, items: tuple[Any, ...]) -> bool:
    if value is None:
        return True
    if origin is collections.abc.Callable:
        return isinstance(value, str)  # some functions may be given by their names
    if not inspect.isclass(origin) or not issubclass(origin, collections.abc.Iterable):
        return True
    if not isinstance(value, list | tuple):
        return isinstance(value, str) and not issubclass(origin, list | tuple)  # text is a sequence of text
    return len(set(items) - {...}) != 1 or all(_fits(part, items[0]) for part in value)


def _alternatives(hint: Any) -> tuple[Any, ...] | None:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else None


@cache
def _is_own_class(hint: Any) -> bool:
    """Tell whether an annotation is a class that no plain value is an instance of and none can stand for."""
    if not inspect.isclass(hint) or issubclass(hint, enum.Enum):
        return False
    return hint.__module__.split(".")[0] in ("medpos", "monai", "ignite") or hint.__module__.startswith("torch.nn")


def _describe(hint: Any) -> str:
    """Describe the values that an annotation allows."""
    if (choices := _alternatives(hint)) is not None:
        return " or ".join(dict.fromkeys(map(_describe, choices)))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if hint in _TYPES:
        return _TYPES[hint]
    origin = get_origin(hint)
    if origin is collections.abc.Callable:
        return "a function"
    if inspect.isclass(origin) and issubclass(origin, collections.abc.Mapping):
        return "keys with values"
    return "a list" if origin is not None else f"an object of {getattr(hint, '__name__', hint)}"
