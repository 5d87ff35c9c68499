"""Name the parts of a prepared data set: its files and the keys of ``dataset.json``.

``data_prep`` writes this schema and verifies it; :class:`medpos.data.DataFolder` reads it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medpos.core.errors import InputError
from medpos.core.files import decode_json

SCHEMA_VERSION = 1
MANIFEST = "dataset.json"
PHANTOM_MARKER = "PHANTOM.json"
COMPLETE = "complete"  # key of the marker, false while phantoms are made; complete ones lack it
SPLITS = ("training", "validation", "test")
# Folders of a case's files by the key of its entry that names the file; only some data sets have instances.
FOLDERS = {"image": "images", "label": "labels", "instances": "instances"}

# Where the pixel size of a data set comes from: its files, what is published about all of them, or nowhere.
HEADER, STANDARD, ASSUMED = SPACINGS = ("header", "standard of the set", "assumed")

# Keys of dataset.json with their types. A training reads those of READ_KEYS.
READ_KEYS: Mapping[str, type] = {
    "schema_version": int,
    "name": str,
    "phantom": bool,
    "labels": list,
    "intensity": dict,
    **dict.fromkeys(SPLITS, list),
}
KEYS: Mapping[str, type] = {**READ_KEYS, "description": str, "split": dict}
OPTIONAL_KEYS: Mapping[str, type] = {"channels": list, "ignore_index": int, "spacing": str, "warnings": list}
LABEL_KEYS: Mapping[str, type] = {"index": int, "name": str, "colour": str}
OPTIONAL_LABEL_KEYS = ("tolerance_mm",)  # of the surface Dice
INTENSITY_KEYS = ("range", "mean", "std")
# Keys of the entry of a case. A training reads those of READ_CASE_KEYS, and "instances" where it is there.
READ_CASE_KEYS: Mapping[str, type] = {
    "case": str,
    "subject": str,
    "image": str,
    "label": str,
    "shape": list,
    "spacing_mm": list,
}
CASE_KEYS: Mapping[str, type] = {**READ_CASE_KEYS, "image_sha256": str, "label_sha256": str}
INSTANCE_KEYS: Mapping[str, type] = {"instances": str, "instances_sha256": str}


def dump_manifest(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of ``dataset.json`` with this content."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def is_phantom(folder: Path) -> bool:
    """Tell whether ``PHANTOM.json`` marks ``folder``, or one of the two folders above it, as synthetic.

    Raises:
        InputError: the phantoms are half-made, because the process that made them was stopped.
    """
    folder = folder.resolve()
    markers = [place / PHANTOM_MARKER for place in (folder, *folder.parents[:2])]
    found = [marker for marker in markers if marker.is_file()]
    for marker in found:
        if _says_incomplete(marker):
            raise InputError(
                f"{marker.parent}: expected complete phantoms, got half-made ones; run the command that makes them "
                "again, or delete the folder"
            )
    return bool(found)


def _says_incomplete(marker: Path) -> bool:
    try:
        content = decode_json(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get(COMPLETE) is False
