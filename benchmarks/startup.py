"""Starting ``python -m medpos COMMAND --help``, and a training: another commit of this repository, over this one.

Seconds of the processor, of the process and all it starts: a busy machine changes them little.

python -m benchmarks.startup [--commit ac91261] [--command "predict --help"]
python -m benchmarks.startup --bundle jsrt_pe: python -m monai.bundle run up to its first epoch, on prepared phantoms
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

from benchmarks.bundles import ROOT, prepared
from benchmarks.reading import unpack
from benchmarks.timing import by_turns, row, start_table

# Runs a bundle until the first epoch begins: prints the seconds of the processor up to there, and ends as usual.
WORKER = """
import sys, time, types
import monai.bundle
imported = time.process_time()
from monai.engines import SupervisedTrainer

def stop(trainer):
    print(time.process_time(), time.process_time() - imported)
    sys.exit()

SupervisedTrainer.run = stop
sys.modules["__main__"].__spec__ = types.SimpleNamespace(name="monai.bundle.__main__")  # as python -m has it
monai.bundle.run(run_id="run", logging_file=False, **dict(text.split("=", 1) for text in sys.argv[1:]))
"""


def seconds(code: Path, command: Sequence[str], spent: list[tuple[float, ...]]) -> float:
    """Run Python with the code in a folder, and return the seconds of the processor that it took.

    Args:
        code: folder with the code.
        command: arguments of Python.
        spent: list that gets these seconds, and the numbers that the last line of the output holds.
    """
    before = os.times()
    environment = {**os.environ, "PYTHONPATH": str(code)}
    done = subprocess.run(
        [sys.executable, *command], check=True, cwd=code, env=environment, stdout=subprocess.PIPE, text=True
    )
    after = os.times()
    whole = after.children_user + after.children_system - before.children_user - before.children_system
    last = done.stdout.rstrip().splitlines()[-1].split()
    spent.append((whole, *(map(float, last) if last[0][0].isdigit() else ())))
    return whole


def compare(codes: Sequence[Path], command: Sequence[Sequence[str]], name: str, repeats: int) -> None:
    """Print a row for the whole process, and one for each number that it prints."""
    spent: tuple[list[tuple[float, ...]], ...] = ([], [])
    before, now = (partial(seconds, *task) for task in zip(codes, command, spent, strict=True))
    before(), now()  # Python writes its compiled files, which are then in the memory of the system
    for times in spent:
        times.clear()
    by_turns(before, now, repeats)
    parts = [f"{name}, with its end", name, f"{name}, without the imports of MONAI"]
    for number, part in enumerate(parts[: len(spent[0][0])]):
        values = [[times[number] for times in of_code] for of_code in spent]
        ratios = [one / other for one, other in zip(*values, strict=True)]
        row(f"{part}: before / now ({median(values[0]):.2f} s / {median(values[1]):.2f} s)", ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--commit", default="ac91261", help="the other commit")
    parser.add_argument("--command", default="predict --help", help="arguments of python -m medpos")
    parser.add_argument("--bundle", help="bundle to start instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        codes = (unpack(arguments.commit, Path(work)), ROOT)
        start_table()
        if not arguments.bundle:
            command = ("-m", "medpos", *arguments.command.split())
            compare(codes, (command, command), f"python -m medpos {arguments.command}", arguments.repeats)
            return
        with prepared(arguments.bundle, None, 40) as folders:
            options = [f"{key}={value}" for key, value in folders.items()]
            files = [f"config_file={code}/bundles/{arguments.bundle}.json" for code in codes]
            commands = [("-c", WORKER, file, *options) for file in files]
            compare(codes, commands, f"{arguments.bundle}, up to its first epoch", arguments.repeats)


if __name__ == "__main__":
    main()
