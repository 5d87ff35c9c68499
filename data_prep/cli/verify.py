"""Check prepared folders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from data_prep.cli.options import Workers


@dataclass(frozen=True)
class Verify:
    """Hold the options of ``verify``."""

    folder: Annotated[Path, typer.Argument(help="Folder with a dataset.json.")]
    workers: Workers = 1
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail too.")] = False


def verify(options: Verify) -> None:
    """Check a prepared folder and list every problem, one per line; exit status 1 if there is any.

    Shapes, label values, NaN and inf, spacing, empty organs, checksums, missing and extra files, intensity statistics,
    the split, dataset.json. Warnings name what is implausible: organs on the wrong side, masks that don't fit their
    images, phases in the wrong order, sizes that no adult has, copies.
    """
    from data_prep.verify import check
    from medpos.core.errors import printable

    summary, problems, doubts = check(options.folder, options.workers)
    for line in [*problems, *(f"warning: {doubt}" for doubt in doubts)]:
        typer.echo(printable(line))
    typer.echo(printable(f"{len(problems)} problems: {summary}" if problems else f"ok: {summary}"))
    raise typer.Exit(1 if problems or (doubts and options.strict) else 0)
