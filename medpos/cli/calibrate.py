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
    failures: Annotated[
        bool, typer.Option("--failures", help="Measure how well the predicted Dice finds bad predictions.")
    ] = False
    member: Annotated[
        list[Path], typer.Option(help="Predict the Dice of an average with this run too; repeatable.")
    ] = field(default_factory=list)
    tta: Annotated[str, typer.Option(help="Predict the Dice of predict --tta: flip, shift, noise, or several.")] = ""
    dropout: Annotated[int, typer.Option(min=0, max=100, help="Predict the Dice of predict --dropout.")] = 0
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; CUDA by default where there is one.")] = ""


def calibrate(options: Calibrate) -> None:
    """Fit temperatures, detectors of strange images and what predicts the Dice to a run, for predict.

    Curves for the predicted Dice belong to the options --member, --tta and --dropout; a run keeps those of every call.
    """
    from medpos.calibrate import Options, calibrate_run
    from medpos.predict.views import parse_kinds

    if unknown := [name for name in options.condition if name not in ("degradations", "shifts")]:
        raise InputError(f"--condition: expected degradations or shifts, got {unknown[0]!r}; give one of these")
    tta = parse_kinds(options.tta)
    wanted = Options(options.condition, options.failures, options.member, tta, options.dropout)
    for text in calibrate_run(options.run, options.dataset_dir, options.device, wanted):
        output.results.print(text)
