"""Measure ratios of two ways to do one thing in alternation, because a shared machine is never quiet."""

import argparse
import time
from collections.abc import Callable
from statistics import median, quantiles

import torch

HEADER = "| what | ratio (quartiles) | needed | |\n|---|---|---|---|"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def options(about: str, repeats: int) -> argparse.ArgumentParser:
    """Define the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    about_clocks = "cpu: seconds of this process alone, for busy machines, with --threads 1"
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help=about_clocks)
    return parser


def begin(arguments: argparse.Namespace) -> None:
    """Set the number of threads and print the head of the table."""
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.clock} time\n")
    start_table()


def start_table() -> None:
    """Print the head of the table."""
    print(HEADER, flush=True)


def timed(task: Callable[[], object], clock: str) -> float:
    """Return the seconds that the task takes."""
    started = CLOCKS[clock]()
    task()
    return CLOCKS[clock]() - started


def by_turns(one: Callable[[], float], other: Callable[[], float], repeats: int) -> list[float]:
    """Return the time of ``one`` over that of ``other`` for each repeat; they take turns in going first."""
    ratios = []
    for turn in range(repeats):
        spent = {timer: timer() for timer in ((one, other) if turn % 2 else (other, one))}
        ratios.append(spent[one] / spent[other])
    return ratios


def row(what: str, ratios: list[float], at_least: float | None = None, at_most: float | None = None) -> None:
    """Print one row of the table."""
    middle = median(ratios)
    low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else (middle, middle, middle)
    met = (at_least is None or middle >= at_least) and (at_most is None or middle <= at_most)
    needed = " ".join(f"{sign} {v:.2f}" for sign, v in ((">=", at_least), ("<=", at_most)) if v is not None)
    verdict = "" if not needed else "met" if met else "MISSED"
    print(f"| {what} | {middle:.2f} ({low:.2f} to {high:.2f}) | {needed} | {verdict} |", flush=True)
