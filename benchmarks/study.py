"""Compare a study's trainings on one worker and on two; measure the time to write a finished study's results and page.

python -m benchmarks.study [--study figure2] [--max_epochs 6]
"""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.bundles import ROOT, prepared
from benchmarks.timing import begin, by_turns, options, row

RENDERED = 20.0  # seconds allowed


def study(name: str, folder: str, data: str, epochs: int, workers: int, place: Path) -> float:
    """Return the seconds of one call of the command line, including start-up."""
    command = [sys.executable, "-m", "medpos", "study", name, "--network", "small", "--data", "jsrt", "--seeds", "0"]
    command += ["--set", f"max_epochs={epochs}", "--set", "image_size=128", "--set", "batch_size=4"]
    command += ["--dataset-dir", f"jsrt={data}", "--runs-dir", f"{folder}/runs", "--out", f"{folder}/out"]
    command += ["--workers", str(workers), "--threads", "1"]
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, capture_output=True, cwd=place, env=environment)
    return time.perf_counter() - started


def main() -> None:
    parser = options(__doc__, repeats=2)
    parser.add_argument("--study", default="figure2")
    parser.add_argument("--max_epochs", type=int, default=6)
    arguments = parser.parse_args()
    if arguments.clock != "wall":
        parser.error("the workers are separate processes, so only --clock wall measures them")
    with prepared("jsrt_small", None, cases=40) as folders, tempfile.TemporaryDirectory() as work:
        data, place = str(Path(folders["dataset_dir"]).resolve()), Path(work)

        def run(workers: int) -> float:
            folder = tempfile.mkdtemp(dir=work)
            return study(arguments.study, folder, data, arguments.max_epochs, workers, place)

        begin(arguments)
        what = f"study {arguments.study}, 6 small CNNs of {arguments.max_epochs} epochs: 1 worker / 2 workers"
        row(what, by_turns(partial(run, 1), partial(run, 2), arguments.repeats), at_least=1.6)
        folder = tempfile.mkdtemp(dir=work)
        again = partial(study, arguments.study, folder, data, arguments.max_epochs, 2, place)
        again()
        seconds = again()
        verdict = "met" if seconds <= RENDERED else "MISSED"
        print(f"| study {arguments.study}, nothing left to train: seconds | {seconds:.1f} | <= 20 | {verdict} |")


if __name__ == "__main__":
    main()
