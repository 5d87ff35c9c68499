"""Measure label maps of any tool against the ground truth: ``python -m medpos evaluate``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from medpos.cli import output
from medpos.cli.options import parse_spacing


@dataclass(frozen=True)
class Evaluate:
    """Hold the options of ``evaluate``."""

    predictions: Annotated[Path, typer.Argument(help="Folder of predicted label maps, or one file.")]
    truth: Annotated[Path, typer.Argument(help="Folder of the ground truth, or one file.")]
    out: Annotated[Path, typer.Option(help="New folder of the results.")]
    labels: Annotated[str, typer.Option(help="VALUE=NAME,... such as 1=liver,2=tumor, or a dataset.json.")]
    name: Annotated[str, typer.Option(help="Name of the tool; the folder's by default.")] = ""
    also: Annotated[
        list[str], typer.Option(help="NAME=FOLDER: predictions of another tool to compare with; repeatable.")
    ] = field(default_factory=list)
    pairs: Annotated[
        Path | None,
        typer.Option(help="CSV with the columns prediction, truth and, if wanted, case, subject, phase, image."),
    ] = None
    images: Annotated[Path | None, typer.Option(help="Folder of images to show in the report.")] = None
    subject: Annotated[str, typer.Option(help="Regular expression that finds the person in a case's name.")] = ""
    data: Annotated[str, typer.Option(help="Name of the data set; that of dataset.json or the folder's.")] = ""
    spacing: Annotated[str, typer.Option(help="X,Y or X,Y,Z in mm, for ground truth without spacing.")] = ""
    resample: Annotated[
        bool, typer.Option("--resample", help="Resample predictions on other grids, to the nearest pixel.")
    ] = False
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Measure a missing prediction as an empty one: Dice 0.")
    ] = False
    report: Annotated[bool, typer.Option(help="Write a page with the cases, in OUT/report.")] = True


def evaluate(options: Evaluate) -> None:
    """Measure the label maps of any tool against the ground truth; compare several tools in pairs."""
    from medpos.evaluate import writing

    with writing.new_folder(options.out):
        _evaluate(options)


def _evaluate(options: Evaluate) -> None:
    from tqdm import tqdm

    from medpos.data.schema import is_phantom
    from medpos.evaluate import classes, measuring, pairs
    from medpos.io.archives import Unpacker
    from medpos.io.walk import LeftOut

    declared, tools, left_out = classes.read_classes(options.labels), _tools(options), LeftOut()
    with Unpacker(options.out, left_out) as unpacker:
        opened, tools = _open(options, tools, unpacker.open_folder)
        cases = _cases(opened, tools, left_out)
        if not options.allow_missing:
            pairs.check_predictions(cases, tools)
        settings = measuring.Options(options.resample, parse_spacing(options.spacing), options.report)
        with tqdm(total=len(cases), desc="evaluate", unit="case") as bar:
            found = measuring.measure_cases(cases, tools, declared, settings, bar.update)
        phantom = declared.phantom or is_phantom(options.truth) or is_phantom(opened.truth)
    _write(options, found, declared, phantom)
    for line in left_out.describe():
        output.warnings.print(f"left out: {line}")


def _tools(options: Evaluate) -> list[Any]:
    from medpos.evaluate.pairs import Tool, check_tools

    given = [(options.name, str(options.predictions))]
    given += [(name, folder) if sign else ("", name) for name, sign, folder in (e.partition("=") for e in options.also)]
    tools = [Tool(name or _name(Path(folder)), Path(folder)) for name, folder in given]
    check_tools(tools)
    return tools


def _name(place: Path) -> str:
    """Return the name of a folder or file, of a ZIP file without its suffix."""
    from medpos.io.archives import is_zip

    return place.stem if is_zip(place) else place.resolve().name


def _open(options: Evaluate, tools: Sequence[Any], open_folder: Callable[[Path], Path]) -> tuple[Evaluate, list[Any]]:
    """Return options and tools with the folders of unpacked files in place of ZIP files."""
    images = options.images and open_folder(options.images)
    opened = [replace(tool, predictions=open_folder(tool.predictions)) for tool in tools]
    return replace(options, truth=open_folder(options.truth), images=images), opened


def _cases(options: Evaluate, tools: Sequence[Any], left_out: Any) -> Any:
    from medpos.evaluate import pairs

    if options.pairs:
        cases = pairs.read_pairs(options.pairs, tools, options.truth, options.images)
        places = [*(tool.predictions for tool in tools), options.truth, *filter(None, [options.images])]
        pairs.leave_out_unlisted(cases, places, left_out)
    else:
        cases = pairs.match_by_name(tools, options.truth, options.images, left_out)
    return pairs.find_subjects(cases, options.subject) if options.subject else cases


def _write(options: Evaluate, found: Any, declared: Any, phantom: bool) -> None:
    from medpos.core.text import group_remarks
    from medpos.evaluate import writing
    from medpos.runs.text import format_results

    data = options.data or declared.data or _name(options.truth)
    about = writing.About(data, phantom, bool(found.nominal), found.reduced, _settings(options))
    several = len(found.tools) > 1
    folders = [options.out / part.tool.name if several else options.out for part in found.tools]
    for folder, part in zip(folders, found.tools, strict=True):
        summary = writing.write_run(folder, part, about)
        title = f"{part.tool.name}: {summary['cases']} cases of {summary['subjects']} subjects of {data}"
        output.results.print(format_results(summary["conditions"], title, about.phantom))
        _warn(part)
    if several:
        comparisons = writing.compare_tools(found.tools, data)
        writing.write_comparisons(options.out, comparisons)
        output.results.print(writing.format_comparisons(comparisons))
    if found.nominal:
        output.warnings.print(
            f"{len(found.nominal)} cases state no pixel size, so their distances are in pixels; give --spacing"
        )
    for line in group_remarks(found.remarks):
        output.warnings.print(line)
    if found.reduced and options.report:
        output.notes.print(f"{len(found.reduced)} large cases are kept with fewer pixels for the report's pictures")
    output.results.print(f"results: {options.out}")
    if options.report:
        from medpos.report import build

        output.results.print(f"page: {build(folders, options.out / 'report')}")


def _warn(part: Any) -> None:
    if part.missing:
        output.warnings.print(f"{part.tool.name}: {len(part.missing)} missing predictions are measured as empty ones")
    if part.resampled:
        output.warnings.print(
            f"{part.tool.name}: {len(part.resampled)} predictions were resampled to the nearest pixel"
        )
    if part.unplaced:
        output.warnings.print(
            f"{part.tool.name}: {len(part.unplaced)} pairs in which one file states no position were compared by shape "
            "alone; check that their axes have the same order"
        )


def _settings(options: Evaluate) -> dict[str, Any]:
    """Return the options as ``config.json`` has them."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
