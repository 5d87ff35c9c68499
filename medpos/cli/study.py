"""Train what a study needs, test it, and judge the study's claim: ``python -m medpos study``."""

import math
import os
import re
import shlex
import sys
import time
from dataclasses import dataclass, field, replace
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

    name: Annotated[
        str, typer.Argument(help="Name of a study, path of a study file, 'all', 'list', 'status' or 'copy'.")
    ]
    of: Annotated[
        str, typer.Argument(metavar="[STUDY]", help="Name of the study for 'status', all by default, or for 'copy'.")
    ] = ""
    data: Annotated[str, typer.Option(help="Data sets, such as jsrt,acdc; the study's own by default.")] = ""
    network: Annotated[str, typer.Option(help="unet or small; the study's own by default.")] = ""
    seeds: Annotated[str, typer.Option(help="Seeds, such as 0,1,2; the study's own by default.")] = ""
    folds: Annotated[
        int, typer.Option(min=0, max=100, help="Folds of a cross-validation over all subjects; 0: the prepared split.")
    ] = 0
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
        Path | None,
        typer.Option(
            help="Folder of the results, studies/NAME by default; with 'all', their parent; with 'copy', of the copy."
        ),
    ] = None
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local"
    workers: Annotated[int, typer.Option(min=1, help="Number of trainings at a time on this machine.")] = 1
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of each training; 0 divides the cores.")] = 0
    address: Annotated[str, typer.Option(help="Address of a Ray cluster with shared folders.")] = ""
    gpus: Annotated[
        float | None,
        typer.Option(
            "--gpus-per-training",
            "--gpus",
            min=0,
            help="GPUs of each training; 0.25 shares one; by default 1 where this machine has GPUs.",
        ),
    ] = None
    open_cluster: Annotated[bool, typer.Option("--open-cluster", help="Join a Ray cluster that has no token.")] = False
    budget: Annotated[
        str, typer.Option(help="Time for trainings and tests, such as 90s, 8m or 2h; the next call goes on.")
    ] = ""
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
    elif options.name == "all":
        _run_all(options, console)
    elif options.dry_run:
        _find_end(options.budget)  # refuses what is no time
        display.show_plan(_planner(options, options.name).plan(), console)
    else:
        planner = _planner(options, options.name, makes_data=True)
        if _run(planner, options, console, _find_end(options.budget))["failed"]:
            raise typer.Exit(1)


def _run_all(options: Study, console: Console) -> None:
    """Run all studies in their order; those that are finished are left as they are."""
    from medpos.runs import files
    from medpos.study import display, results

    until, failed = _find_end(options.budget), False
    verdicts = {}
    for one in _split(options):
        if time.monotonic() >= until:
            verdicts[one.name] = "not begun in this call"
            continue
        console.print(one.name, style="bold")
        planner = _planner(one, one.name, makes_data=not one.dry_run)
        plan, out = planner.plan(), one.out or Path()
        if one.dry_run:
            display.show_plan(plan, console)
        elif results.is_written(planner, plan, out):
            verdicts[one.name] = files.read_json(out / files.STUDY)["verdict_text"]
        else:
            content = _run(planner, one, console, until)
            failed |= bool(content["failed"])
            verdicts[one.name] = content["verdict_text"] + ("; not finished" if content["left"] else "")
    for name, verdict in verdicts.items():
        output.results.print(f"{name}: {verdict}")
    if failed:
        raise typer.Exit(1)


def _split(options: Study) -> list[Study]:
    """Return the options of each study, the most important first, with the data sets that it has.

    Raises:
        InputError: no study has a data set that is asked for.
    """
    from medpos.study import declaration

    names = declaration.in_order(STUDIES)
    own = {name: declaration.load(STUDIES, name, bundle=options.bundle).data for name in names}
    asked, folders = split_parts(options.data), split_pairs(options.dataset_dir, "--dataset-dir")
    for option, names in (("--data", asked), ("--dataset-dir", list(folders))):
        known = sorted(set().union(*own.values()))
        if unknown := [name for name in names if name not in known]:
            raise InputError(f"{option}: expected data sets among {', '.join(known)}, got {unknown[0]!r}; choose one")
    found = []
    for name, sets in own.items():
        data = [one for one in sets if not asked or one in asked]
        pairs = [f"{one}={folder}" for one, folder in folders.items() if one in data]
        if data:
            out = (options.out or Path("studies")) / name
            found.append(replace(options, name=name, data=",".join(data), dataset_dir=pairs, out=out))
    return found


def _find_end(budget: str) -> float:
    """Return the time of ``time.monotonic`` at which a budget ends, in seconds; infinity without one.

    Raises:
        InputError: the budget isn't a time.
    """
    if not budget:
        return math.inf
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smh])", budget)
    if not found:
        raise InputError(f"--budget: expected a time such as 90s, 8m or 2h, got {budget!r}; correct it")
    return time.monotonic() + float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


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
    declared = declaration.load(STUDIES, which, options.network or None, data, chosen, options.bundle, options.folds)
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
    from medpos.core.gpus import find_gpus
    from medpos.study.engines import LocalEngine, RayEngine

    takes_any = split_pairs(options.set_, "--set").get("device", "cuda") == "cuda"
    gpus = find_gpus() if takes_any and options.gpus != 0 else []
    part = options.gpus if options.gpus is not None else float(bool(gpus) and not options.address)
    threads = check_threads(options.threads) or max(1, (os.cpu_count() or 1) // options.workers)
    if options.engine == "local":
        return LocalEngine(options.workers, threads, gpus, part)
    if options.engine == "ray":
        return RayEngine(options.address, options.workers, threads, part, options.open_cluster)
    raise InputError(f"--engine: expected local or ray, got {options.engine!r}; give one of these")


def _run(planner: Any, options: Study, console: Console, until: float) -> dict[str, Any]:
    """Run a study until a time of ``time.monotonic``, print its verdict, and return the content of ``study.json``."""
    from medpos.report import build
    from medpos.study import display, run

    engine, out = _engine(options), options.out or Path("studies") / planner.study.name
    command = shlex.join(["python", "-m", "medpos", *sys.argv[1:]])
    with display.Display(output.PlainConsole(**PLAIN, quiet=output.notes.quiet)) as watcher:
        content = run.run(planner.study, planner.settings, engine, out, command, watcher, until)
    for finding in content["criteria"]:
        value = "" if finding["value"] is None else f" ({finding['value']:.3f}, {_interval(finding['ci95'])})"
        value = f" ({finding['note']})" if finding["note"] else value  # one value doesn't show what is mixed
        console.print(f"  {finding['data']}: {finding['text']}: {finding['verdict']}{value}", highlight=False)
    console.print(f"{planner.study.name}: {content['verdict_text']}", style="bold")
    page = build([out], out)
    output.results.print(f"page: {page}")
    if content["left"]:
        output.notes.print(f"{content['left']} trainings and tests are left; the same command goes on with them")
    return content


def _interval(ci95: list[float] | None) -> str:
    return "no interval" if ci95 is None else f"95 % interval {ci95[0]:.3f} to {ci95[1]:.3f}"
