"""Name the parts of a prepared data set's ``dataset.json``, shared by its writer and its reader."""

from pathlib import Path

SCHEMA_VERSION = 1
SPLITS = ("training", "validation", "test")
MANIFEST = "dataset.json"


def is_phantom(folder: Path) -> bool:
    """Whether ``PHANTOM.json`` marks ``folder``, or one of the two folders above it, as synthetic."""
    folder = folder.resolve()
    return any((place / "PHANTOM.json").is_file() for place in (folder, *folder.parents[:2]))
