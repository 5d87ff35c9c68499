"""Print results, notes on the way to them, and warnings, on one console each."""

import os
from typing import Any

from rich.console import Console

_PLAIN: dict[str, Any] = {"emoji": False, "highlight": False, "markup": False, "soft_wrap": True}
results = Console(**_PLAIN)
notes = Console(**_PLAIN)  # progress and hints
warnings = Console(stderr=True, **_PLAIN)


def set_quiet(quiet: bool) -> None:
    """Show only results, warnings and errors from now on, or everything."""
    notes.quiet = quiet
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"  # read by the progress bars of predict and data_prep
