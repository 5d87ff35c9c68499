"""Tasks of the Medical Segmentation Decathlon (Antonelli et al., Nature Communications 13, 2022).

::

    Task02_Heart/dataset.json                   modality, labels, training: [{"image": ..., "label": ...}]
    Task02_Heart/imagesTr/la_003.nii.gz         4-D where it has several channels
    Task02_Heart/labelsTr/la_003.nii.gz

``imagesTs`` has no labels and is not read.
"""

from pathlib import Path
from typing import Any

from data_prep.custom.common import Files, Options, read_declaration, run
from data_prep.pictures import suffix_of
from medpos.core.errors import InputError


def prepare(source: Path, out: Path, options: Options) -> str:
    """Prepare a task; the arguments are those of ``python -m data_prep decathlon``. Returns one line."""
    content, classes, channels = read_declaration(source)
    return run(source, out, find(source, content.get("training")), classes, channels, options)


def find(source: Path, training: Any) -> list[Files]:
    """The cases that ``dataset.json`` lists for training.

    Args:
        source: the task's folder, which no path may leave.
        training: entries with ``image`` and ``label``.

    Raises:
        InputError: no entries, a garbled one, or a file that isn't there or lies outside.
    """
    where = source / "dataset.json"
    if not isinstance(training, list) or not training:
        raise InputError(f"{where}: lacks 'training', a list of image and label; download or export it again.")
    found = []
    for entry in training:
        if not (isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("image", "label"))):
            raise InputError(f"{where}: training has {entry!r:.80}, needed are 'image' and 'label'; mend it.")
        image, label = (_inside(source, entry[key]) for key in ("image", "label"))
        found.append(Files(image.name[: -len(suffix_of(image))], (image,), label))
    return found


def _inside(source: Path, name: str) -> Path:
    path = source / name
    if not path.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{source / 'dataset.json'}: {name!r} lies outside the task's folder; mend it.")
    if not path.is_file():
        raise InputError(f"{path}: not there, but dataset.json lists it; unpack the task again.")
    if not suffix_of(path):
        raise InputError(f"{path}: of a kind that can't be read; convert it to NIfTI.")
    return path
