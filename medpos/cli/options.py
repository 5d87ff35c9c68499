"""Register commands whose options are the fields of a dataclass, and read option texts of several parts."""

import ast
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import typer

from medpos.core.errors import InputError


def command(app: typer.Typer, options: type[Any]) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function of one dataclass as a command.

    Args:
        app: gets the command, under the function's name with the docstring as its help.
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


def plain_value(text: str) -> Any:
    """Read a Python literal; any other text stays text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def pairs(entries: list[str], option: str) -> dict[str, str]:
    """Split ``KEY=VALUE`` texts into a dictionary.

    Raises:
        InputError: an entry has no ``=``.
    """
    if bad := [entry for entry in entries if "=" not in entry]:
        raise InputError(f"{option} {bad[0]}: expected KEY=VALUE")
    return {key: value for key, _, value in (entry.partition("=") for entry in entries)}


def parts(text: str) -> list[str]:
    """Split a text at its commas; empty parts are dropped."""
    return [part for part in text.split(",") if part]


def numbers(text: str, option: str, counts: tuple[int, ...], form: str) -> list[float]:
    """Read finite numbers separated by commas.

    Args:
        text: the option's value.
        option: name of the option, for the message.
        counts: how many numbers are allowed.
        form: description of the right form with an example, for the message.

    Raises:
        InputError: not that many finite numbers.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in counts or not all(abs(number) < float("inf") for number in found):
        raise InputError(f"{option} {text}: expected {form}")
    return found
