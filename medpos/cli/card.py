"""Write the model card of a run: ``python -m medpos card``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from medpos.cli import output


@dataclass(frozen=True)
class Card:
    """Hold the options of ``card``."""

    run: Annotated[Path, typer.Argument(help="A run folder.")]
    out: Annotated[Path | None, typer.Option(help="Markdown file; RUN/model_card.md by default, replaced.")] = None
    dataset_dir: Annotated[Path | None, typer.Option(help="Training data, for a run that lacks data.json.")] = None


def card(options: Card) -> None:
    """Write a run's model card with the CLAIM checklist, filled in as far as the run knows."""
    from medpos.export import write_run_card

    output.results.print(f"card: {write_run_card(options.run, options.out, options.dataset_dir)}")
