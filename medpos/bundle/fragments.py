"""Merge the fragments of ``bundles/src`` into self-contained bundles, by MONAI's rules for several configuration files.

Later fragments override earlier ones; ``a::b`` names a nested key, ``+a`` extends a list or dictionary, ``-a`` removes
a key. Steps and handlers have names in the fragments. Unused steps and imports are left out of the bundle.
"""

import copy
import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser
from monai.bundle.config_parser import merge_kv

from medpos.core.config import find_texts
from medpos.transforms.intensity.degradations import TABLES

Config = dict[str, Any]
WIDTH = 120  # maximum length of a line in a bundle's file
_INDENT = 4
_SHORT = 60  # maximum length of a dictionary that shares a line
_FLAT = (str, int, float, bool, type(None))


def load_recipes(source: Path) -> dict[str, Config]:
    """Load the recipes of the bundles: the names of their ``fragments`` and the lines of their ``card``, by bundle.

    Args:
        source: folder of the fragments.
    """
    content: dict[str, Config] = yaml.safe_load((source / "recipes.yaml").read_text(encoding="utf-8"))
    return content


def load_keys(source: Path) -> dict[str, dict[str, Config]]:
    """Load the schema of the bundles' keys: for each section of the reference page the rules of its keys.

    Args:
        source: folder of the fragments.
    """
    content: dict[str, dict[str, Config]] = yaml.safe_load((source / "keys.yaml").read_text(encoding="utf-8"))
    return content


def load_fragment(path: Path) -> Config:
    """Load one fragment, not merged."""
    return copy.deepcopy(_parse(path, path.stat().st_mtime_ns))


@functools.cache
def _parse(path: Path, changed: int) -> Config:
    """Parse a fragment, once for all the bundles that share it."""
    content: Config = ConfigParser.load_config_file(path)
    return content


def merge(
    source: Path,
    fragments: Sequence[str],
    name: str,
    description: str | list[str],
    own: Mapping[str, Any] | None = None,
) -> Config:
    """Merge fragments into one bundle, with description, imports and plain values first, where readers look for them.

    Args:
        source: folder of the fragments.
        fragments: names of the fragments, in order.
        name: name of the bundle.
        description: ``_desc_`` of the bundle.
        own: values that override the fragments, in their notation.
    """
    parser = ConfigParser({})
    for content in (*(load_fragment(source / f"{fragment}.yaml") for fragment in fragments), own or {}):
        for key, value in content.items():
            merge_kv(parser, key, value)
    config = dict(parser.get())
    for key in [key for key in config if key.startswith("-")]:
        del config[key], config[key[1:]]
    config["bundle_name"] = name
    config["degradation_table"] = TABLES[config["degradation_table"]]
    config["phantom"] = _phantom(config)
    for section in (config["train"], config["validate"], config):
        # MONAI Label and MONAI's tracking expect a plain list in the bundle.
        section["handlers"] = list(section["handlers"].values())
    config["steps"] = {step: config["steps"][step] for step in _used_steps(config)}
    config["imports"] = _used_imports(config)
    flat = {key: value for key, value in config.items() if isinstance(value, _FLAT) and not _needs_objects(value)}
    ordered = {"_desc_": description, "imports": config["imports"], **flat, "phantom": config["phantom"]}
    ordered |= {key: value for key, value in config.items() if key not in ordered}
    return {key: value for key, value in ordered.items() if value != {} or key != "phantom"}


def _phantom(config: Config) -> Config:
    """Return the section of phantom mode with the bundle's usual values; empty for data without phantoms."""
    section = config["phantom"]
    return {**section, "instead_of": {key: config[key] for key in section["values"]}} if "data" in section else {}


def _used_steps(config: Config) -> list[str]:
    """List the steps that chains refer to, in the order of the references."""
    rest = {key: value for key, value in config.items() if key != "steps"}
    return list(dict.fromkeys(re.findall(r"@steps::(\w+)", json.dumps(rest))))


def _used_imports(config: Config) -> list[str]:
    rest = [value for key, value in config.items() if key != "imports"]
    expressions = " ".join(text for text in find_texts(rest) if text.startswith("$"))
    aliases = {line: line.rpartition(" ")[2] for line in config["imports"]}
    return [line for line, alias in aliases.items() if re.search(rf"\b{re.escape(alias)}\.", expressions)]


def _needs_objects(value: Any) -> bool:
    return isinstance(value, str) and ("@network" in value)


def dumps(content: Config) -> str:
    """Format JSON for human readers: short values share a line of up to 120 characters.

    Args:
        content: content of the file; each of its keys begins a line.

    Returns:
        Text of the file.
    """
    lines = [f"{json.dumps(key)}: " for key in content]
    lines = [key + _json(value, _INDENT, len(key)) for key, value in zip(lines, content.values(), strict=True)]
    return _enclosed("{}", lines, 0) + "\n"


def _json(value: Any, indent: int, before: int) -> str:
    """Format a value as JSON on one or more lines.

    Args:
        value: JSON value.
        indent: indent of its first line in characters.
        before: number of characters between the indent and the value.
    """
    line = json.dumps(value)
    if not value or not isinstance(value, dict | list) or indent + before + len(line) < WIDTH:
        return line
    keys = [f"{json.dumps(key)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
    values = value.values() if isinstance(value, dict) else value
    lines: list[str] = []
    joins = False  # whether the next item may share the last line
    for key, part in zip(keys, values, strict=True):
        item = key + _json(part, indent + _INDENT, len(key))
        # Long dictionaries and the expressions of an entry point get lines of their own.
        is_step = item.startswith('"$') and not item.startswith('"$import ')
        plain = not (key.startswith(('"_desc_', '"_target_')) or is_step or (len(item) > _SHORT and "{" in item))
        if joins and plain and indent + _INDENT + len(f"{lines[-1]}, {item},") <= WIDTH:
            lines[-1] += f", {item}"
        else:
            lines.append(item)
        joins = plain or key.startswith('"_target_')
    return _enclosed("{}" if isinstance(value, dict) else "[]", lines, indent)


def _enclosed(brackets: str, lines: Sequence[str], indent: int) -> str:
    """Enclose lines in brackets with an indent in characters."""
    inner = "\n" + (indent + _INDENT) * " "
    return brackets[0] + inner + f",{inner}".join(lines) + "\n" + indent * " " + brackets[1]


def adapt_metadata(content: Config, inputs: Sequence[str], classes: Sequence[str] = (), size: str = "") -> Config:
    """Adapt the content of a ``metadata.json`` to other channels and image sizes.

    Args:
        content: original content, not changed.
        inputs: names of the network's input channels.
        classes: names of the output channels, background first; those of ``content`` by default.
        size: valid sides of an image, such as ``"16*n"``; those of ``content`` by default.

    Returns:
        Adapted copy.
    """
    changed = copy.deepcopy(content)
    formats = changed["network_data_format"]
    for part, names in ((formats["inputs"]["image"], inputs), (formats["outputs"]["pred"], classes)):
        if size:
            part["spatial_shape"] = [size, size]
        if names:
            part |= {"num_channels": len(names), "channel_def": {str(n): name for n, name in enumerate(names)}}
    return changed
