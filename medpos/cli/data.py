"""Run ``data_prep`` as a command: ``python -m medpos data`` is ``python -m data_prep``."""

import runpy
import sys

import typer

# Every argument is passed on unchanged, --help too.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def data(context: typer.Context) -> None:
    """Prepare data sets, make phantoms, verify prepared folders; the same as 'python -m data_prep'."""
    sys.argv = ["data_prep", *context.args]
    runpy.run_module("data_prep", run_name="__main__", alter_sys=True)
