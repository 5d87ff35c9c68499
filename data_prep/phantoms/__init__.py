"""Seeded phantoms in the raw formats of the real data sets, for trying everything without patients' data.

A phantom is a cartoon: organs have the shapes, sizes and neighbours that they have in people, and grey values that
overlap with those of their surroundings, so that a small window of the image doesn't tell the organ but its place does.
Nothing measured on phantoms says how good a method is on patients.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.files import map_in_processes, write_bytes
from data_prep.phantoms import brain, cells, chest, cityscapes, coco, heart, imagenet, nuclei, retina, street, voc
from medpos.core.errors import InputError
from medpos.data.schema import PHANTOM_MARKER

KINDS: dict[str, Callable[[Path, int, int], Any]] = {
    "jsrt": chest.write_case,
    "acdc": heart.write_case,
    "nuclei": nuclei.write_case,
    "cells": cells.write_case,
    "ibsr": brain.write_case,
    "drive": retina.write_case,
    "camvid": street.write_case,
    "voc": voc.write_case,
    "sbd": voc.write_sbd_case,
    "cityscapes": cityscapes.write_case,
    "coco": coco.write_case,
    "imagenet": imagenet.write_case,
}
# What stands in one file for all cases; written at the end, from what writing the cases gave.
LISTS: dict[str, Callable[[Path, Sequence[Any]], None]] = {
    "voc": voc.write_lists,
    "sbd": voc.write_sbd_lists,
    "coco": coco.write_annotations,
}
# As many as the real ones, or as their numbers have digits for: three in ACDC's patientNNN; three in tNNN.tif of two
# sequences, where every second frame is a case; nuclei have no number.
MOST = {
    "jsrt": 247, "acdc": 999, "nuclei": 999, "cells": 1000, "ibsr": 18, "drive": 40, "camvid": 701, "voc": 2913,
    "sbd": 11355, "cityscapes": 3475, "coco": 123287, "imagenet": 99999,
}  # fmt: skip
NOTE = "Computer-made phantoms, no patients. Results on them say nothing about results on patients."


def write(kind: str, out: Path | str, cases: int, seed: int = 0, workers: int = 1) -> None:
    """Write phantoms as the download of the real data set would lie there.

    Args:
        kind: ``jsrt`` (chest X-rays, ``All247images`` and ``scratch``), ``acdc`` (hearts, ``patientNNN``), ``nuclei``
            (``ID/images`` and ``ID/masks``), ``cells`` (frames in ``01`` and ``02``), ``ibsr`` (brains, ``IBSR_NN``),
            ``drive`` (retinas, ``training`` and ``test``), ``camvid`` (streets, ``train``), ``voc`` (objects,
            ``JPEGImages``), ``sbd`` (the same, ``dataset/cls``), ``cityscapes`` (streets, ``leftImg8bit``), ``coco``
            (objects, ``train2017``) or ``imagenet`` (one object each, ``train/nNNNNNNNN``).
        out: folder to make or to add to; it may hold phantoms of the same kind and seed, nothing else.
        cases: how many, from 1 to ``MOST`` of the kind. Case n is the same for every number of cases.
        seed: >= 0; equal seeds give equal bytes.
        workers: processes, >= 1; the files don't depend on it.

    Raises:
        InputError: an argument is out of range, or the folder holds something else.
    """
    out = Path(out)
    _check(kind, cases, seed, workers)
    _check_folder(kind, out, cases, seed)
    # The marker comes first: no interruption may leave phantoms that look like patients.
    marker = {"kind": kind, "cases": cases, "seed": seed, "note": NOTE}
    write_bytes(out / PHANTOM_MARKER, (json.dumps(marker, indent=2) + "\n").encode())
    written = map_in_processes(partial(KINDS[kind], out, seed), range(cases), workers, f"{kind} phantoms")
    if kind in LISTS:
        LISTS[kind](out, written)


def _check(kind: str, cases: int, seed: int, workers: int) -> None:
    """Refuse arguments that can't be meant."""
    if kind not in KINDS:
        raise InputError(f"kind of phantom: {kind!r} was given, {', '.join(KINDS)} is needed; write one of these.")
    if not 1 <= cases <= MOST[kind]:
        raise InputError(f"cases: {cases} was given, {kind} phantoms need 1 to {MOST[kind]}; give such a number.")
    if seed < 0:
        raise InputError(f"seed: {seed} was given, 0 or more is needed; give another number.")
    if workers < 1:
        raise InputError(f"workers: {workers} was given, 1 or more is needed; give the number of processes to use.")


def _check_folder(kind: str, out: Path, cases: int, seed: int) -> None:
    """Refuse to mix phantoms with anything else: with patients, another kind, another seed, or a larger set."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, a folder is needed; give another path.")
    if not out.exists() or not any(out.iterdir()):
        return
    try:
        old = json.loads((out / PHANTOM_MARKER).read_text(encoding="utf-8"))
        same = old["kind"] == kind and old["seed"] == seed and old["cases"] <= cases
    except FileNotFoundError:
        raise InputError(f"{out}: holds other files than phantoms (no {PHANTOM_MARKER}); give a new folder.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{out / PHANTOM_MARKER}: can't be read ({error}); delete the folder or give another one."
        ) from error
    if not same:
        raise InputError(
            f"{out}: holds {old['cases']} {old['kind']} phantoms of seed {old['seed']}, {cases} of kind {kind} and "
            f"seed {seed} were asked for; delete the folder or give another one."
        )
