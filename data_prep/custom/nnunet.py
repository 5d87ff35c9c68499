"""nnU-Net's raw folders, versions 1 and 2 (Isensee et al., Nature Methods 18, 2021).

::

    Dataset001_X/dataset.json                   channel_names (1: modality), labels, file_ending (2)
    Dataset001_X/imagesTr/CASE_0000.nii.gz      a file for each channel: _0000, _0001, ...
    Dataset001_X/labelsTr/CASE.nii.gz

``imagesTs`` has no labels and is not read.
"""

from collections.abc import Sequence
from pathlib import Path

from data_prep.custom.common import Files, Options, read_declaration, run, stems
from data_prep.pictures import NIFTI, SUFFIXES
from medpos.core.errors import InputError


def prepare(source: Path, out: Path, options: Options) -> str:
    """Prepare a raw folder; the arguments are those of ``python -m data_prep nnunet``. Returns one line."""
    content, classes, channels = read_declaration(source)
    ending = str(content.get("file_ending", NIFTI[0])).lower()
    if ending not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise InputError(
            f"{source / 'dataset.json'}: file_ending is {ending!r}, can be read: {known}; convert the files."
        )
    return run(source, out, find(source, ending, channels), classes, channels, options)


def find(source: Path, ending: str, channels: Sequence[str]) -> list[Files]:
    """The cases of ``labelsTr`` with the files of their channels.

    Raises:
        InputError: a channel without file, or an image without label map.
    """
    labels = stems(source / "labelsTr", (ending,))
    images = stems(source / "imagesTr", (ending,))
    found = []
    for case, label in labels.items():
        names = [f"{case}_{n:04d}" for n in range(len(channels))]
        # A picture holds all its colours in the first file.
        if ending not in NIFTI and not any(name in images for name in names[1:]):
            names = names[:1]
        for name in names:
            if name not in images:
                wanted = source / "imagesTr" / f"{name}{ending}"
                raise InputError(f"{wanted}: not there, but {label} is; add it, or take the label map out.")
        found.append(Files(case, tuple(images.pop(name) for name in names), label))
    for name, path in images.items():
        case, _, number = name.rpartition("_")
        if case in labels:
            raise InputError(
                f"{path}: channel {number} isn't in dataset.json, which names {len(channels)}; add it there."
            )
        raise InputError(
            f"{path}: no label map {case}{ending} in {source / 'labelsTr'}; add it, or take the image out."
        )
    return found
