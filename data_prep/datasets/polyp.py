"""Prepare polyps in colonoscopy: CVC-ClinicDB (Bernal et al., CMIG 43, 2015) or ASU-Mayo (Tajbakhsh et al., TMI 2016).

CVC-ClinicDB: 612 frames of 384 x 288 pixels, ``Original/1.tif`` and ``Ground Truth/1.tif``. ASU-Mayo, on which UNet++
was trained, as PNS-Net publishes it: ``Frame/VIDEO/*.jpg`` and ``GT/VIDEO/*.png``; a frame without a polyp has a black
mask.

Frames of one video look alike, so a video is a subject. CVC-ClinicDB doesn't name the videos of its frames, whose
numbers follow them: give ``sequences``, a CSV file with the columns ``frame`` and ``sequence``, or put it beside the
folders as ``sequences.csv``; without it, 25 frames in a row are a subject, and two subjects may share a video.
"""

import csv
import io
from pathlib import Path

import numpy as np

from data_prep.files import Array
from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from data_prep.listing import find_by_stem
from data_prep.pictures import read_image
from data_prep.published import describe_shortfall
from data_prep.scenes import read_picture
from medpos.core import labels
from medpos.core.colors import RGB
from medpos.core.errors import InputError
from medpos.core.files import read_bytes
from medpos.data.schema import ASSUMED, is_phantom

FOLDERS = (("Original", "Ground Truth"), ("Frame", "GT"))
WEIGHTS = (8, 1, 1)  # a choice of this project: the UNet++ paper states none
SEQUENCES = "sequences.csv"
FRAMES = 612  # of CVC-ClinicDB
BLOCK = 25  # frames in a row that are a subject where nobody says which belong together
DESCRIPTION = "Polyps in frames of colonoscopy videos, drawn by hand."
_DARK = 128  # masks may be stored with losses


def prepare(
    source: Path, out: Path, sequences: Path | None = None, seed: int = 0, workers: int = 1, strict: bool = False
) -> str:
    """Prepare polyps with the arguments of ``python -m data_prep polyp``, and return one line about it."""
    cases = find_cases(source, sequences)
    dataset = Dataset("polyp", DESCRIPTION, labels.POLYP, WEIGHTS, (0, 255), is_phantom(source), RGB, spacing=ASSUMED)
    done = prepare_dataset(dataset, cases, out, seed, workers, strict)
    if (source / FOLDERS[0][0]).is_dir() and not dataset.phantom:
        done += describe_shortfall({"frames": len(cases)}, {"frames": FRAMES})
    return done


def find_cases(source: Path, sequences: Path | None = None) -> list[Case]:
    """Pair the frames with their masks by name.

    Args:
        source: folder that holds ``Original`` and ``Ground Truth``, or ``Frame`` and ``GT``.
        sequences: CSV file with the columns ``frame`` and ``sequence``; None takes ``sequences.csv`` in ``source`` if
            it is there, else the folders of the frames.

    Raises:
        InputError: the folders are missing, a frame has no mask or no sequence, or the CSV file lacks a column.
    """
    found = [pair for pair in FOLDERS if (source / pair[0]).is_dir()]
    if not found:
        raise InputError(f"{source}: expected folders Original and 'Ground Truth', or Frame and GT; check the path.")
    images, masks = found[0]
    frames, drawn = find_by_stem(source / images), find_by_stem(source / masks)
    if sequences is None and (source / SEQUENCES).is_file():
        sequences = source / SEQUENCES
    named = {} if sequences is None else _read_sequences(sequences)
    cases = []
    for stem, path in sorted(frames.items()):
        if stem not in drawn:
            raise InputError(f"{path}: no mask {stem} in {source / masks}; unpack the download again.")
        if named and stem not in named:
            raise InputError(f"{sequences}: no line for frame {stem}; add it.")
        subject = named.get(stem) or _video(path, source / images, stem)
        name = f"frame_{int(stem):04d}" if stem.isdigit() else stem
        cases.append(Case(name, subject, {"image": path, "label": drawn[stem]}, read_case))
    return cases


def _video(path: Path, folder: Path, stem: str) -> str:
    """Name the video of a frame by its folder, or by its place among 25 frames in a row."""
    if path.parent != folder:
        return path.parent.name
    return f"frames_{(int(stem) - 1) // BLOCK * BLOCK + 1:04d}" if stem.isdigit() else stem


def _read_sequences(path: Path) -> dict[str, str]:
    rows = list(csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8-sig", "replace"))))
    if not rows or not {"frame", "sequence"} <= rows[0].keys():
        raise InputError(
            f"{path}: expected the columns frame and sequence, got {list(rows[0]) if rows else 'nothing'}."
        )
    return {row["frame"].strip(): f"sequence_{row['sequence'].strip()}" for row in rows}


def read_case(case: Case) -> Volume:
    """Read one frame.

    Returns:
        Image (columns, rows, 1, 3) uint8; label (columns, rows, 1): 1 polyp, where the mask is brighter than half.

    Raises:
        InputError: a picture is damaged, or the sizes differ.
    """
    image, path = read_picture(case.sources["image"]), case.sources["label"]
    mask: Array = read_image(path, len(RGB)).data.max(axis=-1) >= _DARK
    if mask.shape != image.data.shape[:3]:
        sizes = " and ".join(" x ".join(map(str, shape[:2])) for shape in (mask.shape, image.data.shape))
        raise InputError(f"{path}: differs in size from its frame ({sizes}); unpack the download again.")
    return Volume(image.data, mask.astype(np.uint8), image.affine, image.spacing)
