"""Compare ``python -m data_prep jsrt`` with one worker to the same with two.

python -m benchmarks.preparation [--raw FOLDER]
"""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.bundles import ROOT
from benchmarks.timing import begin, by_turns, options, row, timed


def data_prep(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "data_prep", *arguments], check=True, capture_output=True, cwd=ROOT)


def main() -> None:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--raw", type=Path, help="folder with JSRT's *.IMG and SCR's masks; phantoms by default")
    parser.add_argument("--cases", type=int, default=100, help="number of phantoms to make")
    arguments = parser.parse_args()
    if arguments.clock != "wall":
        parser.error("the workers are separate processes, so only --clock wall measures them")
    with tempfile.TemporaryDirectory() as work:
        raw = str(arguments.raw.resolve() if arguments.raw else work + "/raw")
        if not arguments.raw:
            data_prep("phantoms", "--kind", "jsrt", "--out", raw, "--cases", str(arguments.cases), "--workers", "2")
        images = next(Path(raw).rglob("*.IMG")).parent
        masks = next(Path(raw).rglob("fold1")).parent

        def prepare(workers: int) -> None:
            with tempfile.TemporaryDirectory(dir=work) as out:
                source = ("--images", str(images), "--masks", str(masks))
                data_prep("jsrt", *source, "--out", f"{out}/jsrt", "--workers", str(workers))

        begin(arguments)
        one, two = (partial(timed, partial(prepare, workers), "wall") for workers in (1, 2))
        ratios = by_turns(one, two, arguments.repeats)
        row(f"data_prep jsrt, {len(list(images.glob('*.IMG')))} X-rays: 1 worker / 2 workers", ratios, at_least=1.7)


if __name__ == "__main__":
    main()
