"""Prepare 2-D data sets of the Cell Tracking Challenge (Maska et al., Nature Methods 20, 2023).

PhC-C2DH-U373 and DIC-C2DH-HeLa are those of the U-Net paper. A data set has sequences of frames; a few frames have a
gold truth, drawn by hand (``01_GT/SEG``), and in some sets all frames have a silver truth, by majority vote of programs
(``01_ST/SEG``).
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from data_prep.archive import Source, list_files, read_picture
from data_prep.datasets.nuclei import make_flat_volume
from data_prep.files import Array
from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.data.schema import ASSUMED, SPLITS, is_phantom
from medpos.data.split import apportion

# Neighboring frames are nearly equal, so parts of the split are sequences or runs of frames, never random frames. The
# last sequence is the test set; the end of each other sequence is for validation.
MANY = (4, 1, 0)
LAST = (0, 0, 1)
ALONE = (3, 1, 1)  # for a single sequence
DESCRIPTION = "Cells in light microscopy ({name}, {truth} truth), each cell with a number of its own."
LAYOUT = "--source is one 2-D data set, a folder or its zip archive, with 01/t000.tif and 01_GT/SEG/man_seg000.tif"
FRAME = r"(\d\d)/t(\d{3,4})\.tif"
Frame = tuple[str, str]  # sequence and time, as in the files' names: ("01", "000")


def prepare(source: Path, out: Path, silver: bool = False, workers: int = 1, strict: bool = False) -> str:
    """Prepare cells with the arguments of ``python -m data_prep cells``, and return one line about it."""
    name, cases = find_cases(source, silver)
    gray = np.asarray(read_picture(cases[0].sources["image"], "TIFF"))
    gray_range = (0, 255) if gray.dtype == np.uint8 else None
    description = DESCRIPTION.format(name=name, truth="silver" if silver else "gold")
    dataset = Dataset("cells", description, labels.CELLS, (4, 1, 5), gray_range, is_phantom(source), spacing=ASSUMED)
    return prepare_dataset(dataset, cases, out, workers=workers, strict=strict)


def find_cases(source: Path, silver: bool = False) -> tuple[str, list[Case]]:
    """List one case for each annotated frame.

    Args:
        source: folder or zip archive.
        silver: read the silver truth instead of the gold truth.

    Returns:
        Name of the data set, and the cases.

    Raises:
        InputError: there is no frame or annotation, there are several data sets or a 3-D one, or a frame is missing.
    """
    entries = list_files(source)
    homes = sorted({parts[:-2] for parts, _ in entries if re.fullmatch(FRAME, "/".join(parts[-2:]))})
    if not homes:
        raise InputError(f"{source}: expected 01/t000.tif and so on, found none; {LAYOUT}.")
    if len(homes) > 1:
        names = " and ".join("/".join(home) or "." for home in homes)
        raise InputError(f"{source}: expected one data set, got {len(homes)}, {names:.200}; give one of them.")
    inside = {"/".join(parts[len(homes[0]) :]): path for parts, path in entries if parts[: len(homes[0])] == homes[0]}
    if slices := _matching(inside, r"(\d\d)_(?:GT|ST)/SEG/man_seg_?(\d{3,4}_\d{3,4})\.tif"):
        raise InputError(
            f"{next(iter(slices.values()))}: expected 2-D frames, got one slice of a volume; 3-D sequences can't be "
            "prepared."
        )
    truth = "ST" if silver else "GT"
    frames, annotated = _matching(inside, FRAME), _matching(inside, rf"(\d\d)_{truth}/SEG/man_seg(\d{{3,4}})\.tif")
    if not annotated:
        other = (
            f"; try {'without' if silver else 'with'} --silver" if _matching(inside, r"(\d\d)_\w\w/SEG/(.*)") else ""
        )
        raise InputError(f"{source}: expected 01_{truth}/SEG/man_seg000.tif and so on, found none{other}; {LAYOUT}.")
    for frame in sorted(annotated.keys() - frames.keys()):
        raise InputError(
            f"{annotated[frame]}: expected its frame {frame[0]}/t{frame[1]}.tif, found none; unpack the data set again."
        )
    markers = _matching(inside, r"(\d\d)_GT/TRA/man_track(\d{3,4})\.tif")
    found = {"image": frames, "instances": annotated, "markers": markers}
    cases = [_case(frame, part, found) for frame, part in assign_parts(annotated).items()]
    return homes[0][-1] if homes[0] else source.resolve().stem, cases


def _matching(inside: Mapping[str, Source], pattern: str) -> dict[Frame, Source]:
    """Select the files of a data set that match a pattern, by sequence and time."""
    matches = {path: re.fullmatch(pattern, name) for name, path in inside.items()}
    return {(match[1], match[2]): path for path, match in matches.items() if match}


def assign_parts(frames: Iterable[Frame]) -> dict[Frame, str]:
    """Assign annotated frames to parts of the split: whole sequences and runs of neighboring frames."""
    frames = sorted(frames)
    sequences = sorted({sequence for sequence, _ in frames})
    parts: dict[Frame, str] = {}
    for sequence in sequences:
        weights = ALONE if len(sequences) == 1 else LAST if sequence == sequences[-1] else MANY
        members = [frame for frame in frames if frame[0] == sequence]
        assigned = [
            part for part, count in zip(SPLITS, apportion(len(members), weights), strict=True) for _ in range(count)
        ]
        parts.update(zip(members, assigned, strict=True))
    return parts


def _case(frame: Frame, part: str, found: Mapping[str, Mapping[Frame, Source]]) -> Case:
    sequence, time = frame
    sources = {role: paths[frame] for role, paths in found.items() if frame in paths}
    details = {"sequence": sequence, "frame": int(time)}
    # A run of frames counts as a subject, all in one part.
    return Case(f"{sequence}_t{time}", f"{sequence}_{part}", sources, read_case, details=details, part=part)


def read_case(case: Case) -> Volume:
    """Read one frame.

    Returns:
        Image (X, Y, 1) in the number type of its file; label likewise: 1 cell; instances (X, Y, 1) uint16, counted
        from 1. If the gold tracking truth exists, which marks every cell, ``unlabelled_cells`` counts the marks outside
        all annotated cells.

    Raises:
        InputError: a file isn't a complete gray TIFF of one page, the sizes differ, or no cell is annotated.
    """
    image = _read_page(case.sources["image"])
    numbers, path = _read_page(case.sources["instances"], image.shape), case.sources["instances"]
    if not numbers.any():
        raise InputError(f"{path}: expected annotated cells, got an empty mask; remove it.")
    values, instances = np.unique(np.append(numbers.ravel(), 0), return_inverse=True)
    instances = instances[:-1].reshape(image.shape).astype(np.uint16)
    details = {"objects": len(values) - 1}
    if "markers" in case.sources:
        markers = _read_page(case.sources["markers"], image.shape)
        missed = np.setdiff1d(markers, np.append(markers[instances > 0], 0))
        details["unlabelled_cells"] = len(missed)
    return make_flat_volume(image, instances, details)


def _read_page(path: Source, shape: tuple[int, ...] | None = None) -> Array:
    """Read a gray TIFF as (rows, columns); its shape must be ``shape`` if given."""
    page = read_picture(path, "TIFF")
    pages = getattr(page, "n_frames", 1)
    if pages > 1:
        raise InputError(f"{path}: expected one page, got {pages}; 3-D sequences can't be prepared.")
    pixels = np.asarray(page)
    if pixels.ndim != 2 or pixels.dtype.kind != "u":
        raise InputError(f"{path}: expected unsigned gray values, got pixels of mode {page.mode}; convert it.")
    if shape is not None and pixels.shape != shape:
        size = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise InputError(
            f"{path}: expected {shape[1]} x {shape[0]} pixels as its frame, got {size}; unpack the data set again."
        )
    return pixels.astype(pixels.dtype.newbyteorder("="))
