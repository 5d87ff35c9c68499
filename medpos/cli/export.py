"""Write a run as a MONAI bundle for others: ``python -m medpos export``."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from medpos.cli.bundles import BUNDLES


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
    console = Console()
    config = shlex.quote(str(folder / "configs/inference.json"))
    command = f"python -m monai.bundle run --config_file {config} --bundle_root {shlex.quote(str(folder))}"
    console.print(f"bundle: {folder}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{command} --dataset_dir IMAGES --output_dir OUT", highlight=False, markup=False, soft_wrap=True)
