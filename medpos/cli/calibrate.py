"""Correct the probabilities of a trained run: ``python -m medpos calibrate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from medpos.cli import output


@dataclass(frozen=True)
class Calibrate:
    """Hold the options of ``calibrate``."""

    run: Annotated[Path, typer.Argument(help="A run folder.")]
    dataset_dir: Annotated[Path | None, typer.Option(help="Its training data, where they have moved.")] = None
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; CUDA by default where there is one.")] = ""


def calibrate(options: Calibrate) -> None:
    """Fit temperatures on the validation images of a run, for predict --calibrated; measure them on its test images."""
    from medpos.calibrate import fit_run
    from medpos.calibrate.temperatures import format_temperatures

    found = fit_run(options.run, options.dataset_dir, options.device)
    output.results.print(format_temperatures(found))
