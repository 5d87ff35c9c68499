"""Know the keys of a bundle: keys that something refers to, entry points, and a few reserved names.

A key of the bundle's file may be unused: an override of ``train#optimizer`` makes ``momentum`` unused. MONAI
appends overrides to the keys of the file, and a bundle's file ends with its entry points.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, TrainProperties

from medpos.bundle import tracking
from medpos.core.config import ENTRY_POINTS, Config, find_references, is_entry_point
from medpos.core.errors import InputError

# Read by medpos or by people from the file or the run folder, even if nothing in it refers to them.
_MEDPOS_KEYS = frozenset(
    {
        "_desc_",
        "imports",
        "known_keys",
        "bundle_name",
        "bundle_root",
        "data_sha256",
        "phantom",
        "amp",
        "allow_training_cases",
    }
)
# Read by MONAI's tools.
_MONAI_KEYS = {entry["id"].split("::")[0] for entry in [*TrainProperties.values(), *InferProperties.values()]}
# MONAI itself adds the keys of MLflow tracking and of metadata.
_RESERVED = _MEDPOS_KEYS | _MONAI_KEYS | tracking.KEYS | {"_meta_"}


def known_keys(config: Config) -> list[str]:
    """List the known top-level keys of a bundle; any other key is a mistake.

    Args:
        config: raw configuration. Bundles of earlier versions, and the configuration of a run, list their keys as
            ``known_keys``.
    """
    used = {name for key, value in config.items() for name in find_references([value]) - {key}}
    known = used | _RESERVED | set(config.get("known_keys", ()))
    last = max((place for place, item in enumerate(config.items()) if is_entry_point(*item)), default=-1)
    return [key for place, key in enumerate(config) if place <= last or key in known]


def suggest(key: str, known: Collection[str], option: str = "--") -> str:
    """Return a hint at the known key that is most similar to a mistyped one; a full stop where none is.

    Args:
        key: the mistyped key.
        known: the known keys.
        option: text before the key on the command line.
    """
    near = difflib.get_close_matches(key, [str(name) for name in known], n=1, cutoff=0.4)
    return f"; did you mean {option}{near[0]}?" if near else "."


def check_entry_point(config: Config, name: str) -> None:
    """Refuse an entry point that a bundle lacks.

    Args:
        config: raw configuration.
        name: name of the entry point.

    Raises:
        InputError: there is none; the message names the most similar one and all of them.
    """
    known = [
        key for key, value in config.items() if is_entry_point(key, value) and key not in ("initialize", "finalize")
    ]
    is_text = str(config.get(name)).startswith("$")
    if name not in known and not (is_text and name not in ENTRY_POINTS):
        raise InputError(
            f"{name or repr(name)}: the bundle has no such entry point{suggest(name, known, '')} It has: "
            f"{', '.join(known) or 'none'}"
        )


def apply_overrides(parser: ConfigParser, overrides: Mapping[str, Any]) -> None:
    """Set values in a bundle, as MONAI's command line does, after a check of the path of each key.

    Args:
        parser: parser of the bundle, changed in place.
        overrides: values by key; ``#`` or ``::`` stand between the parts of a nested key.

    Raises:
        InputError: a nested key leads nowhere; the message names the part and the most similar right one.
    """
    for key, value in overrides.items():
        check_path(parser.get(), key)
        parser[key] = value


def check_path(config: Config, key: str) -> None:
    """Refuse a nested key that leads nowhere: each part but the last has to be there.

    Args:
        config: raw configuration.
        key: key of any level.

    Raises:
        InputError: a part is missing; the message names it and the most similar right one.
    """
    node: Any = config
    *parents, last = key.replace("::", "#").split("#")
    for place, part in enumerate(parents):
        before = "".join(f"{name}#" for name in parents[:place])
        node = _enter(node, part, f"override --{key}", before)
    if isinstance(node, list) and not (last.isdecimal() and int(last) < len(node)):
        raise InputError(f"override --{key}: expected a number below {len(node)} as the last part, got {last!r}")
    if parents and not isinstance(node, dict | list):
        raise InputError(f"override --{key}: {'#'.join(parents)} is a single value and has no parts; set it as a whole")


def _enter(node: Any, part: str, where: str, before: str) -> Any:
    """Return a part of a dictionary or list."""
    if isinstance(node, dict):
        if part not in node:
            known = [name for name in node if not name.startswith("_")]
            owner = before.rstrip("#") or "the bundle"
            raise InputError(f"{where}: {owner} has no key {part}{suggest(part, known, f'--{before}')}")
        return node[part]
    if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
        return node[int(part)]
    expected = f"a number below {len(node)}" if isinstance(node, list) else "no further part, for it is a single value"
    raise InputError(f"{where}: behind {before.rstrip('#')}: expected {expected}, got {part!r}; correct the key")
