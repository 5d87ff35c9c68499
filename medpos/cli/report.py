"""Write a page of runs or studies: ``python -m medpos report``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from medpos.cli import output


@dataclass(frozen=True)
class Report:
    """Hold the options of ``report``."""

    sources: Annotated[list[Path], typer.Argument(help="Run folders and study folders.")]
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("report")


def report(options: Report) -> None:
    """Write one self-contained page of runs or studies: tables, curves, clinical indices, cases."""
    from medpos.report import build

    output.results.print(f"page: {build(options.sources, options.out)}")
