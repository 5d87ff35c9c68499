"""Find what MONAI doesn't pass on to a bundle's expressions, among the calling functions.

MONAI gives an expression no access to its own configuration, nor to the command that runs it.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from monai.bundle import ConfigParser, ConfigWorkflow

T = TypeVar("T")


def find_parser() -> ConfigParser:
    """Return the parser that evaluates the expression calling this function.

    Every consumer (``monai.bundle run``, MONAI Label, a plain ``ConfigParser``) evaluates through
    ``ConfigParser.get_parsed_content``.
    """
    if (parser := _find_object(ConfigParser)) is None:
        raise RuntimeError("expected a call from a bundle's configuration, got one from elsewhere")
    return parser


def find_entry_point() -> str | None:
    """Return the name of the entry point that MONAI's workflow will run; None where there is no workflow."""
    workflow = _find_object(ConfigWorkflow)
    return None if workflow is None else str(workflow.run_id)


def find_given() -> dict[str, Any]:
    """Find the overrides of the ``monai.bundle.run`` in progress.

    They may come from its command line, a file of arguments or keyword arguments.
    """
    return dict(_find_call().get("_args", {}))


def find_given_files() -> list[Path]:
    """Find the configuration files and the file of arguments of the ``monai.bundle.run`` in progress."""
    call = _find_call()
    files, arguments = call.get("config_file"), call.get("args_file")
    if isinstance(files, str):  # as MONAI takes it: several names may share a text
        files = [files] if Path(files).is_file() else files.split(",")
    return [
        Path(str(file)) for file in (*(files or ()), *([arguments] if arguments else ())) if Path(str(file)).is_file()
    ]


def _find_call() -> dict[str, Any]:
    """Return the local variables of MONAI's ``create_workflow`` among the calling functions; empty elsewhere."""
    for frame in _calling_frames():
        if frame.f_code.co_name == "create_workflow" and frame.f_globals.get("__name__") == "monai.bundle.scripts":
            return frame.f_locals
    return {}


def _find_object(kind: type[T]) -> T | None:
    """Return the object of this kind whose method is nearest among the calling functions; None where there is none."""
    objects = (frame.f_locals.get("self") for frame in _calling_frames())
    return next((found for found in objects if isinstance(found, kind)), None)


def _calling_frames() -> Iterator[FrameType]:
    """Yield the frames of the calling functions, the nearest first.

    ``inspect.stack`` looks for the source file of each among all modules, which takes 50 ms.
    """
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back
