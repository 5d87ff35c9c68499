"""Merging the fragments of ``bundles/src`` into self-contained bundles, by MONAI's own rules.

Later fragments win; ``a::b`` reaches inside, ``+a`` extends, ``-a`` takes away. Steps and handlers have names in the
fragments. What a bundle doesn't use, steps and imports, is left out of it.
"""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser
from monai.bundle.config_parser import merge_kv

from medpos.core.config import find_texts

Config = dict[str, Any]
WIDTH = 120  # columns of a bundle's file
_INDENT = 4
_SHORT = 60  # columns of a dictionary that may stand beside others
_FLAT = (str, int, float, bool, type(None))


def recipes(source: Path) -> dict[str, Config]:
    """Read which ``fragments`` make which bundle, and its ``card``.

    Args:
        source: folder of the fragments.
    """
    content: dict[str, Config] = yaml.safe_load((source / "recipes.yaml").read_text(encoding="utf-8"))
    return content


def fragment(path: Path) -> Config:
    """Read one fragment as it is written."""
    content: Config = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def merge(
    source: Path,
    fragments: Sequence[str],
    name: str,
    description: str | list[str],
    own: Mapping[str, Any] | None = None,
) -> Config:
    """Merge fragments into one bundle: description and flat keys first, since those are what people look for.

    Args:
        source: folder of the fragments.
        fragments: their names, in order.
        name: of the bundle.
        description: its ``_desc_``.
        own: what comes after the fragments, in their notation.
    """
    parser = ConfigParser(ConfigParser.load_config_files([source / f"{fragment}.yaml" for fragment in fragments]))
    for key, value in (own or {}).items():
        merge_kv(parser, key, value)
    config = dict(parser.get())
    for key in [key for key in config if key.startswith("-")]:
        del config[key], config[key[1:]]
    config["bundle_name"] = name
    config["phantom"] = _phantom(config)
    for section in (config["train"], config["validate"], config):
        # A plain list in the bundle: MONAI Label and MONAI's tracking look into it.
        section["handlers"] = list(section["handlers"].values())
    config["steps"] = {step: config["steps"][step] for step in _used_steps(config)}
    config["imports"] = _used_imports(config)
    flat = {key: value for key, value in config.items() if isinstance(value, _FLAT) and not _needs_objects(value)}
    ordered = {"_desc_": description, "imports": config["imports"], **flat, "phantom": config["phantom"]}
    ordered |= {key: value for key, value in config.items() if key not in ordered}
    return {key: value for key, value in ordered.items() if value != {} or key != "phantom"}


def _phantom(config: Config) -> Config:
    """The section of phantom mode with the bundle's own values beside; empty where the data have no phantoms."""
    section = config["phantom"]
    return {**section, "instead_of": {key: config[key] for key in section["values"]}} if "data" in section else {}


def _used_steps(config: Config) -> list[str]:
    """Names of the steps that a chain refers to, in that order."""
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
    """Write JSON for people: short things side by side, up to 120 columns.

    Args:
        content: of the file; each of its keys begins a line.

    Returns:
        The file's text.
    """
    lines = [f"{json.dumps(key)}: " for key in content]
    lines = [key + _json(value, _INDENT, len(key)) for key, value in zip(lines, content.values(), strict=True)]
    return _enclosed("{}", lines, 0) + "\n"


def _json(value: Any, indent: int, before: int) -> str:
    """A value as JSON, on one line or more.

    Args:
        value: to write.
        indent: of the line on which it begins, in columns.
        before: columns that stand before it on that line, behind the indent.
    """
    line = json.dumps(value)
    if not value or not isinstance(value, dict | list) or indent + before + len(line) < WIDTH:
        return line
    keys = [f"{json.dumps(key)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
    values = value.values() if isinstance(value, dict) else value
    lines: list[str] = []
    joins = False  # whether the next item may stand on the last line
    for key, part in zip(keys, values, strict=True):
        item = key + _json(part, indent + _INDENT, len(key))
        # Dictionaries, and the steps of an entry point, are read one by one.
        plain = not (
            key.startswith(('"_desc_', '"_target_')) or item.startswith('"$') or (len(item) > _SHORT and "{" in item)
        )
        if joins and plain and indent + _INDENT + len(f"{lines[-1]}, {item},") <= WIDTH:
            lines[-1] += f", {item}"
        else:
            lines.append(item)
        joins = plain or key.startswith('"_target_')
    return _enclosed("{}" if isinstance(value, dict) else "[]", lines, indent)


def _enclosed(brackets: str, lines: Sequence[str], indent: int) -> str:
    """Lines within brackets; ``indent`` is that of the brackets, in columns."""
    inner = "\n" + (indent + _INDENT) * " "
    return brackets[0] + inner + f",{inner}".join(lines) + "\n" + indent * " " + brackets[1]


def metadata(content: Config, inputs: Sequence[str], classes: Sequence[str] = (), size: str = "") -> Config:
    """A bundle's ``metadata.json`` for other channels.

    Args:
        content: to start from; is not changed.
        inputs: names of the network's input channels.
        classes: names of its output channels, background first; those of ``content`` by default.
        size: which sides of an image the network takes, as ``"16*n"``; those of ``content`` by default.
    """
    changed = copy.deepcopy(content)
    formats = changed["network_data_format"]
    for part, names in ((formats["inputs"]["image"], inputs), (formats["outputs"]["pred"], classes)):
        if size:
            part["spatial_shape"] = [size, size]
        if names:
            part |= {"num_channels": len(names), "channel_def": {str(n): name for n, name in enumerate(names)}}
    return changed
