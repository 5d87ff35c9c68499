"""Train or test a bundle: ``python -m medpos run``, with the options of ``python -m monai.bundle run``."""

from typing import Any

import typer

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def run(context: typer.Context) -> None:
    """Train a bundle, or run another of its entry points: [ENTRY] --config_file FILE [--KEY VALUE ...].

    The options are those of 'python -m monai.bundle run'; mistakes in them are named in one line.

    \b
    Example:
    python -m medpos run --config_file bundles/jsrt_pe.json --max_epochs 20
    python -m medpos run evaluate --config_file bundles/jsrt_pe.json --conditions "['clean','shifts']"
    """
    # Imported late: --help must not wait for PyTorch.
    import fire

    from medpos.bundle.launch import launch

    def start(run_id: str | None = None, **options: Any) -> None:
        launch(context.args, run_id, options)

    fire.Fire(start, command=context.args, name="medpos run")
