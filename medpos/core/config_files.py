"""Read a bundle or overlay in JSON or YAML, and name the line of whatever YAML would read in another way than meant.

MONAI reads YAML 1.1, in which ``1e-3`` is text, ``on`` is true, ``010`` is 8, ``1:30`` is 90 and the last of two equal
keys wins, all without a word.
"""

import ast
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medpos.core.config import Config
from medpos.core.errors import InputError
from medpos.core.files import read_bytes, read_json

SUFFIXES = (".json", ".yaml", ".yml")
_ADVICE = "correct the file"
_DEEPEST = 100  # levels of keys and lists
_MOST_NODES = 1_000_000  # with aliases written out
_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_REFERENCE = re.compile(r"@[\w:#]*")


def read_config(path: Path) -> Config:
    """Read one file of a configuration.

    Args:
        path: file in JSON or YAML, by its suffix, in UTF-8.

    Raises:
        InputError: the file can't be read, or a value would be read in another way than meant; the message is one line
            that names file and, in YAML, line.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected a configuration as {', '.join(SUFFIXES)}, got another suffix; rename it")
    content = read_json(path, _ADVICE) if path.suffix.lower() == ".json" else _read_yaml(path)
    if _is_deeper(content, _DEEPEST):
        raise InputError(f"{path}: expected at most {_DEEPEST} levels of keys and lists, got more; {_ADVICE}")
    if "" in content:  # for MONAI the whole configuration
        raise InputError(f"{path}: expected a name for each key, got an empty one; name it, or remove it")
    return content


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in parts)


def find_config(folder: Path, name: str) -> Path:
    """Return the file of a bundle in a folder: ``NAME.json``, or the YAML file of the name where there is no JSON."""
    paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return next((path for path in paths if path.exists()), paths[0])


def _read_yaml(path: Path) -> Config:
    import yaml

    text = _decode(path)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise InputError(f"{path}, line 1: expected keys with values, such as 'max_epochs: 20', got none; add them")
        _check(path, node, {})
        content: Config = loader.construct_document(node)
    except RecursionError:
        raise InputError(f"{path}: expected at most {_DEEPEST} levels of keys and lists, got more; {_ADVICE}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        shown = text.splitlines()[line - 1] if mark and line <= len(text.splitlines()) else ""
        raise InputError(f"{path}, line {line}: {_explain(error, shown, mark)}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{path}, line {line}: expected text, got the control character {error.character!r}; remove it"
        ) from error
    return content


def _decode(path: Path) -> str:
    content = read_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: expected UTF-8, got the byte 0x{content[error.start]:02x}; save the file as UTF-8"
        ) from error


def _explain(error: Any, line: str, mark: Any) -> str:
    """Say in plain words what PyYAML found."""
    column = 0 if line.startswith("%") or not mark else mark.column
    start, indent = line[column:].strip(), line[: len(line) - len(line.lstrip())]
    if "\t" in indent or line[column : column + 1] == "\t":
        return "expected spaces, got a tab; indent by spaces alone"
    if "$" in line and (start[:1] in ("@", "%") or "mapping values" in str(error.problem)):
        return f'expected quotes around the whole expression, got {line.strip()}; write "$..."'
    if start[:1] in ("@", "%", "`"):
        return f'expected quotes around a text that begins with {start[0]!r}; write "{start}"'
    return f"expected YAML, got: {error.problem or error.context}; look at this line and the one before"


def _check(path: Path, node: Any, sizes: dict[int, int]) -> int:
    """Check a node with all that it contains; an anchor's content once.

    Args:
        path: the file, for messages.
        node: node of PyYAML.
        sizes: sizes of the nodes that were checked already, 0 for those that contain this one; extended in place.

    Returns:
        Size of the node: how many nodes it is with all aliases written out.
    """
    import yaml

    place = f"{path}, line {node.start_mark.line + 1}"
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise InputError(f"{place}: expected values, got an anchor that contains itself; write its content out")
        return sizes[id(node)]
    sizes[id(node)], size = 0, 1
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(path, node)
    else:
        is_list = isinstance(node, yaml.SequenceNode)
        if not is_list:
            _check_keys(path, [key for key, _ in node.value])
        size += sum(_check(path, part, sizes) for part in (node.value if is_list else [part for _, part in node.value]))
    if size > _MOST_NODES:
        raise InputError(f"{place}: expected at most {_MOST_NODES} values, got more by aliases; write them out")
    sizes[id(node)] = size
    return size


def _check_keys(path: Path, keys: Iterable[Any]) -> None:
    seen: dict[str, int] = {}
    for key in keys:
        line = key.start_mark.line + 1
        if key.tag == f"{_TAG}merge":
            raise InputError(
                f"{path}, line {line}: expected keys, got <<, which MONAI doesn't read; write its keys out"
            )
        if key.tag != f"{_TAG}str":
            raise InputError(f'{path}, line {line}: expected text as a key, got {key.value}; write "{key.value}"')
        if key.value in seen:
            raise InputError(
                f"{path}, line {line}: the key {key.value} stands in line {seen[key.value]} already; remove one of them"
            )
        seen[key.value] = line


def _check_scalar(path: Path, node: Any) -> None:
    if node.style is not None and node.tag == f"{_TAG}str":  # quotes say that text is meant
        return
    if advice := _find_surprise(node.tag.removeprefix(_TAG), node.value):
        raise InputError(f"{path}, line {node.start_mark.line + 1}: {advice}")


def _find_surprise(kind: str, text: str) -> str:
    """Return how YAML reads an unquoted value in another way than meant; empty where it doesn't."""
    quoted = f'or "{text}" for the text'
    if kind == "str" and _EXPONENT.fullmatch(text):
        return f"expected a number, got {text}, which YAML takes for text; write {_with_point(text)}, {quoted}"
    if kind == "bool" and text.lower() not in ("true", "false"):
        return f"expected true or false, got {text}; write one of them, {quoted}"
    if kind == "int" and not _INTEGER.fullmatch(text):
        return f"expected a whole number, got {text}, which YAML reads in another way; write its digits, {quoted}"
    if kind == "float" and not _is_plain_float(text):
        return f"expected a finite number, got {text}; write its digits, {quoted}"
    if kind in ("timestamp", "binary", "set", "omap", "pairs"):
        return f'expected a number or text, got {text}, which YAML takes for a {kind}; write "{text}"'
    if kind == "str" and text.startswith("$") and not _is_expression(text):
        return f"expected a complete expression, got {text}; put the whole expression in quotes"
    return ""


def _with_point(text: str) -> str:
    digits, _, exponent = text.lower().partition("e")
    return f"{digits if '.' in digits else digits + '.0'}e{exponent if exponent[0] in '+-' else '+' + exponent}"


def _is_plain_float(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:  # .inf, .nan and sexagesimal numbers
        return False


def _is_expression(text: str) -> bool:
    code = _REFERENCE.sub("_", text[1:].strip())
    try:
        ast.parse(code, mode="exec" if code.startswith(("import ", "from ")) else "eval")
    except SyntaxError:
        return False
    return True
