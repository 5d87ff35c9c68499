"""Measure a run on the grid of its images: ``python -m medpos native``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from medpos.cli import output


@dataclass(frozen=True)
class Native:
    """Hold the options of ``native``."""

    runs: Annotated[list[Path], typer.Argument(help="Run folders of finished trainings.")]
    dataset_dir: Annotated[Path | None, typer.Option(help="Prepared data of their tests, where they have moved.")] = (
        None
    )
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; CUDA by default where there is one.")] = ""


def native(options: Native) -> None:
    """Measure the test cases of runs on the images' own grid, segmented as predict does it; clean images alone."""
    from tqdm import tqdm

    from medpos.predict.native_grid import measure_native, open_test_data
    from medpos.runs import files
    from medpos.runs.tables import summarize_conditions
    from medpos.runs.text import format_results

    for run in options.runs:
        source = open_test_data(run, options.dataset_dir)
        with tqdm(total=len(source.cases("test")), desc=run.name, unit="case") as bar:
            rows = measure_native(run, source, options.device, lambda bar=bar: bar.update())  # type: ignore[misc]
        title = f"{run.name}: test split of {source.name}, on the grid of the images"
        output.results.print(format_results(summarize_conditions(rows), title, source.phantom))
        output.notes.print(f"every case: {run / files.NATIVE}")
