"""Check the values of a bundle's keys against their rules, before anything is built or read from the data.

The rules come from ``bundles/src/keys.yaml``; keys that a bundle's own ``metadata.json`` describes are checked too.
"""

import ast
import builtins
import re
import types
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver

from medpos.core.config import ENTRY_POINTS, Config, find_texts, follow_references, is_referred_to
from medpos.core.errors import InputError, first_line
from medpos.core.rules import KEYS, Rule, check_value, load_rules

# Parts of a bundle that hold keys or a list, or are made by an expression.
_PARTS: tuple[str, ...] = ("imports", "network_def", "network", "source", "steps", "decode", "standardise", "train")
_PARTS += ("validate", "preprocessing", "dataset", "dataloader", "inferer", "postprocessing", "key_metric", "handlers")
_PARTS += ("evaluator", "run_folder", "board", "device_memory", "phantom", "begin_test", "known_keys", "_meta_")
_PARTS += tuple(sorted(ENTRY_POINTS))
_TRAINING: tuple[str, ...] = ("preprocessing", "dataset", "sampler", "dataloader", "optimizer", "inferer", "handlers")
_TRAINING += ("trainer", "loss", "postprocessing", "key_metric", "evaluator")
_INNER = {"train": _TRAINING, "validate": _TRAINING, "phantom": ("values", "instead_of")}
_DATA = "data_folder"  # evaluating it makes phantoms
_REFERENCES = "__local_refs"  # MONAI's name of the values that an expression refers to
_REFERENCE = re.compile(r"@\w+((::|#)\w+)*")
_PROBES = {"medpos.transforms.ProbedPosition", "ProbedPosition"}
# The study's distances are the default for every image size; a shift out of a smaller image leaves nothing of it.
_USUAL_SHIFTS = tuple(range(8, 65, 8))


def check_values(parser: ConfigParser) -> None:
    """Refuse values of a wrong type or range.

    Expressions and references are evaluated where they rest on other plain keys alone.

    Args:
        parser: parser of the bundle, with the overrides applied.

    Raises:
        InputError: a value is wrong; the message names the key, the value and what was expected.
    """
    config = parser.get()
    rules = {key: rule for key, rule in _find_rules(config).items() if key in config and not _is_section(key, config)}
    expressions = {key: config[key] for key in rules if _is_expression(config[key])}
    for key, rule in rules.items():
        if key not in expressions:
            check_value(key, config[key], rule)
    for key, value in expressions.items():
        if {key, *follow_references([value], config)} <= rules.keys() - {_DATA}:
            check_value(key, _evaluate(parser, key, value), rules[key])


def check_parts(config: Config) -> None:
    """Refuse a single value in place of a part of a bundle, such as ``--network_def 3``.

    Args:
        config: raw configuration, with the overrides applied.

    Raises:
        InputError: a part is a single value.
    """
    found = {key: config[key] for key in _PARTS if key in config}
    for section, keys in _INNER.items():
        inner = config.get(section)
        found |= {f"{section}#{key}": inner[key] for key in keys if isinstance(inner, dict) and key in inner}
    for key, value in found.items():
        if not isinstance(value, dict | list | None) and not _is_expression(value):
            raise InputError(
                f"--{key}: expected keys with values, a list or an expression, got {value!r:.60}; set one of its parts "
                f"by --{key}#KEY"
            )


def check_references(parser: ConfigParser) -> None:
    """Refuse references to keys of any level that the bundle lacks.

    Args:
        parser: parser of the bundle, with the overrides applied.

    Raises:
        InputError: a key is missing; the message names it and the place of the reference.
    """
    for place, text in _find_texts(parser.get()):
        for reference in ReferenceResolver.match_refs_pattern(text):
            if reference and reference not in parser:
                key = reference.replace("::", "#")
                raise InputError(
                    f"--{place}: {text!r} refers to the key {key}, which the bundle lacks; correct it, or write a path "
                    f"of that name as './{text}'"
                )


def check_expressions(parser: ConfigParser) -> None:
    """Refuse expressions of any level that no value could make right: their syntax, a name or a module's part is wrong.

    Nothing is evaluated, so this holds for the entry points too, which run late.

    Args:
        parser: parser of the bundle, with the overrides applied; parts of its modules are checked once the bundle's
            ``imports`` are evaluated.

    Raises:
        InputError: an expression is wrong; the message names its place.
    """
    trees = {}
    for place, text in _find_texts(parser.get()):
        if text[0] == "$":
            trees[place] = _read_expression(place, text)
    imported = {
        alias.asname or alias.name
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    known = {*vars(builtins), *parser.globals, *imported, _REFERENCES}
    for place, tree in trees.items():
        problem = _find_unknown_name(tree, known) or _find_missing_part(tree, parser.globals)
        if problem:
            raise InputError(f"--{place}: can't be evaluated ({problem}); correct the expression or the imports")


def _read_expression(place: str, text: str) -> ast.Module:
    """Return the syntax tree of an expression or import, as MONAI reads it."""
    source = ReferenceResolver.update_refs_pattern(text, dict.fromkeys(ReferenceResolver.match_refs_pattern(text)))[1:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree: ast.Module = ast.parse(source)
            if not any(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body):
                compile(source, "<string>", "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refuse(place, text, first_line(error)) from error
    return tree


def _refuse(place: str, text: str, reason: str) -> InputError:
    return InputError(
        f"--{place}: {text!r} can't be evaluated ({reason}); text that begins with '$' is an expression, so correct "
        "it, or write a path of that name as './$...'"
    )


def _find_unknown_name(tree: ast.Module, known: set[str]) -> str:
    """Describe a name of an expression that neither Python, the imports nor the expression define; empty if none."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    unknown = [node.id for node in names if node.id not in known | bound]
    return f"name {unknown[0]!r} is not defined" if unknown else ""


def _find_missing_part(tree: ast.Module, modules: Mapping[str, Any]) -> str:
    """Describe a part of a module that an expression names and the module lacks; empty if there is none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = modules.get(node.value.id)
            if isinstance(owner, types.ModuleType) and not hasattr(owner, node.attr):
                return f"module {owner.__name__!r} has no attribute {node.attr!r}"
    return ""


def _find_texts(node: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts of a configuration with their places, ``#`` between the keys, without descriptions."""
    if isinstance(node, str) and node[:1] in ("$", "@"):
        yield place, node
    elif isinstance(node, dict | list):
        for key, part in node.items() if isinstance(node, dict) else enumerate(node):
            if key not in ("_desc_", "_meta_"):
                yield from _find_texts(part, f"{place}#{key}" if place else str(key))


def check_relations(config: Config) -> None:
    """Refuse values that don't fit each other, or the network.

    Args:
        config: raw configuration, with the values of phantom mode.

    Raises:
        InputError: a distance of ``shift_pixels`` isn't below ``image_size``, or ``conditions`` change position
            channels that the bundle lacks.
    """
    given = config.get("conditions", ())
    if "position" in ([given] if isinstance(given, str) else given) and not _PROBES & set(find_texts([config])):
        raise InputError(
            "--conditions: expected clean, degradations or shifts, got 'position', and this bundle has no position "
            "channels; leave it out, or take a bundle that ends in _pe"
        )
    size, distances = config.get("image_size"), config.get("shift_pixels")
    if not isinstance(size, int) or not isinstance(distances, list | tuple) or tuple(distances) == _USUAL_SHIFTS:
        return
    if far := [distance for distance in distances if distance >= size]:
        raise InputError(
            f"--shift_pixels: expected distances below the image_size of {size} px, got {far[0]}; nothing of the image "
            "would be left, so give smaller ones"
        )


def _find_rules(config: Config) -> Mapping[str, Rule]:
    """Return the rules of all keys; those of the bundle's metadata, which MONAI keeps as ``_meta_``, come first."""
    own = (config.get("_meta_") or {}).get(KEYS)
    return {**load_rules(), **(own if isinstance(own, dict) else {})}


def _is_section(key: str, config: Config) -> bool:
    """Tell whether a key holds others, such as the ``window`` of CT, which has the name of a key of DeepLab."""
    return isinstance(config[key], dict) and is_referred_to(key, config, "(::|#)")


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and (value[:1] == "$" or _REFERENCE.fullmatch(value) is not None)


def _evaluate(parser: ConfigParser, key: str, value: str) -> Any:
    try:
        return parser.get_parsed_content(key)
    except Exception as error:  # an expression may raise anything
        raise _refuse(key, value, first_line(error.__cause__ or error)) from error
