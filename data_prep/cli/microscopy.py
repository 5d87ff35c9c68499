"""Prepare published microscopy: nuclei (Data Science Bowl 2018) and cells (Cell Tracking Challenge)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from data_prep.cli.options import Out, Seed, Strict, Workers


@dataclass(frozen=True)
class Nuclei:
    """Hold the options of ``nuclei``."""

    source: Annotated[Path, typer.Option(help="stage1_train.zip as downloaded, or the unpacked folder.")]
    out: Out
    seed: Seed = 0
    workers: Workers = 1
    strict: Strict = False


def nuclei(options: Nuclei) -> None:
    """Prepare nuclei in microscopy: Data Science Bowl 2018, stage 1. Every nucleus keeps a number of its own.

    \b
    SOURCE/ID/images/ID.png                      gray or color, several sizes
    SOURCE/ID/masks/*.png                        one nucleus each

    \b
    Example:
    python -m data_prep nuclei --source stage1_train.zip --out data/nuclei --workers 4
    """
    from data_prep.datasets import nuclei as reader

    typer.echo(reader.prepare(options.source, options.out, options.seed, options.workers, options.strict))


@dataclass(frozen=True)
class Cells:
    """Hold the options of ``cells``."""

    source: Annotated[Path, typer.Option(help="One 2-D data set: its folder, or its zip archive as downloaded.")]
    out: Out
    silver: Annotated[bool, typer.Option("--silver", help="Read NN_ST, which labels all frames, instead of NN_GT.")] = (
        False
    )
    workers: Workers = 1
    strict: Strict = False


def cells(options: Cells) -> None:
    """Prepare cells in time-lapse microscopy: a 2-D data set of the Cell Tracking Challenge, annotated frames only.

    The last sequence is the test set, the end of the others the validation set.

    \b
    SOURCE/01/t000.tif                           sequences 01 and 02, three or four digits
    SOURCE/01_GT/SEG/man_seg000.tif              number of each cell, drawn by hand; some frames, often not all cells
    SOURCE/01_ST/SEG/man_seg000.tif              the same, by majority vote of programs

    \b
    Example:
    python -m data_prep cells --source PhC-C2DH-U373.zip --out data/cells
    """
    from data_prep.datasets import cells as reader

    typer.echo(reader.prepare(options.source, options.out, options.silver, options.workers, options.strict))
