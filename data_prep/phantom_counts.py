"""Know how many phantoms of each kind can be made."""

from medpos.core.errors import InputError

# As many as the real ones, or as the digits of their numbers allow: three in ACDC's patientNNN; three in tNNN.tif of
# two sequences, where every second frame is a case; nuclei have no number.
MAX_CASES = {
    "jsrt": 247, "acdc": 999, "nuclei": 999, "cells": 1000, "ibsr": 18, "drive": 40, "camvid": 701, "voc": 2913,
    "sbd": 11355, "cityscapes": 3475, "coco": 123287, "imagenet": 99999,
    "sunrgbd": 5050, "polyp": 612, "lits": 131, "lidc": 1010, "context": 10103, "parts": 3533,
}  # fmt: skip
# Every class needs an image in each part.
MIN_CASES = {"imagenet": 50}


def check_count(kind: str, cases: int) -> None:
    """Refuse a number of phantoms that can't be made, or that no training can use.

    Args:
        kind: data set that the phantoms imitate.
        cases: number of phantoms.

    Raises:
        InputError: the number is out of range.
    """
    least = MIN_CASES.get(kind, 1)
    if not least <= cases <= MAX_CASES[kind]:
        raise InputError(
            f"cases: expected {least} to {MAX_CASES[kind]} {kind} phantoms, got {cases}; give another --cases or "
            "--phantom_cases"
        )
