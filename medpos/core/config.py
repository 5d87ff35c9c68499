"""Follow the references between the keys of a bundle's configuration, and tell its entry points and steps."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

Config = dict[str, Any]

ENTRY_POINTS = frozenset({"initialize", "run", "finalize", "evaluate", "robustness", "shift"})
_REFERENCE = re.compile(r"[@%]([A-Za-z_]\w*)")


def is_entry_point(key: str, value: Any) -> bool:
    """Whether ``python -m monai.bundle run KEY`` can run this: it has such a name, or is a list of expressions."""
    has_steps = isinstance(value, list) and any(str(part).startswith("$") for part in value)
    return key in ENTRY_POINTS or (has_steps and key != "imports")


def is_referred_to(key: str, config: Config, end: str = r"(?!\w)") -> bool:
    """Whether anything in the configuration refers to this key, nested as ``a::b``.

    Args:
        key: of any level.
        config: raw configuration.
        end: regular expression of what may follow the key.
    """
    wanted = re.compile(f"[@%]{re.escape(key).replace('::', '(?:::|#)')}{end}")
    return any(wanted.search(text) for text in texts([config]))


def texts(values: Iterable[Any]) -> Iterator[str]:
    """Find all texts anywhere inside dictionaries and lists."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            yield from texts(value.values() if isinstance(value, dict) else value)


def names(values: Iterable[Any]) -> set[str]:
    """Find the top-level keys that are referred to anywhere inside."""
    return {name for text in texts(values) for name in _REFERENCE.findall(text)}


def referred(values: Iterable[Any], config: Config, elsewhere: Collection[str] = ()) -> set[str]:
    """Find the top-level keys that are referred to anywhere inside, and what those refer to in turn.

    Args:
        values: where to begin.
        config: raw configuration.
        elsewhere: keys not to follow, left out.
    """
    found: set[str] = set()
    new = (names(values) & config.keys()) - set(elsewhere)
    while new:
        found |= new
        new = (names(config[key] for key in new) & config.keys()) - set(elsewhere) - found
    return found


def step(config: Config, part: Any) -> Any:
    """The content of a chain's part: a named step, ``"@steps::resize"``, or the part itself."""
    name = part.removeprefix("@steps::") if isinstance(part, str) else ""
    return config.get("steps", {}).get(name, part)


def with_steps(value: Any, config: Config) -> Any:
    """A part of a configuration with the content of its steps in place of their names, and without its remarks."""
    content = step(config, value) if isinstance(value, str) else value
    if isinstance(content, dict):
        return {key: with_steps(part, config) for key, part in content.items() if key != "_desc_"}
    return [with_steps(part, config) for part in content] if isinstance(content, list) else content
