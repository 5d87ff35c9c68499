"""Follow references in a bundle's configuration, find its entry points and steps, and put data into it as data."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

Config = dict[str, Any]

ENTRY_POINTS = frozenset({"initialize", "run", "finalize", "evaluate", "robustness", "shift"})
# Transforms that change an image under some condition of a test, and never a clean one.
TEST_STEPS = frozenset({"Degraded", "Shifted", "ProbedPosition"})
_EVALUATED = re.compile(r"^[$@%]|#|[@%]::")  # what MONAI evaluates, replaces or takes for a reference
_REFERENCE = re.compile(r"[@%]([A-Za-z_]\w*)")


def is_entry_point(key: str, value: Any) -> bool:
    """Return whether ``python -m monai.bundle run KEY`` can run this key.

    Entry points have one of the names ``ENTRY_POINTS`` or are lists with expressions.

    Args:
        key: top-level key.
        value: its raw value.
    """
    has_steps = isinstance(value, list) and any(str(part).startswith("$") for part in value)
    return key in ENTRY_POINTS or (has_steps and key != "imports")


def is_referred_to(key: str, config: Config, end: str = r"(?!\w)") -> bool:
    """Return whether anything in the configuration refers to a key.

    Args:
        key: key of any level, nested as ``a::b``.
        config: raw configuration.
        end: regular expression of the text that may follow the key.
    """
    wanted = re.compile(f"[@%]{re.escape(key).replace('::', '(?:::|#)')}{end}")
    return any(wanted.search(text) for text in find_texts([config]))


def find_texts(values: Iterable[Any]) -> Iterator[str]:
    """Yield all texts inside nested dictionaries and lists."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            yield from find_texts(value.values() if isinstance(value, dict) else value)


def find_references(values: Iterable[Any]) -> set[str]:
    """Find the top-level keys that nested values refer to."""
    return {name for text in find_texts(values) for name in _REFERENCE.findall(text)}


def follow_references(values: Iterable[Any], config: Config, excluded: Collection[str] = ()) -> set[str]:
    """Find the top-level keys that nested values refer to, directly or through other keys.

    Args:
        values: values with the first references.
        config: raw configuration.
        excluded: keys to leave out and not to follow.
    """
    found: set[str] = set()
    new = (find_references(values) & config.keys()) - set(excluded)
    while new:
        found |= new
        new = (find_references(config[key] for key in new) & config.keys()) - set(excluded) - found
    return found


def find_step(config: Config, part: Any) -> Any:
    """Return the content of a step of a chain.

    Args:
        config: raw configuration.
        part: reference to a named step, such as ``"@steps::resize"``, or the content itself.
    """
    name = part.removeprefix("@steps::") if isinstance(part, str) else ""
    return config.get("steps", {}).get(name, part)


def expand_steps(value: Any, config: Config) -> Any:
    """Replace references to named steps in a part of a configuration by their content; drop remarks (``_desc_``)."""
    content = find_step(config, value) if isinstance(value, str) else value
    if isinstance(content, dict):
        return {key: expand_steps(part, config) for key, part in content.items() if key != "_desc_"}
    return [expand_steps(part, config) for part in content] if isinstance(content, list) else content


def expand_clean_chain(config: Config, name: str = "preprocessing") -> list[Any]:
    """Return the transforms of a chain that change a clean image: without those of ``TEST_STEPS``.

    A chain in the chain is replaced by its transforms, a named step by its content.

    Args:
        config: raw configuration.
        name: top-level key of the chain.
    """
    found: list[Any] = []
    for part in config.get(name, {}).get("transforms", []):
        inner = part[1:] if isinstance(part, str) else ""
        if isinstance(config.get(inner), dict) and "transforms" in config[inner]:
            found += expand_clean_chain(config, inner)
        else:
            found.append(expand_steps(part, config))
    return [step for step in found if str(step.get("_target_", "")).rpartition(".")[2] not in TEST_STEPS]


def as_literal(value: Any) -> Any:
    """Return a value as a configuration holds it so that MONAI reads it as it stands.

    Text that MONAI would evaluate or change becomes an expression of a quoted text; all other text stays.

    Args:
        value: text, number, or nested lists and dictionaries of them, from data.
    """
    if isinstance(value, dict):
        return {key: as_literal(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_literal(part) for part in value]
    return f"${quote(value)}" if isinstance(value, str) and _EVALUATED.search(value) else value


def quote(text: str) -> str:
    """Return a Python literal of a text for an expression, with escapes for the characters that MONAI reads first."""
    return re.sub("[$@%#:]", lambda found: f"\\x{ord(found.group()):02x}", repr(text))
