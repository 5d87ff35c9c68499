"""Make names of files from names in any script."""

import hashlib
import re
import unicodedata

_LONGEST = 200  # bytes of a name, so that the longest suffix still fits into the 255 of most file systems
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # of Windows


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
