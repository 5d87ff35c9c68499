"""Read the classes of label maps from ``VALUE=NAME`` texts or a ``dataset.json``, and convert values to indices."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medpos.core.errors import InputError
from medpos.core.files import read_json
from medpos.core.labels import BACKGROUND, IGNORED, MEAN_OF_ORGANS, Label, labels_of
from medpos.data.declared_classes import IGNORE, normalize_name, read_declared_classes
from medpos.data.schema import MANIFEST
from medpos.evaluate.volumes import Volume
from medpos.io import labels
from medpos.io.scan import Pixels

_FORM = "VALUE=NAME such as 1=liver,2=tumor, or a dataset.json"


@dataclass(frozen=True)
class Classes:
    """Hold the classes of label maps.

    Args:
        labels: the classes with indices from 0, background first, in the order of their values.
        values: value of each foreground class in the files, in the same order.
        ignored: value of ignored pixels in the ground truth; None if there are none.
        data: name of the data set where a file declares the classes, else empty.
        phantom: whether that file says that the images are computed.
    """

    labels: tuple[Label, ...]
    values: tuple[int, ...]
    ignored: int | None = None
    data: str = ""
    phantom: bool = False

    def to_indices(self, volume: Volume, may_ignore: bool = False) -> Pixels:
        """Convert the values of a label map to indices of ``labels``.

        Args:
            volume: label map as it was read.
            may_ignore: whether it may have ignored pixels, which become 255.

        Raises:
            InputError: a value is not declared.
        """
        indices = {0: 0, **{value: n for n, value in enumerate(self.values, 1)}}
        if may_ignore and self.ignored is not None:
            indices[self.ignored] = IGNORED
        found = labels.find_values(volume.values)
        if unknown := [value for value in found.tolist() if value not in indices]:
            more = "" if len(unknown) <= 5 else f" and {len(unknown) - 5} more"
            raise InputError(
                f"{volume.path}: expected the label values {', '.join(map(str, sorted(indices)))}, got "
                f"{', '.join(map(str, unknown[:5]))}{more}; declare them in --labels, or check that this is a label map"
            )
        return labels.to_indices(volume.values, found, indices)


def read_classes(text: str) -> Classes:
    """Read classes.

    Args:
        text: ``1=liver,2=tumor``; the class ``ignore`` names ignored pixels. Or the path of a
            ``dataset.json``, or of its folder: that of a prepared folder, of nnU-Net or of the Decathlon.

    Raises:
        InputError: the text or the file is malformed, two classes have one name, or there is no class.
    """
    path = Path(text) / MANIFEST if Path(text).is_dir() else Path(text)
    if path.suffix.lower() == ".json":
        return _read_file(path)
    named: dict[int, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        value, _, name = part.partition("=")
        if not value.strip().isdecimal() or not name.strip():
            raise InputError(f"--labels: expected {_FORM}, got {part!r}; correct it")
        if int(value) in named:
            raise InputError(f"--labels: expected each value once, got {int(value)} twice; correct it")
        named[int(value)] = name
    return _classes(named, "--labels")


def _read_file(path: Path) -> Classes:
    content = read_json(path, "give a dataset.json")
    entries, name = content.get("labels"), str(content.get("name", ""))
    if isinstance(entries, Mapping):
        return _classes(read_declared_classes(path, entries), str(path), data=name)
    try:
        named = {int(entry["index"]): str(entry["name"]) for entry in entries or ()}
    except (TypeError, KeyError, ValueError):
        named = {}
    classes = _classes(named, str(path), content.get("ignore_index"), name)
    return replace(classes, phantom=bool(content.get("phantom")))


def _classes(named: Mapping[int, str], where: str, ignored: Any = None, data: str = "") -> Classes:
    names = {value: normalize_name(name) for value, name in sorted(named.items()) if value}
    ignored = next((value for value, name in names.items() if name == IGNORE), ignored)
    names.pop(ignored, None)
    if not 1 <= len(names) < IGNORED:
        raise InputError(f"{where}: expected 1 to {IGNORED - 1} classes besides the background, got {len(names)}")
    for value, name in names.items():
        if name in ("", BACKGROUND.name, normalize_name(MEAN_OF_ORGANS)) or list(names.values()).count(name) > 1:
            raise InputError(
                f"{where}: class {value}: expected a name of its own with letters or digits, got {named[value]!r}; "
                "rename it"
            )
    return Classes(labels_of(names.values()), tuple(names), ignored, data)
