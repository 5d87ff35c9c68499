"""Declare the options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option(help="Folder to write; created if missing.")]
Seed = Annotated[int, typer.Option(help="Random seed of the split into training, validation and test subjects.")]
Strict = Annotated[bool, typer.Option("--strict", help="Let warnings of what is implausible fail: no dataset.json.")]
Workers = Annotated[int, typer.Option(min=1, help="Number of processes.")]
