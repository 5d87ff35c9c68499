"""Train what a study needs, test it, and judge the study's claim: ``python -m medpos study``."""

import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from medpos.cli import output
from medpos.cli.options import check_threads, parse_value, split_pairs, split_parts
from medpos.cli.project import BUNDLES, STUDIES, copy_files, find_file
from medpos.core.errors import InputError

PLAIN: dict[str, Any] = {"markup": False, "emoji": False}  # names and paths may hold brackets


@dataclass(frozen=True)
class Study:
    """Hold the options of ``study``."""

    name: Annotated[str, typer.Argument(help="Name of a study, path of a study file, 'list', 'status' or 'copy'.")]
    of: Annotated[str, typer.Argument(help="Name of the study for 'status', all by default, or for 'copy'.")] = ""
    data: Annotated[str, typer.Option(help="Data sets, such as jsrt,acdc; the study's own by default.")] = ""
    network: Annotated[str, typer.Option(help="unet or small; the study's own by default.")] = ""
    seeds: Annotated[str, typer.Option(help="Such as 0,1,2; the study's own by default.")] = ""
    profile: Annotated[str, typer.Option(help="Name in bundles/studies/profiles.json: paper, quick or tiny.")] = "paper"
    set_: Annotated[list[str], typer.Option("--set", help="KEY=VALUE for every bundle that has the key.")] = field(
        default_factory=list
    )
    bundle: Annotated[Path | None, typer.Option(help="File of a custom plain bundle, its variants beside it.")] = None
    dataset_dir: Annotated[list[str], typer.Option(help="DATA=FOLDER, a prepared data set.")] = field(
        default_factory=list
    )
    runs_dir: Annotated[str, typer.Option(help="Folder in which models are looked for and saved.")] = "runs"
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results, studies/NAME by default; with 'copy', of the copy.")
    ] = None
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local"
    workers: Annotated[int, typer.Option(min=1, help="Number of trainings at a time on this machine.")] = 1
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of each training; 0 divides the cores.")] = 0
    address: Annotated[str, typer.Option(help="Address of a Ray cluster with shared folders.")] = ""
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each training on Ray; 0.5 shares one.")] = 0.0
    open_cluster: Annotated[bool, typer.Option("--open-cluster", help="Join a Ray cluster that has no token.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done and how long it would take.")] = (
        False
    )


def study(options: Study) -> None:
    """Train what is missing, test it, and write tables, figures and a page with the verdict on the claim."""
    # Imported late: --help must not wait for PyTorch.
    from medpos.study import declaration, display

    console = output.PlainConsole(**PLAIN)
    known = declaration.list_studies(STUDIES)
    if options.name == "list":
        for name in known:
            console.print(Text.assemble((name, "bold"), f": {declaration.load(STUDIES, name).title}"))
    elif options.name == "copy":
        _copy(options, known)
    elif options.name == "status":
        for which in [options.of] if options.of else known:
            display.show_status(_planner(options, which).plan(), which, console)
    elif options.dry_run:
        display.show_plan(_planner(options, options.name).plan(), console)
    else:
        _run(_planner(options, options.name, makes_data=True), options, console)


def _copy(options: Study, known: list[str]) -> None:
    file = find_file(STUDIES, options.of, known, "study")
    for path in copy_files([file], options.out or Path("bundles/studies")):
        output.results.print(str(path))
        output.notes.print(f"run: python -m medpos study {path}")


def _planner(options: Study, which: str, makes_data: bool = False) -> Any:
    from medpos.study import declaration
    from medpos.study.plan import Planner, Settings

    overrides = declaration.load_profile(STUDIES, options.profile)
    own_seeds = overrides.pop("seeds", [])
    overrides |= {key: parse_value(value) for key, value in split_pairs(options.set_, "--set").items()}
    chosen, data = _seeds(options.seeds) or own_seeds, list(dict.fromkeys(split_parts(options.data)))
    declared = declaration.load(STUDIES, which, options.network or None, data, chosen, options.bundle)
    results = options.out or Path("studies") / declared.name
    bundles = options.bundle.parent if options.bundle else BUNDLES
    folders = split_pairs(options.dataset_dir, "--dataset-dir")
    settings = Settings(bundles, overrides, folders, options.runs_dir, results / "logs")
    return Planner(declared, settings, makes_data)


def _seeds(text: str) -> list[int]:
    parts = split_parts(text)
    if bad := [part for part in parts if not (part.isdecimal() and int(part) < 2**32)]:
        raise InputError(
            f"--seeds: expected whole numbers from 0 to {2**32 - 1}, got {bad[0]!r}; give some such as 0,1,2"
        )
    found = [int(part) for part in parts]
    if len(set(found)) < len(found):
        raise InputError(f"--seeds: expected each seed once, got {text!r}; leave out those that stand twice")
    return found


def _engine(options: Study) -> Any:
    from medpos.study.engines import LocalEngine, RayEngine

    threads = check_threads(options.threads) or max(1, (os.cpu_count() or 1) // options.workers)
    if options.engine == "local":
        return LocalEngine(options.workers, threads)
    if options.engine == "ray":
        return RayEngine(options.address, options.workers, threads, options.gpus, options.open_cluster)
    raise InputError(f"--engine: expected local or ray, got {options.engine!r}; give one of these")


def _run(planner: Any, options: Study, console: Console) -> None:
    from medpos.report import build
    from medpos.study import display, run

    engine, out = _engine(options), options.out or Path("studies") / planner.study.name
    command = shlex.join(["python", "-m", "medpos", *sys.argv[1:]])
    with display.Display(output.PlainConsole(**PLAIN, quiet=output.notes.quiet)) as watcher:
        content = run.run(planner.study, planner.settings, engine, out, command, watcher)
    for finding in content["criteria"]:
        value = "" if finding["value"] is None else f" ({finding['value']:.3f}, {_interval(finding['ci95'])})"
        value = f" ({finding['note']})" if finding["note"] else value  # one value doesn't show what is mixed
        console.print(f"  {finding['data']}: {finding['text']}: {finding['verdict']}{value}", highlight=False)
    console.print(f"{planner.study.name}: {content['verdict_text']}", style="bold")
    page = build([out], out)
    output.results.print(f"page: {page}")
    if content["failed"]:
        raise typer.Exit(1)


def _interval(ci95: list[float] | None) -> str:
    return "no interval" if ci95 is None else f"95 % interval {ci95[0]:.3f} to {ci95[1]:.3f}"
