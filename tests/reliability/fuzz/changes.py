"""Damage files: JSON by its structure, text by its words, anything by its bytes."""

import copy
import json
import re
import struct

from hypothesis import strategies as st

from .repack import repack, unpack

WORDS = [
    "", " ", "0", "-1", "1.5", "1e400", "nan", "inf", "NaN", "9" * 30, "true", "None", "~", "$1", "$__import__('os')",
    "@seed", "%x", "a#b", "a::b", "../../../x", "/tmp/x", "a/b", "\\", "\0", "\n", "\r\n", "\t", "{data}",
    "{0.__class__}", "[]", "{}", "[", '"', "'", "<script>", "*a", "&a", "<<", "!!python/object:os.system", "x" * 5000,
    "é", "\u202e", ":", "%d",
]  # fmt: skip
ODD = [
    None, True, False, 0, 1, -1, 2, 255, 10**6, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e-320, 1e308, float("nan"),
    float("inf"), [], {}, [[]], [0], [None], ["a"], {"a": 1}, {"": {}}, [0, 0, 0], ["a", "a"], [1.5, "x"], *WORDS,
    "\udcff",
]  # fmt: skip
NUMBERS = [b"", b"\0", b"\xff", b"\x7f", b"\x80", b"\x01"] + [
    struct.pack(order + kind, value)
    for order in "<>"
    for kind, values in (
        ("H", (0, 1, 2, 255, 32767, 32768, 65535)),
        ("I", (0, 1, 3, 65536, 2**31 - 1, 2**31, 2**32 - 1)),
        ("Q", (2**33, 2**63, 2**64 - 1)),
        ("f", (float("nan"), float("inf"), -1.0, 1e-30, 3e38)),
        ("d", (float("nan"), float("-inf"), 1e300)),
    )
    for value in values
]
_WORD = re.compile(rb"[\w.+-]+")


def _places(node):
    """List container and key of everything in a JSON value."""
    found = []
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        found.append((node, key))
        if isinstance(value, dict | list):
            found += _places(value)
    return found


@st.composite
def changed_json(draw, content):
    """Draw the text of a JSON value with one to four changes of its structure."""
    root = [copy.deepcopy(content)]
    for _ in range(draw(st.integers(1, 4))):
        places = _places(root)
        node, key = places[draw(st.integers(0, len(places) - 1))]
        change = draw(st.sampled_from(["replace", "replace", "remove", "add", "copy", "move", "nest"]))
        if change == "replace" or (change in ("remove", "move") and node is root):
            node[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif change == "remove":
            del node[key]
        elif change == "add":
            value = copy.deepcopy(draw(st.sampled_from(ODD)))
            if isinstance(node, list):
                node.append(value)
            else:
                node[draw(st.sampled_from(WORDS))] = value
        elif change == "nest":
            node[key] = draw(st.sampled_from([[node[key]], {"a": node[key]}]))
        else:
            other, place = places[draw(st.integers(0, len(places) - 1))]
            value = copy.deepcopy(node[key])
            if isinstance(other, dict) or place < len(other):
                other[place] = value
    return json.dumps(root[0] if root else None).encode()


@st.composite
def changed_text(draw, content):
    """Draw a text with one to four words or lines replaced, removed or repeated."""
    for _ in range(draw(st.integers(1, 4))):
        lines = content.splitlines(keepends=True) or [b""]
        if draw(st.booleans()):
            at = draw(st.integers(0, len(lines) - 1))
            lines[at : at + 1] = [lines[at]] * draw(st.sampled_from([0, 2, 3]))
            content = b"".join(lines)
            continue
        words = list(_WORD.finditer(content)) or [re.match(b"", content)]
        found = words[draw(st.integers(0, len(words) - 1))]
        word = draw(st.sampled_from(WORDS)).encode("utf-8", "surrogatepass")
        content = content[: found.start()] + word + content[found.end() :]
    return content


@st.composite
def changed_bytes(draw, content, first=1 << 12):
    """Draw bytes with one to six changes, most of them among the first bytes, where headers are."""
    for _ in range(draw(st.integers(1, 6))):
        end = min(len(content), draw(st.sampled_from([64, 400, first, len(content)])))
        at = draw(st.integers(0, max(end, 0)))
        change = draw(st.sampled_from(["overwrite", "overwrite", "insert", "remove", "cut", "repeat", "flip"]))
        more = draw(st.sampled_from(NUMBERS))
        if change == "overwrite":
            content = content[:at] + more + content[at + len(more) :]
        elif change == "insert":
            content = content[:at] + more + content[at:]
        elif change == "remove":
            content = content[:at] + content[at + draw(st.sampled_from([1, 2, 4, 100])) :]
        elif change == "cut":
            content = content[:at]
        elif change == "repeat":
            content = (
                content[:at]
                + content[at : at + draw(st.integers(1, 64))] * draw(st.sampled_from([2, 50]))
                + content[at:]
            )
        elif at < len(content):
            content = content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :]
    return content


DEEP = [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 990 + b"]" * 990, b"9" * 5000, b"a: " * 3000]


def changed(name, content):
    """Return a strategy of damaged contents of a file.

    Args:
        name: name of the file, whose suffix says what is in it.
        content: the sound content.
    """
    suffix = name.rpartition(".")[2].lower()
    parts = [changed_bytes(content)]
    if suffix in ("gz", "png"):
        parts.append(changed_bytes(unpack(name, content)).map(lambda damaged: repack(name, damaged)))
    elif suffix == "json":
        parts = [changed_json(json.loads(content))] * 4 + [changed_bytes(content), st.sampled_from(DEEP)]
    elif suffix in ("cfg", "yaml", "csv", "txt"):
        parts = [changed_text(content)] * 3 + [changed_bytes(content), st.sampled_from(DEEP)]
    elif suffix in ("nrrd", "nhdr", "mha", "mhd"):  # a text before the data
        parts += [changed_text(content)] * 2
    return st.one_of(parts)
