"""Write seeded phantoms in the raw formats of the real data sets, to try everything without patient data.

A phantom is a cartoon: organs have the shapes, sizes and neighbors that they have in people, and gray values that
overlap with those of their surroundings, so that position, not a small window of the image, identifies an organ.
Nothing measured on phantoms says how good a method is on patients.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.files import lock_folder, map_in_processes
from data_prep.phantom_counts import MAX_CASES as MAX_CASES
from data_prep.phantom_counts import check_count
from data_prep.phantoms import (
    abdomen,
    brain,
    cells,
    chest,
    cityscapes,
    coco,
    colon,
    heart,
    imagenet,
    lung,
    nuclei,
    retina,
    room,
    street,
    voc,
    voc2010,
)
from medpos.core.errors import InputError
from medpos.core.files import decode_json, write_bytes
from medpos.data.schema import COMPLETE, PHANTOM_MARKER

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
    "sunrgbd": room.write_case,
    "polyp": colon.write_case,
    "lits": abdomen.write_case,
    "lidc": lung.write_case,
    "context": voc2010.write_context_case,
    "parts": voc2010.write_parts_case,
}
# Writers of files that list all cases, from the results of writing the cases.
LISTS: dict[str, Callable[[Path, Sequence[Any]], None]] = {
    "voc": voc.write_lists,
    "sbd": voc.write_sbd_lists,
    "coco": coco.write_annotations,
    "polyp": colon.write_sequences,
    "context": voc2010.write_lists,
    "parts": voc2010.write_lists,
}
NOTE = "Computer-made phantoms, no patients. Results on them say nothing about results on patients."


def write(kind: str, out: Path | str, cases: int, seed: int = 0, workers: int = 1) -> None:
    """Write phantoms with the layout of the real data set's download.

    Args:
        kind: ``jsrt`` (chest X-rays, ``All247images`` and ``scratch``), ``acdc`` (hearts, ``patientNNN``), ``nuclei``
            (``ID/images`` and ``ID/masks``), ``cells`` (frames in ``01`` and ``02``), ``ibsr`` (brains, ``IBSR_NN``),
            ``drive`` (retinas, ``training`` and ``test``), ``camvid`` (streets, ``train``), ``voc`` (objects,
            ``JPEGImages``), ``sbd`` (the same, ``dataset/cls``), ``cityscapes`` (streets, ``leftImg8bit``), ``coco``
            (objects, ``train2017``), ``imagenet`` (one object each, ``train/nNNNNNNNN``), ``sunrgbd`` (rooms,
            ``SUNRGBD-train_images``), ``polyp`` (frames of colonoscopies, ``Original``), ``lits`` (livers,
            ``volume-N.nii``), ``lidc`` (lung nodules, ``LIDC-IDRI``), ``context`` (objects and surroundings,
            ``trainval``) or ``parts`` (persons, ``Annotations_Part``).
        out: folder to create or extend; it may hold phantoms of the same kind and seed, nothing else.
        cases: number of cases, from 1 to ``MAX_CASES`` of the kind. Case n is the same for every number of cases.
        seed: random seed, >= 0; equal seeds give equal bytes.
        workers: number of processes, >= 1; the files don't depend on it.

    Raises:
        InputError: an argument is out of range, the folder holds something else, or another process writes into it.
    """
    out = Path(out)
    _check(kind, cases, seed, workers)
    _check_folder(kind, out, cases, seed)
    with lock_folder(out):
        # The marker comes first: no interruption may leave phantoms that look like patients.
        marker = {"kind": kind, "cases": cases, "seed": seed, "note": NOTE}
        _write_marker(out, {**marker, COMPLETE: False})
        written = map_in_processes(partial(KINDS[kind], out, seed), range(cases), workers, f"{kind} phantoms")
        if kind in LISTS:
            LISTS[kind](out, written)
        _write_marker(out, marker)


def _write_marker(out: Path, content: dict[str, Any]) -> None:
    write_bytes(out / PHANTOM_MARKER, (json.dumps(content, indent=2) + "\n").encode())


def _check(kind: str, cases: int, seed: int, workers: int) -> None:
    """Refuse arguments out of range."""
    if kind not in KINDS:
        raise InputError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}.")
    check_count(kind, cases)
    if seed < 0:
        raise InputError(f"seed: expected 0 or more, got {seed}.")
    if workers < 1:
        raise InputError(f"workers: expected 1 or more processes, got {workers}.")


def _check_folder(kind: str, out: Path, cases: int, seed: int) -> None:
    """Refuse to mix phantoms with anything else: with patients, another kind, another seed, or a larger set."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder, got a file; give another path.")
    if not out.exists() or all(path.name.startswith(".") for path in out.iterdir()):
        return
    try:
        old = decode_json((out / PHANTOM_MARKER).read_text(encoding="utf-8"))
        same = old["kind"] == kind and old["seed"] == seed and old["cases"] <= cases
    except FileNotFoundError:
        raise InputError(
            f"{out}: expected phantoms, found other files (no {PHANTOM_MARKER}); give a new folder."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{out / PHANTOM_MARKER}: can't be read ({error}); delete the folder or give another one."
        ) from error
    if not same:
        raise InputError(
            f"{out}: expected at most {cases} {kind} phantoms of seed {seed}, found {old['cases']} {old['kind']} "
            "phantoms "
            f"of seed {old['seed']}; delete the folder or give another one."
        )
