"""Show what is inside a trained network: ``python -m medpos explain``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from medpos.cli import output


@dataclass(frozen=True)
class Explain:
    """Hold the options of ``explain``."""

    run: Annotated[Path, typer.Argument(help="A run folder, or an exported bundle.")]
    layer: Annotated[str, typer.Option(help="Name of a layer, such as conv5_2; the deepest by default.")] = ""
    image: Annotated[str, typer.Option(help="A file, or a case of the data; the first test case by default.")] = ""
    unit: Annotated[int | None, typer.Option(help="Channel of the layer; by default the most active one.")] = None
    goal: Annotated[str, typer.Option(help="Maximize the channel's mean or its center pixel: mean or center.")] = "mean"
    steps: Annotated[int, typer.Option(help="Number of steps of the gradient ascent.")] = 100
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the ascent's noise and jitter.")] = 0
    out: Annotated[Path | None, typer.Option(help="Folder of the pictures; explain in the run by default.")] = None
    dataset_dir: Annotated[Path | None, typer.Option(help="Prepared data, where the run's have moved.")] = None
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; CUDA by default where there is one.")] = ""


def explain(options: Explain) -> None:
    """Draw the first filters of a trained network, a layer's activations, and the image that a unit prefers."""
    from medpos.explain import AscentSettings, ExplainOptions, explain_network, load_input_image, write_explanation
    from medpos.predict import case
    from medpos.predict.model import Model

    settings = AscentSettings(steps=options.steps, seed=options.seed)
    choices = ExplainOptions(options.layer, options.unit, options.goal, settings)
    model = Model(options.run, options.dataset_dir, options.device)
    image = load_input_image(model, options.image, options.dataset_dir)
    found = explain_network(model, image, choices)
    folder = write_explanation(found, options.run, options.out)
    if model.data.phantom:
        output.warnings.print(case.PHANTOM, style="bold")
    start, end = found.activations[0], found.activations[-1]
    text = f"{folder}: {', '.join(found.figures)}; {found.title}: activation {start:.3g}, after the ascent {end:.3g}"
    output.results.print(text)
    if end <= start:
        silent = "the unit's activation did not rise from noise; choose another --unit or --goal"
        output.warnings.print(silent)
