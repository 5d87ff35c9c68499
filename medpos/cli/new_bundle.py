"""Write a bundle for custom data: ``python -m medpos new-bundle``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from medpos.cli import output
from medpos.cli.project import BUNDLES

NETWORK_HELP = "unet, small, unetpp, plain_unet, segnet, segnet_basic, usegnet or auxiliary_unet."


@dataclass(frozen=True)
class NewBundle:
    """Hold the options of ``new-bundle``."""

    name: Annotated[str, typer.Argument(help="Name of the bundle.")]
    data: Annotated[Path, typer.Option(help="Prepared folder; see 'python -m data_prep folder --help'.")]
    network: Annotated[str, typer.Option(help=NETWORK_HELP)] = "unet"
    loss: Annotated[str, typer.Option(help="cross_entropy, or bce_dice for one class beside the background.")] = (
        "cross_entropy"
    )
    deep_supervision: Annotated[
        bool, typer.Option("--deep-supervision", help="Train unetpp with a loss at every level; adds the entry prune.")
    ] = False
    pe: Annotated[bool, typer.Option("--pe", help="Also write NAME_pe, with position channels.")] = False
    mean_mask: Annotated[bool, typer.Option("--mean-mask", help="Also write NAME_mean_mask, the baseline.")] = False
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")] = Path("bundles")
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a bundle with other content.")] = False


def new_bundle(options: NewBundle) -> None:
    """Write a bundle for custom data, with size, batch and intensity chosen from the data, each with its reason."""
    from medpos.bundle import new_bundle as made

    endings = [made.POSITION] * options.pe + [made.MEAN_MASK] * options.mean_mask
    source = BUNDLES / "src"
    o, training = options, made.Training(options.loss, options.deep_supervision)
    files = made.write(o.name, o.data, o.network, endings, source, o.out, o.replace, training)
    for line in made.read_reasons(files[0]):
        output.notes.print(f"  {line}")
    for file in files:
        output.results.print(f"python -m monai.bundle run --config_file {file}")
