"""Measure peak memory of a training step and of inference: stock MONAI against the fast path, in separate processes.

python -m benchmarks.memory
"""

import argparse
import resource
import subprocess
import sys
from statistics import median

from benchmarks.engines import NETWORKS, evaluator, images, trainer
from benchmarks.timing import HEADER, row

TASKS = {
    "training step, 4 images": (trainer, (4,)),
    "inference, 4 X-rays": (evaluator, (4,)),
    "inference, 1 volume of 10 slices": (evaluator, (1, 10)),
}


def peak_mb() -> float:
    """Return the largest resident size of this process so far in MB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def used(network: str, task: str, path: str) -> float:
    """Measure the MB that two runs of the engine take on top of the imports, the network and the images."""
    command = [sys.executable, "-m", "benchmarks.memory", "--one", network, task, path]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def one(network: str, task: str, path: str) -> None:
    make, shape = TASKS[task]
    engine = make(network, path, images(*shape))
    before = peak_mb()
    for _ in range(2):  # the optimizer's state exists from the second step on
        engine.run()
    print(peak_mb() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(*arguments.one)
        return
    print(HEADER)
    for network in NETWORKS:
        for task in TASKS:
            stock = median(used(network, task, "stock") for _ in range(arguments.repeats))
            for path, at_most in (("fast", 1.0), ("float32", None)):  # float32 is only shown
                ratios = [used(network, task, path) / stock for _ in range(arguments.repeats)]
                row(f"{network}, {task}: peak memory of {path} / stock ({stock:.0f} MB)", ratios, at_most=at_most)


if __name__ == "__main__":
    main()
