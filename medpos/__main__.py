"""The command line: ``python -m medpos study``, ``report``, ``new-bundle``, ``predict``, ``explain``, ``export``."""

import ast
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from medpos.errors import InputError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Studies of segmentation networks, reports of their results, predictions on new images, exports.",
)
# In a clone beside the package; else where pip puts them.
_CLONED, _INSTALLED = Path(__file__).resolve().parents[1] / "bundles", Path(sys.prefix) / "share/medpos/bundles"
BUNDLES = _CLONED if (_CLONED / "src").is_dir() else _INSTALLED


def _plain(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _pairs(entries: list[str], option: str) -> dict[str, str]:
    if bad := [entry for entry in entries if "=" not in entry]:
        raise InputError(f"{option} {bad[0]}: needed KEY=VALUE")
    return {key: value for key, _, value in (entry.partition("=") for entry in entries)}


def _list(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _seeds(text: str) -> list[int]:
    if bad := [part for part in _list(text) if not part.isdecimal()]:
        raise InputError(f"--seeds: {bad[0]!r} is no seed; give whole numbers from 0, such as 0,1,2")
    return [int(part) for part in _list(text)]


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="A study, a study's file, 'list', or 'status'.")],
    of: Annotated[str, typer.Argument(help="With 'status': the study; all by default.")] = "",
    data: Annotated[str, typer.Option(help="Data sets, such as jsrt,acdc; the study's own by default.")] = "",
    network: Annotated[str, typer.Option(help="unet or small; the study's own by default.")] = "",
    seeds: Annotated[str, typer.Option(help="Such as 0,1,2; the study's own by default.")] = "",
    profile: Annotated[str, typer.Option(help="Of bundles/studies/profiles.json: paper, quick or tiny.")] = "paper",
    set_: Annotated[list[str], typer.Option("--set", help="KEY=VALUE for every bundle that has the key.")] = [],  # noqa: B006
    bundle: Annotated[Path | None, typer.Option(help="Your own plain bundle's file; its variants beside it.")] = None,
    dataset_dir: Annotated[list[str], typer.Option(help="DATA=FOLDER, a prepared data set.")] = [],  # noqa: B006
    runs_dir: Annotated[str, typer.Option(help="Where models are found and put.")] = "runs",
    out: Annotated[Path | None, typer.Option(help="Folder of the results; studies/NAME by default.")] = None,
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local",
    workers: Annotated[int, typer.Option(min=1, help="Trainings at a time on this machine.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of each; 0 shares the cores out.")] = 0,
    address: Annotated[str, typer.Option(help="Of a Ray cluster; its machines must see the same folders.")] = "",
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each training on Ray; 0.5 shares one.")] = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and how long it would take.")
    ] = False,
) -> None:
    """Train what is missing, test it, and leave tables, figures and a page with the verdict on the claim."""
    # Imported late: --help must not wait for PyTorch.
    from medpos.study import declaration, display
    from medpos.study.plan import Planner, Settings

    console = Console()
    folder = BUNDLES / "studies"
    if name == "list":
        for known in declaration.names(folder):
            console.print(f"[bold]{known}[/]: {declaration.load(folder, known).title}")
        return
    overrides = declaration.profile(folder, profile)
    own_seeds = overrides.pop("seeds", [])
    overrides |= {key: _plain(value) for key, value in _pairs(set_, "--set").items()}
    chosen = _seeds(seeds) or own_seeds

    def planner(which: str) -> Planner:
        declared = declaration.load(folder, which, network or None, _list(data), chosen, bundle)
        results = out or Path("studies") / declared.name
        bundles = bundle.parent if bundle else BUNDLES
        settings = Settings(bundles, overrides, _pairs(dataset_dir, "--dataset-dir"), runs_dir, results / "logs")
        return Planner(declared, settings)

    if name == "status":
        for which in [of] if of else declaration.names(folder):
            display.show_status(planner(which).plan(), which, console)
        return
    made = planner(name)
    if dry_run:
        display.show_plan(made.plan(), console)
        return
    each = threads or max(1, (os.cpu_count() or 1) // workers)
    _run(made, out or Path("studies") / made.study.name, _engine(engine, workers, each, address, gpus), console)


def _engine(name: str, workers: int, threads: int, address: str, gpus: float) -> Any:
    from medpos.study.engines import LocalEngine, RayEngine

    if name not in ("local", "ray"):
        raise InputError(f"--engine is {name!r}, needed local or ray")
    return LocalEngine(workers, threads) if name == "local" else RayEngine(address, workers, threads, gpus)


def _run(planner: Any, out: Path, engine: Any, console: Console) -> None:
    from medpos.report import build
    from medpos.study import display, run

    command = shlex.join(["python", "-m", "medpos", *sys.argv[1:]])
    with display.Display(console) as watcher:
        content = run.run(planner.study, planner.settings, engine, out, command, watcher)
    for finding in content["criteria"]:
        value = "" if finding["value"] is None else f" ({finding['value']:.3f}, {_interval(finding['ci95'])})"
        console.print(f"  {finding['data']}: {finding['text']}: {finding['verdict']}{value}", highlight=False)
    console.print(f"[bold]{planner.study.name}: {content['verdict']}[/]")
    page = build([out], out)
    console.print(f"page: {page}", highlight=False)
    if content["failed"]:
        raise typer.Exit(1)


def _interval(ci95: list[float] | None) -> str:
    return "no interval" if ci95 is None else f"95 % interval {ci95[0]:.3f} to {ci95[1]:.3f}"


NETWORK_HELP = "unet, small, unetpp, plain_unet, segnet, segnet_basic, usegnet or auxiliary_unet."


@app.command()
def new_bundle(
    name: Annotated[str, typer.Argument(help="Of the bundle.")],
    data: Annotated[Path, typer.Option(help="Prepared folder; see 'python -m data_prep folder --help'.")],
    network: Annotated[str, typer.Option(help=NETWORK_HELP)] = "unet",
    pe: Annotated[bool, typer.Option("--pe", help="Also NAME_pe, with position channels.")] = False,
    mean_mask: Annotated[bool, typer.Option("--mean-mask", help="Also NAME_mean_mask, the baseline.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")] = Path("bundles"),
    replace: Annotated[bool, typer.Option("--replace", help="Write over a bundle that says something else.")] = False,
) -> None:
    """Write a bundle for your own data: size, batch and intensity are chosen from them, each with its reason."""
    from medpos import new_bundle as made

    endings = [made.POSITION] * pe + [made.MEAN_MASK] * mean_mask
    files = made.write(name, data, network, endings, BUNDLES / "src", out, replace)
    console = Console()
    for line in made.reasons(files[0]):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    for file in files:
        console.print(f"python -m monai.bundle run --config_file {file}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def report(
    sources: Annotated[list[Path], typer.Argument(help="Run folders and study folders.")],
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("report"),
) -> None:
    """Write one self-contained page of runs or studies: tables, curves, clinical indices, cases."""
    from medpos.report import build

    Console().print(f"page: {build(sources, out)}", highlight=False)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; must not exist.")],
    dataset_dir: Annotated[Path | None, typer.Option(help="Training data, for a run that lacks data.json.")] = None,
) -> None:
    """Write a run as a MONAI bundle for others: weights, TorchScript, ONNX, configurations, model card."""
    from medpos.export import export as write

    folder = write(run, out, BUNDLES.parent, dataset_dir)
    console = Console()
    config = shlex.quote(str(folder / "configs/inference.json"))
    command = f"python -m monai.bundle run --config_file {config} --bundle_root {shlex.quote(str(folder))}"
    console.print(f"bundle: {folder}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{command} --dataset_dir IMAGES --output_dir OUT", highlight=False, markup=False, soft_wrap=True)


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="A run folder, or an exported bundle.")],
    layer: Annotated[str, typer.Option(help="Such as conv5_2; the deepest by default.")] = "",
    image: Annotated[str, typer.Option(help="A file, or a case of the data; the first test case by default.")] = "",
    unit: Annotated[int | None, typer.Option(help="Channel of the layer; by default what answers most.")] = None,
    goal: Annotated[
        str, typer.Option(help="Maximise the channel's mean, or its centre pixel: mean or centre.")
    ] = "mean",
    steps: Annotated[int, typer.Option(help="Of the gradient ascent.")] = 100,
    seed: Annotated[int, typer.Option(help="Of its noise and jitter.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the pictures; explain in the run by default.")] = None,
    dataset_dir: Annotated[Path | None, typer.Option(help="Prepared data, where the run's have moved.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; CUDA by default where there is one.")] = "",
) -> None:
    """Look inside a trained network: first filters, a layer's activations, and the image that a unit looks for."""
    from medpos import explain as inside
    from medpos.predict import case
    from medpos.predict.model import Model

    wish = inside.Wish(layer, unit, goal, inside.Settings(steps=steps, seed=seed))
    model = Model(run, dataset_dir, device)
    found = inside.look(model, inside.subject_of(model, image, dataset_dir), wish)
    folder = inside.write(found, run, out)
    if model.data.phantom:
        Console(stderr=True).print(case.PHANTOM, style="bold", highlight=False)
    start, end = found.rise[0], found.rise[-1]
    text = f"{folder}: {', '.join(found.figures)}; {found.title}: activation {start:.3g}, after the ascent {end:.3g}"
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
    if end <= start:
        silent = "the unit did not rise: nothing near noise wakes it; choose another --unit or --goal"
        Console(stderr=True).print(silent, highlight=False)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, or an exported bundle.")],
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, globs, or lists of files (.txt).")],
    out: Annotated[Path, typer.Option(help="Folder of the results; the same call goes on where one was stopped.")],
    member: Annotated[list[Path], typer.Option(help="Another one, to average with; repeatable.")] = [],  # noqa: B006
    tta: Annotated[str, typer.Option(help="flip: average with the mirrored image's.")] = "",
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Keep them, as NIfTI.")] = False,
    overlays: Annotated[bool, typer.Option(help="A picture of every case.")] = True,
    window: Annotated[str, typer.Option(help="LOW,HIGH: the file's black and white; its format's by default.")] = "",
    spacing: Annotated[str, typer.Option(help="X,Y or X,Y,Z in mm, where a file says none.")] = "",
    dataset_dir: Annotated[Path | None, typer.Option(help="Training data, for a run that lacks data.json.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; CUDA by default where there is one.")] = "",
    backend: Annotated[str, typer.Option(help="torch, onnxruntime or openvino.")] = "torch",
    force: Annotated[bool, typer.Option("--force", help="Take another modality, colour, or a seeming mask.")] = False,
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads, on Ray of each task; 0: all, on Ray 1.")] = 0,
    address: Annotated[str, typer.Option(help="Of a Ray cluster; its machines must see the same folders.")] = "",
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each task on Ray; 0.5 shares one.")] = 0.0,
) -> None:
    """Segment new images with a trained run, on their own grid; measure organs and warn of what is odd.

    Exit status: 0 all cases done, 2 nothing could be done, 3 some failed, 128 + N stopped by signal N.
    """
    import torch
    from tqdm import tqdm

    from medpos.memory import keep_freed_memory
    from medpos.predict import case, cohort
    from medpos.predict import inputs as given
    from medpos.predict.model import Ensemble, Model

    if tta not in ("", "flip"):
        raise InputError(f"--tta is {tta!r}, needed flip")
    options = cohort.Options(probabilities, overlays, force, _window(window), _spacing(spacing))
    computing = _predict_engine(engine, address, threads, gpus)
    torch.set_num_threads(threads or torch.get_num_threads())
    keep_freed_memory()  # as in training: feature maps are large
    ensemble = Ensemble([Model(folder, dataset_dir, device, backend) for folder in [run, *member]], tta == "flip")
    sources = given.find(inputs, out, ensemble.models[0].data.channels)
    with tqdm(total=len(sources), desc="predict", unit="case") as bar:
        summary = cohort.run(ensemble, sources, out, options, lambda source: bar.update(), computing)
    if ensemble.phantom:
        Console(stderr=True).print(case.PHANTOM, style="bold", highlight=False)
    _tell(summary, out)


def _predict_engine(name: str, address: str, threads: int, gpus: float) -> Any:
    from medpos.predict.engines import LocalEngine, RayEngine

    if name not in ("local", "ray"):
        raise InputError(f"--engine is {name!r}, needed local or ray")
    if name == "local" and (address or gpus):
        raise InputError("--address and --gpus are for --engine ray; leave them out")
    return LocalEngine() if name == "local" else RayEngine(address, threads or 1, gpus)


def _tell(summary: Any, out: Path) -> None:
    console = Console(stderr=True)
    for line in summary.failed:
        console.print(f"failed: {line}", highlight=False, markup=False, soft_wrap=True)
    told = f"{summary.done} segmented, {summary.kept} kept from before, {len(summary.failed)} failed, "
    console.print(f"{out}: {told}{summary.warned} with warnings", highlight=False, markup=False, soft_wrap=True)
    if summary.signal:
        console.print("stopped; the same command goes on", highlight=False)
        raise typer.Exit(128 + summary.signal)
    if summary.failed:
        raise typer.Exit(3)


def _numbers(text: str, option: str, counts: tuple[int, ...], form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in counts or not all(abs(number) < float("inf") for number in numbers):
        raise InputError(f"{option} {text}: needed {form}")
    return numbers


def _window(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    low, high = _numbers(text, "--window", (2,), "LOW,HIGH, such as 0,4095")
    if low == high:
        raise InputError(f"--window {text}: black and white are the same, needed two values, such as 0,4095")
    return low, high


def _spacing(text: str) -> tuple[float, ...] | None:
    sizes = _numbers(text, "--spacing", (2, 3), "X,Y or X,Y,Z in mm, such as 0.35,0.35") if text else []
    if any(size <= 0 for size in sizes):
        raise InputError(f"--spacing {text}: needed sizes above 0 mm, such as 0.35,0.35")
    return tuple(sizes) or None


def main() -> None:
    """Run the command line; bad input is one line, not a traceback."""
    try:
        app()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
