"""Find subjects and images that stand in two parts of a data set, so that no model is tested on what it was trained on.

``data_prep verify`` lists them, and a training refuses them before its first epoch.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_SAMPLES = 65_536  # values of an image that are compared first; all of them are only where these are equal


def find_leaks(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Find subjects and image files that several parts share.

    Args:
        parts: entries of cases by the name of their part, such as ``training``; an entry holds ``case``, and
            ``subject``, ``image`` and ``image_sha256`` as far as they are known.

    Returns:
        A line for each shared subject, and for each shared image of subjects that are not shared.
    """
    entries = [(part, entry) for part, cases in parts.items() for entry in cases]
    shared = _shared((part, str(entry["subject"])) for part, entry in entries if "subject" in entry)
    leaks = [f"subject {subject} is in {_and(found)}" for subject, found in shared.items()]
    rest = [
        (part, entry) for part, entry in entries if entry.get("subject") is None or str(entry["subject"]) not in shared
    ]
    for key in ("image", "image_sha256"):
        known = [(part, entry) for part, entry in rest if isinstance(entry.get(key), str)]
        same = _shared((part, str(entry[key])) for part, entry in known)
        for value in same:
            named = [(part, str(entry.get("case"))) for part, entry in known if entry[key] == value]
            leaks.append(f"the image of {_and(f'{part} case {case}' for part, case in named)} is the same")
    return list(dict.fromkeys(leaks))


def find_equal_images(parts: Mapping[str, Sequence[tuple[str, npt.NDArray[Any]]]]) -> list[str]:
    """Find images that several parts share under other names, by their decoded values.

    Args:
        parts: name and values of each case, by the name of its part.

    Returns:
        A line for each pair of equal images.
    """
    seen: dict[tuple[Any, ...], list[tuple[str, str, npt.NDArray[Any]]]] = {}
    leaks = []
    for part, images in parts.items():
        for case, values in images:
            sample = values.reshape(-1)[:: 1 + values.size // _SAMPLES]
            known = seen.setdefault((values.shape, sample.tobytes()), [])
            for other, name, same in known:
                if other != part and np.array_equal(same, values):
                    leaks.append(f"the image of {other} case {name} and {part} case {case} is the same")
            known.append((part, case, values))
    return leaks


def _shared(pairs: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the parts of each value that stands in several, in the order of the parts."""
    found: dict[str, list[str]] = {}
    for part, value in pairs:
        if part not in found.setdefault(value, []):
            found[value].append(part)
    return {value: parts for value, parts in found.items() if len(parts) > 1}


def _and(names: Iterator[str] | Sequence[str]) -> str:
    return " and ".join(names)
