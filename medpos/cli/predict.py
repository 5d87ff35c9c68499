"""Segment new images with a trained run: ``python -m medpos predict``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from medpos.cli import output
from medpos.cli.options import check_threads, parse_numbers, parse_spacing
from medpos.core.ending import name_signal
from medpos.core.errors import InputError

_SHOWN, _REASONS = 10, 3  # cases without a green light, and reasons of each, that are shown; lights.csv has all


@dataclass(frozen=True)
class Predict:
    """Hold the options of ``predict``."""

    run: Annotated[Path, typer.Argument(help="A run folder, or an exported bundle.")]
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, globs, ZIP files, or lists of files (.txt).")]
    out: Annotated[Path, typer.Option(help="Folder of the results; the same command resumes a stopped one.")]
    member: Annotated[list[Path], typer.Option(help="Another run to average with; repeatable.")] = field(
        default_factory=list
    )
    tta: Annotated[
        str, typer.Option(help="flip, shift, noise, or several with commas: average over images changed like this.")
    ] = ""
    dropout: Annotated[int, typer.Option(min=0, max=100, help="Number of passes with dropout to average over.")] = 0
    calibrated: Annotated[
        str, typer.Option(help="one or class: correct probabilities by one temperature, or by one for each class.")
    ] = ""
    format: Annotated[
        str, typer.Option(help="nifti, nrrd, seg.nrrd (3D Slicer) or mha; by default the label map is like its image.")
    ] = ""
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Save the probabilities, as NIfTI.")] = False
    uncertainty: Annotated[
        bool,
        typer.Option("--uncertainty", help="Save maps of the uncertainty, and intervals of areas or volumes."),
    ] = False
    overlays: Annotated[bool, typer.Option(help="Save a picture of every case.")] = True
    window: Annotated[
        str,
        typer.Option(help="LOW,HIGH: values of black and white, the higher first to invert; the format's by default."),
    ] = ""
    spacing: Annotated[str, typer.Option(help="X,Y or X,Y,Z in mm, for files without spacing.")] = ""
    dataset_dir: Annotated[Path | None, typer.Option(help="Training data, for a run that lacks data.json.")] = None
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; CUDA by default where there is one.")] = ""
    backend: Annotated[str, typer.Option(help="torch, onnxruntime or openvino.")] = "torch"
    precision: Annotated[
        str, typer.Option(help="int8: the network in 8 bits, with --backend openvino; checked against float32 first.")
    ] = ""
    force: Annotated[
        bool, typer.Option("--force", help="Accept another modality, color, or what looks like a mask.")
    ] = False
    keep_names: Annotated[
        bool, typer.Option("--keep-names", help="Call DICOM cases by file or folder, which may name patients.")
    ] = False
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local"
    threads: Annotated[int, typer.Option(min=0, help="CPU threads, on Ray of each task; 0: all, on Ray 1.")] = 0
    address: Annotated[str, typer.Option(help="Address of a Ray cluster whose machines see the same folders.")] = ""
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each task on Ray; 0.5 shares one.")] = 0.0
    open_cluster: Annotated[bool, typer.Option("--open-cluster", help="Join a Ray cluster that has no token.")] = False


def predict(options: Predict) -> None:
    """Segment new images with a trained run, on their own grid; measure organs and warn of what looks wrong.

    Exit status: 0 all cases done, 2 nothing could be done, 3 some or all failed, 128 + N stopped by signal N.
    """
    import torch
    from tqdm import tqdm

    from medpos.core.memory import keep_freed_memory
    from medpos.io.archives import Unpacker
    from medpos.io.targets import FORMATS
    from medpos.io.walk import LeftOut
    from medpos.predict import case, cohort, inputs
    from medpos.predict.ensemble import Ensemble
    from medpos.predict.model import Model
    from medpos.predict.views import parse_kinds

    tta = parse_kinds(options.tta)
    if options.format not in ("", *FORMATS):
        raise InputError(f"--format: expected {', '.join(FORMATS)}, got {options.format!r}; give one, or leave it out")
    window, spacing = _window(options.window), parse_spacing(options.spacing)
    chosen = (options.probabilities, options.overlays, options.force, window, spacing, options.format)
    wanted = cohort.Options(*chosen, options.uncertainty)
    engine = _engine(options)
    torch.set_num_threads(check_threads(options.threads) or torch.get_num_threads())
    keep_freed_memory()  # as in training: feature maps are large
    folders = [options.run, *options.member]
    how = (options.dataset_dir, options.device, options.backend, options.precision)
    models = [Model(folder, *how) for folder in folders]
    ensemble = Ensemble(models, tta, options.calibrated, options.dropout)
    left_out = LeftOut()
    channels = models[0].data.channels
    with cohort.lock_results(options.out), Unpacker(options.out, left_out) as unpacker:
        given, out = options.inputs, options.out
        sources = inputs.find_cases(given, out, channels, options.keep_names, left_out, unpacker.unpack)
        with tqdm(total=len(sources), desc="predict", unit="case") as bar:
            summary = cohort.predict_cases(ensemble, sources, out, wanted, lambda _: bar.update(), engine, left_out)
    if ensemble.phantom:
        output.warnings.print(case.PHANTOM, style="bold")
    for line in left_out.describe():
        output.warnings.print(f"left out: {line}")
    if ensemble.light and summary.lights:
        _show_lights(summary.lights, ensemble.light.facts)
    _show_missing(ensemble)
    _summarize(summary, options.out)


def _engine(options: Predict) -> Any:
    from medpos.predict.engines import LocalEngine, RayEngine

    if options.engine not in ("local", "ray"):
        raise InputError(f"--engine: expected local or ray, got {options.engine!r}; give one of these")
    if options.engine == "ray":
        return RayEngine(options.address, check_threads(options.threads) or 1, options.gpus, options.open_cluster)
    if options.address or options.gpus:
        raise InputError("--address and --gpus: expected --engine ray with them, got --engine local; leave them out")
    return LocalEngine()


def _show_lights(lights: dict[str, Any], facts: dict[str, Any]) -> None:
    """Show the cases without a green light and why, the strangest first, and the number of each color."""
    strange = sorted((item for item in lights.items() if item[1]["reasons"]), key=lambda item: -item[1]["score"])
    for name, light in strange[:_SHOWN]:
        reasons = light["reasons"]
        more = [f"{len(reasons) - _REASONS} more"] if len(reasons) > _REASONS else []
        output.warnings.print(f"{light['color']} light: {name}: {'; '.join([*reasons[:_REASONS], *more])}")
    if len(strange) > _SHOWN:
        output.warnings.print(f"{len(strange) - _SHOWN} more cases without a green light: see lights.csv")
    colors = [light["color"] for light in lights.values()]
    counts = ", ".join(f"{colors.count(color)} {color}" for color in ("green", "yellow", "red"))
    familiar = " and ".join(f"{facts[split]} {split}" for split in ("validation", "training") if facts[split])
    stated = f"of images like those of the training at most {facts['false_alarm_rate']:.1%} aren't green"
    stated += f" (threshold from {familiar} images)" if familiar else ""
    tested, alarms = facts["test_cases"], facts["test_alarms"]
    measured = f"of the run's {tested} test images {alarms} weren't" if tested else ""
    output.warnings.print("; ".join(filter(None, (f"lights: {counts}", stated, measured))))


def _show_missing(ensemble: Any) -> None:
    """Say that there are no lights or no predicted Dice, and why."""
    first = ensemble.models[0]
    if ensemble.light is None:
        output.warnings.print(
            f"no lights: {first.run} has no detectors; 'python -m medpos calibrate {first.run}' fits them"
        )
    if first.dice_predictor is not None and ensemble.dice_fit is None:
        others = "--calibrated class" if ensemble.calibrated == "class" else "these --member, --tta and --dropout"
        output.warnings.print(f"no predicted Dice: 'python -m medpos calibrate' has fitted none to {others}")


def _summarize(summary: Any, out: Path) -> None:
    for line in summary.failed:
        output.warnings.print(f"failed: {line}")
    counts = f"{summary.done} segmented, {summary.kept} kept from before, {len(summary.failed)} failed, "
    output.warnings.print(f"{out}: {counts}{summary.warned} with warnings")
    if summary.signal:
        output.warnings.print(f"stopped by {name_signal(summary.signal)}; run the same command to resume")
        raise typer.Exit(128 + summary.signal)
    if summary.failed:
        raise typer.Exit(3)


def _window(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    low, high = parse_numbers(text, "--window", (2,), "LOW,HIGH, such as 0,4095")
    if low == high:
        raise InputError(f"--window: expected two different values, got {text!r}; give some such as 0,4095")
    return low, high
