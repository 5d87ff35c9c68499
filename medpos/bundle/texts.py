"""Keep texts of a configuration as they were written: MONAI and its command line change some of them.

MONAI replaces ``#`` by ``::`` in every text, and reads texts that begin with ``$``, ``@`` or ``%`` as expressions,
references and macros. Its command line, Fire, reads ``1e5`` as a number and ends ``a#b`` at the ``#``.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from medpos.core.config import Config, as_literal, follow_references
from medpos.core.rules import load_rules


def find_texts_as_typed(arguments: Sequence[str]) -> dict[str, str]:
    """Find the options of a command line, ``--KEY VALUE`` or ``--KEY=VALUE``, whose value should be a text.

    Args:
        arguments: arguments of ``monai.bundle run``.

    Returns:
        Each text as it was typed, by key; expressions and quoted texts are left out.
    """
    found: dict[str, str] = {}
    for place, argument in enumerate(arguments):
        key, equals, value = argument.removeprefix("--").partition("=")
        key = key.replace("-", "_")
        if not argument.startswith("--") or not _is_text(key):
            continue
        value = value if equals else next(iter(arguments[place + 1 : place + 2]), "")
        if value and value[0] not in "$@%'\"" and not value.startswith("--") and value != "None":
            found[key] = value
    return found


def restore_texts(parser: ConfigParser, given: Mapping[str, Any]) -> None:
    """Restore the texts that MONAI or its command line changed, such as paths with ``#``.

    Args:
        parser: parser of the bundle, with the overrides applied.
        given: overrides as MONAI got them.
    """
    config = parser.get()
    typed = find_texts_as_typed(sys.argv[1:]) if is_monai_command() else {}
    texts = {**{key: text for key, text in given.items() if _is_text(key) and isinstance(text, str)}, **typed}
    texts = {key: text for key, text in texts.items() if text[:1] not in ("$", "@", "%") and key in config}
    for key in config.keys() - texts.keys():
        if _is_text(key) and (path := _find_path(config[key])):
            texts[key] = path
    changed = {key: as_literal(text) for key, text in texts.items() if config[key] != text or "#" in text}
    if changed:
        replace(parser, changed)


def _is_text(key: str) -> bool:
    """Tell whether the command line reads the values of a key as texts: the first type of its rule."""
    types = load_rules().get(key, {}).get("type", ())
    return "string" in (types, *types[:1])


def _find_path(text: Any) -> str:
    """Return an existing path with ``#``, of which MONAI made ``::``; empty where there is none."""
    if not isinstance(text, str) or "::" not in text or text[:1] in ("$", "@", "%"):
        return ""
    path = text.replace("::", "#")
    return path if Path(path).exists() and not Path(text).exists() else ""


def is_monai_command() -> bool:
    """Tell whether this process is ``python -m monai.bundle``, also one that torchrun started."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == "monai.bundle.__main__"


def replace(parser: ConfigParser, values: Config) -> None:
    """Change values of a parser that has read some already; they, and all that depends on them, are read again.

    Args:
        parser: parser of a bundle.
        values: new values of top-level keys.
    """
    config = parser.get()
    config.update(values)
    stale = {
        key for key, value in config.items() if key in values or follow_references([value], config) & values.keys()
    }
    resolver = parser.ref_resolver
    items, resolved = (
        {name: part for name, part in read.items() if name.split("::")[0] not in stale}
        for read in (resolver.items, resolver.resolved_content)
    )
    parser.parse(reset=True)
    resolver.items.update(items)
    resolver.resolved_content.update(resolved)
