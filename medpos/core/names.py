"""Check names in any script, and make names of files from them."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

_LONGEST = 200  # bytes of a name, so that the longest suffix still fits into the 255 of most file systems
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # of Windows
_PLAIN = re.compile(r"[\w .+()/-]+")


def find_faults(kind: str, names: Iterable[Any], of_files: bool = False) -> list[str]:
    """Find the names that are no plain names, and those that occur twice.

    A plain name is text of at most 200 bytes: letters and signs of any script, digits, spaces and ``._+-()/``, with no
    space at an end and no empty or dotted part between slashes. So no program takes it for an expression, a formula,
    markup or a path that leads elsewhere.

    Args:
        kind: kind of the names, for the message, such as ``class``.
        names: names as found in a file, of any type.
        of_files: whether files are named by them, so that ``/`` isn't allowed, nor ``.`` or ``-`` as the first sign.

    Returns:
        A line for each fault: what was expected, and the name.
    """
    names = list(names)
    allowed = "letters, digits, spaces and " + ("._+-(), not beginning with . or -" if of_files else "._+-()/")
    faults = [f"expected a {kind} of {allowed}, got {name!r:.100}" for name in names if not _is_plain(name, of_files)]
    counts = Counter(unicodedata.normalize("NFC", name) for name in names if isinstance(name, str))
    return faults + [f"{kind} {name} is listed {count} times" for name, count in counts.items() if count > 1]


def _is_plain(name: Any, of_files: bool) -> bool:
    if not isinstance(name, str) or not name.strip() or name != name.strip():
        return False
    if not all(map(_is_allowed, _PLAIN.sub("", name))) or len(name.encode("utf-8", "replace")) > _LONGEST:
        return False
    if of_files:
        return "/" not in name and name[0] not in ".-"
    return not {"", ".", ".."} & set(name.split("/"))


def _is_allowed(character: str) -> bool:
    return not character.isascii() and _is_kept(character)


def clean_name(name: str) -> str:
    """Return a name that every file system takes: letters of any script and digits, with ``.``, ``_`` and ``-``.

    Accents are composed (NFC), because macOS writes them apart. A long name is cut, with a hash of the whole at its
    end; empty if nothing is left.

    Args:
        name: any text.
    """
    composed = unicodedata.normalize("NFC", name)
    clean = "".join(c if _is_kept(c) else " " for c in composed)
    clean = re.sub(" +", "-", clean).strip(".-_")
    if _RESERVED.fullmatch(clean):
        clean = f"case-{clean}"
    if len(clean.encode()) <= _LONGEST:
        return clean
    short = clean.encode()[: _LONGEST - 11].decode("utf-8", "ignore")
    return f"{short}-{hashlib.sha256(clean.encode()).hexdigest()[:10]}"


def _is_kept(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character in "._-"
    return unicodedata.category(character)[0] not in "CZ"  # neither control characters nor spaces
