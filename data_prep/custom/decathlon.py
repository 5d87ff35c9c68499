"""Prepare tasks of the Medical Segmentation Decathlon (Antonelli et al., Nature Communications 13, 2022).

::

    Task02_Heart/dataset.json                   modality, labels, training: [{"image": ..., "label": ...}]
    Task02_Heart/imagesTr/la_003.nii.gz         4-D where it has several channels
    Task02_Heart/labelsTr/la_003.nii.gz

``imagesTs`` has no labels and is not read.
"""

from pathlib import Path
from typing import Any

from data_prep.custom.common import Files, Options, describe, open_sources, prepare_custom
from data_prep.custom.declaration import read_declaration
from medpos.core.errors import InputError
from medpos.io.readers import suffix_of
from medpos.io.walk import LeftOut, find_spelling


def prepare(source: Path, out: Path, options: Options) -> str:
    """Prepare a task, or a ZIP file of one, with the arguments of ``python -m data_prep decathlon``.

    Returns:
        A line that says what was done, and a line about links in the ZIP file.
    """
    left_out = LeftOut()
    with open_sources(out, left_out, source) as [folder]:
        content, classes, channels = read_declaration(folder)
        files = find_cases(folder, content.get("training"))
        done = prepare_custom(source, out, files, classes, channels, options)
    return describe(done, left_out)


def find_cases(source: Path, training: Any) -> list[Files]:
    """List the cases that ``dataset.json`` names for training.

    Args:
        source: folder of the task; no path may lead out of it.
        training: entries with ``image`` and ``label``.

    Raises:
        InputError: there is no entry, or one is malformed, or its file is missing or outside the folder.
    """
    where = source / "dataset.json"
    if not isinstance(training, list) or not training:
        raise InputError(f"{where}: lacks 'training', a list of image and label; download or export it again.")
    found = []
    for entry in training:
        if not (isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("image", "label"))):
            raise InputError(f"{where}: expected 'image' and 'label' in training, got {entry!r:.80}; correct it.")
        image, label = (_path_inside(source, entry[key]) for key in ("image", "label"))
        found.append(Files(image.name[: -len(suffix_of(image))], (image,), label))
    return found


def _path_inside(source: Path, name: str) -> Path:
    path = find_spelling(source, name)
    if not path.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{source / 'dataset.json'}: expected a file in the task's folder, got {name!r}; correct it.")
    if not path.is_file():
        raise InputError(f"{path}: is missing, but dataset.json lists it; unpack the task again.")
    if not suffix_of(path):
        raise InputError(f"{path}: unsupported format; convert it to NIfTI.")
    return path
