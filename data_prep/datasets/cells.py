"""Cells in time-lapse microscopy: 2-D data sets of the Cell Tracking Challenge (Maska et al., Nature Methods 20, 2023).

PhC-C2DH-U373 and DIC-C2DH-HeLa are those of the U-Net's paper. A data set has sequences of frames; a few frames have a
gold truth, drawn by hand (``01_GT/SEG``), and in some sets all have a silver one, voted by programs (``01_ST/SEG``).
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from data_prep.archive import Source, files, picture
from data_prep.datasets.nuclei import flat
from data_prep.files import Array
from data_prep.layout import Case, Dataset, Volume, prepare
from data_prep.split import allot
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.data.schema import SPLITS, is_phantom

# Neighbouring frames are nearly equal, so parts are whole sequences or runs of frames, never frames picked at random.
# The last sequence is the test set; of each other one the end is for validation.
MANY = (4, 1, 0)
LAST = (0, 0, 1)
ALONE = (3, 1, 1)  # of a single sequence
DESCRIPTION = "Cells in light microscopy ({name}, {truth} truth), each cell with a number of its own."
LAYOUT = "--source is one 2-D data set, a folder or its zip archive, with 01/t000.tif and 01_GT/SEG/man_seg000.tif"
FRAME = r"(\d\d)/t(\d{3,4})\.tif"
Frame = tuple[str, str]  # sequence and time, as in the files' names: ("01", "000")


def run(source: Path, out: Path, silver: bool = False, workers: int = 1) -> str:
    """Prepare cells; the arguments are those of ``python -m data_prep cells``. Returns one line on what was done."""
    name, cases = find(source, silver)
    grey = np.asarray(picture(cases[0].sources["image"], "TIFF"))
    grey_range = (0, 255) if grey.dtype == np.uint8 else None
    description = DESCRIPTION.format(name=name, truth="silver" if silver else "gold")
    dataset = Dataset("cells", description, labels.CELLS, (4, 1, 5), grey_range, is_phantom(source))
    return prepare(dataset, cases, out, workers=workers)


def find(source: Path, silver: bool = False) -> tuple[str, list[Case]]:
    """The data set's name, and one case for each annotated frame.

    Args:
        source: folder or zip archive.
        silver: take the silver truth, not the gold one.

    Raises:
        InputError: no frame, several data sets, 3-D ones, no annotation, or an annotation without its frame.
    """
    entries = files(source)
    homes = sorted({parts[:-2] for parts, _ in entries if re.fullmatch(FRAME, "/".join(parts[-2:]))})
    if not homes:
        raise InputError(f"{source}: no 01/t000.tif in it; {LAYOUT}.")
    if len(homes) > 1:
        names = " and ".join("/".join(home) or "." for home in homes)
        raise InputError(f"{source}: holds {len(homes)} data sets, {names:.200}; give one of them.")
    inside = {"/".join(parts[len(homes[0]) :]): path for parts, path in entries if parts[: len(homes[0])] == homes[0]}
    if slices := _matching(inside, r"(\d\d)_(?:GT|ST)/SEG/man_seg_?(\d{3,4}_\d{3,4})\.tif"):
        raise InputError(f"{next(iter(slices.values()))}: one slice of a volume; 3-D sequences can't be prepared.")
    truth = "ST" if silver else "GT"
    frames, annotated = _matching(inside, FRAME), _matching(inside, rf"(\d\d)_{truth}/SEG/man_seg(\d{{3,4}})\.tif")
    if not annotated:
        other = (
            f"; try {'without' if silver else 'with'} --silver" if _matching(inside, r"(\d\d)_\w\w/SEG/(.*)") else ""
        )
        raise InputError(f"{source}: no 01_{truth}/SEG/man_seg000.tif in it{other}; {LAYOUT}.")
    for frame in sorted(annotated.keys() - frames.keys()):
        raise InputError(f"{annotated[frame]}: no frame {frame[0]}/t{frame[1]}.tif; unpack the data set again.")
    markers = _matching(inside, r"(\d\d)_GT/TRA/man_track(\d{3,4})\.tif")
    found = {"image": frames, "instances": annotated, "markers": markers}
    cases = [_case(frame, part, found) for frame, part in deal(annotated).items()]
    return homes[0][-1] if homes[0] else source.resolve().stem, cases


def _matching(inside: Mapping[str, Source], pattern: str) -> dict[Frame, Source]:
    """Those of a data set's files that the pattern describes, by sequence and time."""
    matches = {path: re.fullmatch(pattern, name) for name, path in inside.items()}
    return {(match[1], match[2]): path for path, match in matches.items() if match}


def deal(frames: Iterable[Frame]) -> dict[Frame, str]:
    """The part of each annotated frame: whole sequences and runs of neighbours."""
    frames = sorted(frames)
    sequences = sorted({sequence for sequence, _ in frames})
    parts: dict[Frame, str] = {}
    for sequence in sequences:
        weights = ALONE if len(sequences) == 1 else LAST if sequence == sequences[-1] else MANY
        own = [frame for frame in frames if frame[0] == sequence]
        dealt = [part for part, count in zip(SPLITS, allot(len(own), weights), strict=True) for _ in range(count)]
        parts.update(zip(own, dealt, strict=True))
    return parts


def _case(frame: Frame, part: str, found: Mapping[str, Mapping[Frame, Source]]) -> Case:
    sequence, time = frame
    sources = {role: paths[frame] for role, paths in found.items() if frame in paths}
    details = {"sequence": sequence, "frame": int(time)}
    # A run of frames counts as a person: it falls into one part.
    return Case(f"{sequence}_t{time}", f"{sequence}_{part}", sources, read, details=details, part=part)


def read(case: Case) -> Volume:
    """Read one frame.

    Returns:
        image (X, Y, 1) in its own number type; label alike: 1 cell; instances (X, Y, 1) uint16, counted from 1. Where
        the gold tracking truth is there, which marks every cell, ``unlabelled_cells`` counts the marks outside all
        annotated cells.

    Raises:
        InputError: not a whole TIFF of one grey page, sizes that differ, or no cell in the annotation.
    """
    image = _page(case.sources["image"])
    numbers, path = _page(case.sources["instances"], image.shape), case.sources["instances"]
    if not numbers.any():
        raise InputError(f"{path}: no cell is annotated, no pixel is set; take it out.")
    values, instances = np.unique(np.append(numbers.ravel(), 0), return_inverse=True)
    instances = instances[:-1].reshape(image.shape).astype(np.uint16)
    details = {"objects": len(values) - 1}
    if "markers" in case.sources:
        markers = _page(case.sources["markers"], image.shape)
        missed = np.setdiff1d(markers, np.append(markers[instances > 0], 0))
        details["unlabelled_cells"] = len(missed)
    return flat(image, instances, details)


def _page(path: Source, shape: tuple[int, ...] | None = None) -> Array:
    """A grey TIFF as rows, of ``shape`` if that is given."""
    page = picture(path, "TIFF")
    pages = getattr(page, "n_frames", 1)
    if pages > 1:
        raise InputError(f"{path}: {pages} pages, needed is one; 3-D sequences can't be prepared.")
    pixels = np.asarray(page)
    if pixels.ndim != 2 or pixels.dtype.kind != "u":
        raise InputError(f"{path}: pixels of kind {page.mode}, needed are whole numbers, one grey value; convert it.")
    if shape is not None and pixels.shape != shape:
        size = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise InputError(f"{path}: {size} pixels, its frame has {shape[1]} x {shape[0]}; unpack the data set again.")
    return pixels.astype(pixels.dtype.newbyteorder("="))
