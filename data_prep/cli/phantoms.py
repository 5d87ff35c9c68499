"""Write phantoms in the raw formats of the published data sets."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import typer

from data_prep.cli.options import Out, Workers


class Kind(str, Enum):
    """Name the data set that phantoms imitate."""

    jsrt = "jsrt"
    acdc = "acdc"
    nuclei = "nuclei"
    cells = "cells"
    ibsr = "ibsr"
    drive = "drive"
    camvid = "camvid"
    voc = "voc"
    sbd = "sbd"
    cityscapes = "cityscapes"
    coco = "coco"
    imagenet = "imagenet"
    sunrgbd = "sunrgbd"
    polyp = "polyp"
    lits = "lits"
    lidc = "lidc"
    context = "context"
    parts = "parts"


@dataclass(frozen=True)
class Phantoms:
    """Hold the options of ``phantoms``."""

    kind: Annotated[Kind, typer.Option(help="Data set to imitate.")]
    out: Out
    cases: Annotated[
        int | None,
        typer.Option(min=1, help="Number of images, or of MRI subjects; by default 60, or all of a smaller data set."),
    ] = None
    seed: Annotated[int, typer.Option(help="Random seed of the phantoms.")] = 0
    workers: Workers = 1


def phantoms(options: Phantoms) -> None:
    """Write synthetic images of a data set in its genuine raw format, to try things without the data.

    \b
    Example:
    python -m data_prep phantoms --kind jsrt --out raw/phantoms --cases 60
    python -m data_prep jsrt --images raw/phantoms --masks raw/phantoms --out data/phantoms
    """
    from data_prep.phantoms import MAX_CASES, write

    kind = options.kind.value
    cases = options.cases or min(60, MAX_CASES[kind])
    write(kind, options.out, cases=cases, seed=options.seed, workers=options.workers)
    typer.echo(f"{options.out}: {cases} {kind} phantoms")
