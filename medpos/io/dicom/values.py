"""Read attributes that may be absent, empty, plural or malformed."""

import math
from typing import Any

from medpos.core.errors import InputError
from medpos.io.dicom.library import import_pydicom


def has_value(header: Any, key: str) -> bool:
    """Return whether an attribute is present and not empty (PS3.5, 7.4: an empty attribute of type 2 is unknown)."""
    if key not in header:
        return False
    try:
        value = header.get(key)
    except Exception:  # it has a value, which pydicom can't convert
        return True
    if isinstance(value, str):
        return bool(value.strip(" \0"))
    return value is not None and (not hasattr(value, "__len__") or len(value) > 0)


def read_text(header: Any, key: str) -> str:
    """Return the text of an attribute without padding, of several values the first; empty if it has no value."""
    if not has_value(header, key):
        return ""
    try:
        value = header.get(key)
    except Exception:  # the text isn't needed to read the image
        return ""
    many = not isinstance(value, str) and hasattr(value, "__len__")
    return str(value[0] if many else value).strip(" \0")


def read_numbers(place: object, header: Any, key: str, count: int) -> tuple[float, ...] | None:
    """Return the numbers of an attribute.

    Args:
        place: name of the file, for the message.
        header: data set that may hold the attribute.
        key: keyword of the attribute.
        count: number of values expected; 0: any number.

    Returns:
        The values, or None where the attribute is absent or empty.

    Raises:
        InputError: a value isn't a finite number, or there are more or fewer values than expected.
    """
    if not has_value(header, key):
        return None
    try:
        value = header.get(key)
        many = not isinstance(value, str) and hasattr(value, "__len__")
        found = tuple(float(part) for part in (value if many else [value]))
    except Exception:
        found = (math.nan,)
    expected = "numbers" if count == 0 else "one number" if count == 1 else f"{count} numbers"
    # The value itself is not quoted: it may be anything, a name included.
    if not all(map(math.isfinite, found)):
        raise InputError(
            f"{place}: expected {expected} in {_title(key)}, got a value that is no finite number; correct the header"
        )
    if count == 1 and len(set(found)) == 1:
        found = found[:1]
    if count not in (0, len(found)):
        raise InputError(f"{place}: expected {expected} in {_title(key)}, got {len(found)}; correct the header")
    return found


def read_number(place: object, header: Any, key: str, default: float) -> float:
    """Return the number of an attribute, or a default where it is absent or empty.

    Args:
        place: name of the file, for the message.
        header: data set that may hold the attribute.
        key: keyword of the attribute.
        default: value of an attribute that is absent or empty.

    Raises:
        InputError: the value isn't one finite number.
    """
    found = read_numbers(place, header, key, 1)
    return default if found is None else found[0]


def is_inverted(header: Any) -> bool:
    """Return whether the lowest values of an image are white: PS3.3, C.7.6.3.1.2 and C.11.6.1.2."""
    is_inverse = read_text(header, "PresentationLUTShape").upper() == "INVERSE"
    return is_inverse or read_text(header, "PhotometricInterpretation") == "MONOCHROME1"


def _title(key: str) -> str:
    """Return name and keyword of an attribute, such as ``Pixel Spacing (PixelSpacing)``."""
    name = import_pydicom().datadict.dictionary_description(key)
    return f"{name} ({key})"
