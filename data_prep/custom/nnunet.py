"""Prepare raw data sets of nnU-Net, versions 1 and 2 (Isensee et al., Nature Methods 18, 2021).

::

    Dataset001_X/dataset.json                   channel_names (1: modality), labels, file_ending (2)
    Dataset001_X/imagesTr/CASE_0000.nii.gz      a file for each channel: _0000, _0001, ...
    Dataset001_X/labelsTr/CASE.nii.gz

``imagesTs`` has no labels and is not read.
"""

from collections.abc import Sequence
from pathlib import Path

from data_prep.custom.common import Files, Options, describe, open_sources, prepare_custom
from data_prep.custom.declaration import read_declaration
from data_prep.listing import find_by_stem
from medpos.core.errors import InputError
from medpos.io import pictures
from medpos.io.readers import SUFFIXES
from medpos.io.walk import LeftOut


def prepare(source: Path, out: Path, options: Options) -> str:
    """Prepare a raw folder, or a ZIP file of one, with the arguments of ``python -m data_prep nnunet``.

    Returns:
        A line that says what was done, and lines about the files that were left out.
    """
    left_out = LeftOut()
    with open_sources(out, left_out, source) as [folder]:
        content, classes, channels = read_declaration(folder)
        ending = str(content.get("file_ending", SUFFIXES[0])).lower()
        if ending not in SUFFIXES:
            raise InputError(
                f"{folder / 'dataset.json'}: expected file_ending to be one of {', '.join(SUFFIXES)}, got {ending!r}; "
                "convert the files."
            )
        files = find_cases(folder, ending, channels, left_out)
        done = prepare_custom(source, out, files, classes, channels, options)
    return describe(done, left_out)


def find_cases(source: Path, ending: str, channels: Sequence[str], left_out: LeftOut | None = None) -> list[Files]:
    """List the cases of ``labelsTr`` with the files of their channels.

    Args:
        source: raw folder.
        ending: suffix of the files.
        channels: names of the channels.
        left_out: record of files that are neither images nor label maps.

    Raises:
        InputError: a channel lacks its file, or an image its label map.
    """
    labels, images = (find_by_stem(source / part, (ending,), left_out) for part in ("labelsTr", "imagesTr"))
    found = []
    for case, label in labels.items():
        names = [f"{case}_{n:04d}" for n in range(len(channels))]
        # A picture has all its colors in the first file.
        if ending in pictures.SUFFIXES and not any(name in images for name in names[1:]):
            names = names[:1]
        for name in names:
            if name not in images:
                wanted = source / "imagesTr" / f"{name}{ending}"
                raise InputError(f"{wanted}: is missing, but {label} exists; add it, or remove the label map.")
        found.append(Files(case, tuple(images.pop(name) for name in names), label))
    for name, path in images.items():
        case, _, number = name.rpartition("_")
        if case in labels:
            raise InputError(
                f"{path}: channel {number} isn't in dataset.json, which names {len(channels)}; add it there."
            )
        raise InputError(f"{path}: no label map {case}{ending} in {source / 'labelsTr'}; add it, or remove the image.")
    return found
