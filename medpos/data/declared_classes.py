"""Read the classes that ``dataset.json`` of nnU-Net (versions 1 and 2) and of the Decathlon declare."""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medpos.core.errors import InputError

IGNORE = "ignore"  # name of nnU-Net's class of ignored pixels


def read_declared_classes(path: Path, entries: Mapping[str, Any]) -> dict[int, str]:
    """Return classes by value from ``{"1": "liver"}`` (version 1, Decathlon) or ``{"liver": 1}`` (version 2).

    Args:
        path: file of the entries, for the message.
        entries: the object ``labels`` of the file.

    Returns:
        Names as declared by their values in the label maps, without 0.

    Raises:
        InputError: a class has no integer value of 0 or more, or is a region of several values.
    """
    classes: dict[int, str] = {}
    for key, value in entries.items():
        swapped = key.isdecimal() and isinstance(value, str)
        name, number = (str(value), int(key)) if swapped else (key, value)
        if isinstance(number, list):
            raise InputError(
                f"{path}: expected one value for class {name!r}, got the region {number}; only plain classes are read."
            )
        if isinstance(number, str) and number.isdecimal():
            number = int(number)
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise InputError(f"{path}: expected an integer value of class {name!r}, got {number!r}; correct it.")
        if number:
            classes[number] = name
    return classes


def normalize_name(name: str) -> str:
    """Write a class name as tables and TensorBoard have it: lower case, letters of any script, digits, underscores."""
    composed = unicodedata.normalize("NFC", name.lower())
    kept = (c if c.isalnum() or unicodedata.category(c)[0] == "M" else "_" for c in composed)
    return re.sub("_+", "_", "".join(kept)).strip("_")
