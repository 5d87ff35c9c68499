"""Read option texts of several parts."""

import ast
from typing import Any

from medpos.core.errors import InputError


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
