"""Parse the texts of options that hold several values."""

import ast
import os
from typing import Any

from medpos.core.errors import InputError

MAX_THREADS = 256


def parse_value(text: str) -> Any:
    """Parse a Python literal; any other text stays text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two of deep nesting
        return text


def split_pairs(entries: list[str], option: str) -> dict[str, str]:
    """Split ``KEY=VALUE`` texts into a dictionary.

    Raises:
        InputError: an entry has no ``=`` or no key, or two have the same key.
    """
    if bad := [entry for entry in entries if not entry.partition("=")[0] or "=" not in entry]:
        raise InputError(f"{option}: expected KEY=VALUE, got {bad[0]!r}; write it with a key and '='")
    keys = [entry.partition("=")[0] for entry in entries]
    if double := [key for key in keys if keys.count(key) > 1]:
        raise InputError(f"{option}: expected one value for {double[0]}, got {keys.count(double[0])}; leave one")
    return {key: value for key, _, value in (entry.partition("=") for entry in entries)}


def split_parts(text: str) -> list[str]:
    """Split a text at its commas; empty parts are dropped."""
    return [part for part in text.split(",") if part]


def parse_numbers(text: str, option: str, counts: tuple[int, ...], form: str) -> list[float]:
    """Parse finite numbers separated by commas.

    Args:
        text: value of the option.
        option: name of the option, for the message.
        counts: allowed amounts of numbers.
        form: description of the right form with an example, for the message.

    Raises:
        InputError: the text isn't one of these counts of finite numbers.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in counts or not all(abs(number) < float("inf") for number in found):
        raise InputError(f"{option}: expected {form}, got {text!r}; correct it")
    return found


def check_threads(threads: int) -> int:
    """Return a number of CPU threads; far more than there are cores end the process, or the machine.

    Raises:
        InputError: the number is too large.
    """
    most = max(MAX_THREADS, os.cpu_count() or 1)
    if threads > most:
        raise InputError(
            f"--threads: expected at most {most}, got {threads}; give the number of CPU cores, or leave it out"
        )
    return threads


def parse_spacing(text: str) -> tuple[float, ...] | None:
    """Parse ``--spacing``: two or three sizes in mm; None for an empty text.

    Raises:
        InputError: the text isn't two or three numbers above 0.
    """
    sizes = parse_numbers(text, "--spacing", (2, 3), "X,Y or X,Y,Z in mm, such as 0.35,0.35") if text else []
    if any(size <= 0 for size in sizes):
        raise InputError(f"--spacing: expected sizes above 0 mm, got {text!r}; give some such as 0.35,0.35")
    return tuple(sizes) or None
