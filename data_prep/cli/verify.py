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


def verify(options: Verify) -> None:
    """Check a prepared folder and list every problem, one per line; exit status 1 if there is any.

    Shapes, label values, NaN and inf, spacing, empty organs, checksums, missing and extra files, intensity statistics,
    the split, dataset.json.
    """
    from data_prep.verify import check
    from medpos.core.errors import printable

    summary, problems = check(options.folder, options.workers)
    for problem in problems:
        typer.echo(printable(problem))
    typer.echo(printable(f"{len(problems)} problems: {summary}" if problems else f"ok: {summary}"))
    raise typer.Exit(1 if problems else 0)
