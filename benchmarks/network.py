"""Compare training step and inference of stock MONAI with the fast path, and with it in float32 (``--amp False``).

python -m benchmarks.network
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks.engines import NETWORKS, evaluator, images, trainer
from benchmarks.timing import begin, by_turns, options, row, timed
from medpos.core.device import has_fast_bf16

TASKS = {
    "training step, 4 images": (trainer, (4,), 2.4),
    "inference, 4 X-rays": (evaluator, (4,), 2.6),
    "inference, 1 volume of 10 slices": (evaluator, (1, 10), 2.6),
}
NOT_SLOWER = 0.98  # 1 minus the spread of repeated measurements


class Apart:
    """Run an engine in a process of its own, because the fast path changes how its process keeps memory."""

    def __init__(self, network: str, task: str, path: str, threads: int, clock: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.clock = clock
        self.process = ProcessPoolExecutor(1, spawn, Apart.build, (network, task, path, threads))
        self()  # the first run warms up

    @classmethod
    def build(cls, network: str, task: str, path: str, threads: int) -> None:
        torch.set_num_threads(threads)
        make, shape, _ = TASKS[task]
        cls.engine = make(network, path, images(*shape))

    @classmethod
    def run(cls, clock: str) -> float:
        return timed(cls.engine.run, clock)

    def __call__(self) -> float:
        """Return the seconds of one run."""
        return self.process.submit(Apart.run, self.clock).result()


def main() -> None:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--paths", nargs="+", default=["fast", "float32"], choices=["fast", "float32"])
    arguments = parser.parse_args()
    begin(arguments)
    for network in arguments.networks:
        for task, (_, _, needed) in TASKS.items():
            for path in arguments.paths:
                quick = path == "fast" and has_fast_bf16("cpu")
                how = (arguments.threads, arguments.clock)
                stock, other = (Apart(network, task, p, *how) for p in ("stock", path))
                ratios = by_turns(stock, other, arguments.repeats)
                row(f"{network}, {task}: stock / {path}", ratios, at_least=needed if quick else NOT_SLOWER)
                stock.process.shutdown()
                other.process.shutdown()


if __name__ == "__main__":
    main()
