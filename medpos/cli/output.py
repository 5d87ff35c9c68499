"""Print results, notes on the way to them, and warnings, on one console each."""

import os
from typing import Any

from rich.console import Console

from medpos.core.errors import printable


class PlainConsole(Console):
    """Print text with escapes for control characters, because names of files and classes may hold any."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts line by line, and tables as they are."""
        lines = ("\n".join(map(printable, part.split("\n"))) if isinstance(part, str) else part for part in objects)
        super().print(*lines, **options)


_PLAIN: dict[str, Any] = {"emoji": False, "highlight": False, "markup": False, "soft_wrap": True}
results = PlainConsole(**_PLAIN)
notes = PlainConsole(**_PLAIN)  # progress and hints
warnings = PlainConsole(stderr=True, **_PLAIN)


def set_quiet(quiet: bool) -> None:
    """Show only results, warnings and errors from now on, or everything."""
    notes.quiet = quiet
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"  # read by the progress bars of predict and data_prep
