"""Register commands of a command line from dataclasses of their options."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import typer


def command(app: typer.Typer, options: type[Any]) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function that takes one dataclass as a command.

    The command has the function's name, and its docstring as help.

    Args:
        app: application that gets the command.
        options: dataclass; every field, ``Annotated`` with a ``typer.Argument`` or ``typer.Option``, is an option.
    """

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        def run(**values: Any) -> None:
            function(options(**values))

        hints = get_type_hints(options, include_extras=True)
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=_default(f), annotation=hints[f.name])
                for f in dataclasses.fields(options)
            ]
        )
        run.__annotations__ = hints
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        app.command()(run)
        return function

    return register


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
