"""Learn how far a trained run can be trusted: ``python -m medpos calibrate``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from medpos.cli import output
from medpos.core.errors import InputError


@dataclass(frozen=True)
class Calibrate:
    """Hold the options of ``calibrate``."""

    run: Annotated[Path, typer.Argument(help="A run folder.")]
    dataset_dir: Annotated[Path | None, typer.Option(help="Its training data, where they have moved.")] = None
    condition: Annotated[
        list[str], typer.Option(help="degradations or shifts: measure what the lights notice; repeatable.")
    ] = field(default_factory=list)
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; CUDA by default where there is one.")] = ""


def calibrate(options: Calibrate) -> None:
    """Fit temperatures and detectors of strange images to a run, for predict: --calibrated and the traffic lights."""
    from medpos.calibrate import calibrate_run

    if unknown := [name for name in options.condition if name not in ("degradations", "shifts")]:
        raise InputError(f"--condition: expected degradations or shifts, got {unknown[0]!r}; give one of these")

    for text in calibrate_run(options.run, options.dataset_dir, options.device, options.condition):
        output.results.print(text)
