"""Show facts about untrained networks: ``python -m medpos networks``."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from medpos.cli import output
from medpos.cli.bundles import bundle_names, find_bundle
from medpos.core.options import command

app = typer.Typer(no_args_is_help=True, help="Compare networks; show what the padding of a network does.")
FACTS = "networks"  # stem of the table's file
LARGEST = 2048  # px; its features in a U-Net take some GB


@dataclass(frozen=True)
class Compare:
    """Hold the options of ``networks compare``."""

    names: Annotated[
        list[str], typer.Argument(autocompletion=bundle_names, help="Names of bundles, such as voc_fcn32s.")
    ]
    size: Annotated[int, typer.Option(min=8, max=LARGEST, help="Side of the image, px.")] = 500
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="Forward passes whose time is averaged.")] = 20
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; CUDA by default where there is one.")] = ""
    out: Annotated[Path | None, typer.Option(help="Folder for the table as networks.csv.")] = None


@dataclass(frozen=True)
class Padding:
    """Hold the options of ``networks padding``."""

    size: Annotated[int, typer.Option(min=8, max=1024, help="Side of the constant image, px.")] = 224
    width: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Factor of VGG-16's channels; a small one is faster.")
    ] = 1.0
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the random weights.")] = 0
    out: Annotated[Path, typer.Option(help="Folder for padding.png, padding.svg and padding.csv.")] = Path("padding")


def compare(options: Compare) -> None:
    """Print parameters, storage, convolutions, receptive field, stride and forward time of the networks of bundles."""
    import torch
    from monai.bundle import ConfigParser
    from rich.table import Table

    from medpos.core.device import check_device
    from medpos.core.files import write_csv
    from medpos.explain.comparison import NetworkFacts, find_facts
    from medpos.runs.task import is_classification, not_a_segmentation

    device = check_device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    found = []
    for name in options.names:
        parser = ConfigParser()
        parser.read_config(path := find_bundle(name))
        if is_classification(parser.get()):
            raise not_a_segmentation(path)
        network = parser.get_parsed_content("network_def")
        found.append(
            find_facts(name, network, parser["network_def"]["in_channels"], options.size, options.trials, device)
        )
    table = Table(title=f"Forward pass of one image of {options.size} x {options.size} px on {device}, float32")
    for column in ("network", "parameters", "MB", "convolutions", "field, px", "stride, px", "forward, ms"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=column == "network")
    for facts in found:
        table.add_row(*_cells(facts))
    output.results.print(table)
    if options.out is not None:
        columns = list(NetworkFacts.__annotations__)
        write_csv(options.out / f"{FACTS}.csv", columns, map(asdict, found))
        output.results.print(str(options.out / f"{FACTS}.csv"))


def _cells(facts: Any) -> list[str]:
    field, stride = ("-" if value is None else str(value) for value in (facts.field, facts.stride))
    numbers = (f"{facts.parameters:,}", f"{facts.storage_mb:.1f}", str(facts.convolutions))
    return [facts.name, *numbers, field, stride, f"{facts.forward_ms:.1f}"]


def padding(options: Padding) -> None:
    """Draw what each padding does to a constant image in VGG-16, and what is left without padding."""
    from medpos.core.files import write_csv
    from medpos.explain.padding import draw_padding, measure_padding
    from medpos.plotting.style import save_figure

    effects = measure_padding(size=options.size, width=options.width, seed=options.seed)
    drawing = draw_padding(effects, options.size)
    save_figure(drawing.figure, options.out, drawing.name)
    rows = [
        {
            "padding": effect.mode,
            "layer": effect.layer,
            "side_px": len(effect.change),
            "changed": effect.changed,
            "largest_change": float(effect.change.max()),
        }
        for effect in effects
    ]
    write_csv(options.out / f"{drawing.name}.csv", list(rows[0]), rows)
    for row in rows:
        if row["layer"] == effects[-1].layer:
            output.results.print(
                f"{row['padding']}: {row['layer']} of {row['side_px']} x {row['side_px']} px, the border changes "
                f"{row['changed']:.0%} of it, by up to {row['largest_change']:.0%}"
            )
    output.results.print(f"{options.out / drawing.name}.png")


command(app, Compare)(compare)
command(app, Padding)(padding)
