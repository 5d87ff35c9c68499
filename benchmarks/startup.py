"""Starting ``python -m medpos COMMAND --help``: another commit of this repository, over this one.

Seconds of the processor, of the process and all it starts: a busy machine changes them little.

python -m benchmarks.startup [--commit ac91261] [--command "predict --help"]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.bundles import ROOT
from benchmarks.reading import unpack
from benchmarks.timing import by_turns, row, start_table


def seconds(code: Path, command: Sequence[str], spent: list[float]) -> float:
    """Run a command with the code in a folder, and return the seconds of the processor that it took."""
    before = os.times()
    environment = {**os.environ, "PYTHONPATH": str(code)}
    subprocess.run(
        [sys.executable, "-m", "medpos", *command], check=True, cwd=code, env=environment, stdout=subprocess.DEVNULL
    )
    after = os.times()
    spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return spent[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--commit", default="ac91261", help="the other commit")
    parser.add_argument("--command", default="predict --help", help="arguments of python -m medpos")
    arguments = parser.parse_args()
    command = arguments.command.split()
    with tempfile.TemporaryDirectory() as work:
        spent: tuple[list[float], list[float]] = ([], [])
        codes = (unpack(arguments.commit, Path(work)), ROOT)
        before, now = (partial(seconds, code, command, times) for code, times in zip(codes, spent, strict=True))
        before(), now()  # Python writes its compiled files, which are then in the memory of the system
        for times in spent:
            times.clear()
        ratios = by_turns(before, now, arguments.repeats)
    start_table()
    name = f"python -m medpos {arguments.command}"
    row(f"{name}: {arguments.commit} / now ({median(spent[0]):.2f} s / {median(spent[1]):.2f} s)", ratios)


if __name__ == "__main__":
    main()
