"""Assemble the command line: ``python -m medpos COMMAND``."""

import sys

import typer

from medpos.cli.explain import Explain, explain
from medpos.cli.export import Export, export
from medpos.cli.new_bundle import NewBundle, new_bundle
from medpos.cli.predict import Predict, predict
from medpos.cli.report import Report, report
from medpos.cli.study import Study, study
from medpos.core.errors import InputError
from medpos.core.options import command

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Studies of segmentation networks, reports of their results, predictions on new images, exports.",
)
command(app, Study)(study)
command(app, NewBundle)(new_bundle)
command(app, Report)(report)
command(app, Export)(export)
command(app, Explain)(explain)
command(app, Predict)(predict)


def main() -> None:
    """Run the command line; bad input is shown as one line, not as a traceback."""
    try:
        app()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
