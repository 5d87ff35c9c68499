"""Write a run as a MONAI bundle for others: ``python -m medpos export``."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from medpos.cli import output
from medpos.cli.project import BUNDLES


@dataclass(frozen=True)
class Export:
    """Hold the options of ``export``."""

    run: Annotated[Path, typer.Argument(help="A run folder.")]
    out: Annotated[Path, typer.Option(help="Folder of the bundle; must not exist.")]
    dataset_dir: Annotated[Path | None, typer.Option(help="Training data, for a run that lacks data.json.")] = None


def export(options: Export) -> None:
    """Write a run as a MONAI bundle for others: weights, TorchScript, ONNX, configurations, model card."""
    from medpos.export import export as write

    folder = write(options.run, options.out, BUNDLES.parent, options.dataset_dir)
    config = shlex.quote(str(folder / "configs/inference.json"))
    command = f"python -m monai.bundle run --config_file {config} --bundle_root {shlex.quote(str(folder))}"
    output.results.print(f"bundle: {folder}")
    output.notes.print(f"{command} --dataset_dir IMAGES --output_dir OUT")
