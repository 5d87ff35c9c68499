"""List and copy the notebooks that come with the package: ``python -m medpos notebooks``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from medpos.cli import output
from medpos.cli.project import NOTEBOOKS, copy_files
from medpos.core.options import command

app = typer.Typer(no_args_is_help=True, help="List and copy the notebooks that come with medpos.")


@dataclass(frozen=True)
class Copy:
    """Hold the options of ``notebooks copy``."""

    out: Annotated[Path, typer.Option(help="Folder of the copies.")] = Path("notebooks")
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite files with other content.")] = False


@app.command("list")
def show_list() -> None:
    """List the notebooks with their titles."""
    for path in _notebooks():
        title = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"][0]
        output.results.print(f"{path.name}  {title.lstrip('# ').strip()}")


def copy(options: Copy) -> None:
    """Copy the notebooks into a folder; what runs them is in the extra ``notebooks``."""
    for path in copy_files(_notebooks(), options.out, options.replace):
        output.results.print(str(path))


command(app, Copy)(copy)


def _notebooks() -> list[Path]:
    return sorted(NOTEBOOKS.glob("*.ipynb"))
