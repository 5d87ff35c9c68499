"""Assemble the command line: ``python -m medpos COMMAND``."""

from typing import Annotated

import typer

from medpos import __version__
from medpos.cli import bundles, networks, notebooks, output
from medpos.cli import run as run_command
from medpos.cli.calibrate import Calibrate, calibrate
from medpos.cli.card import Card, card
from medpos.cli.data import PASS_ON, data
from medpos.cli.evaluate import Evaluate, evaluate
from medpos.cli.explain import Explain, explain
from medpos.cli.export import Export, export
from medpos.cli.native import Native, native
from medpos.cli.new_bundle import NewBundle, new_bundle
from medpos.cli.predict import Predict, predict
from medpos.cli.report import Report, report
from medpos.cli.study import Study, study
from medpos.core.ending import run_plainly
from medpos.core.options import command
from medpos.core.streams import show_plainly

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Bundles to train, studies of segmentation networks, reports of their results, predictions on new images, "
    "exports.",
)
app.add_typer(bundles.app, name="bundles")
app.command(context_settings=PASS_ON, add_help_option=False)(data)
app.command(context_settings=run_command.PASS_ON)(run_command.run)
command(app, Study)(study)
command(app, NewBundle)(new_bundle)
command(app, Report)(report)
command(app, Evaluate)(evaluate)
command(app, Calibrate)(calibrate)
command(app, Native)(native)
command(app, Card)(card)
command(app, Export)(export)
command(app, Explain)(explain)
command(app, Predict)(predict)
app.add_typer(networks.app, name="networks")
app.add_typer(notebooks.app, name="notebooks")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"medpos {__version__}")
        raise typer.Exit


@app.callback()
def set_up(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show only results, warnings and errors.")] = False,
) -> None:
    """Set up what all commands share."""
    output.set_quiet(quiet)


def main() -> None:
    """Run the command line; bad input is shown as one line, not as a traceback."""
    show_plainly()
    run_plainly(app)
