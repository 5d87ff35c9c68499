"""Segment many cases: skip bad files, stop cleanly, resume a stopped call."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from medpos.core.errors import InputError
from medpos.core.files import remove_partials
from medpos.core.lock import FolderLock
from medpos.io.walk import LeftOut
from medpos.predict import records
from medpos.predict.case import Pipeline
from medpos.predict.engines import Engine, LocalEngine
from medpos.predict.ensemble import Ensemble
from medpos.predict.inputs import CaseFiles
from medpos.predict.ledger import Ledger
from medpos.predict.records import Options
from medpos.predict.tables import find_lights, write_tables

__all__ = ["Options", "Summary", "lock_results", "predict_cases"]


@dataclass
class Summary:
    """Count what a call did.

    Args:
        done: number of cases that were segmented.
        kept: number of cases that an earlier call had segmented.
        warned: number of cases with a warning.
        failed: file and reason of each case that could not be segmented.
        lights: light of each case of this call by its name, as :func:`medpos.predict.tables.find_lights` returns it.
        signal: number of the signal that stopped the call; 0: none did.
    """

    done: int = 0
    kept: int = 0
    warned: int = 0
    failed: list[str] = field(default_factory=list)
    lights: dict[str, dict[str, Any]] = field(default_factory=dict)
    signal: int = 0


def lock_results(out: Path) -> FolderLock:
    """Return the lock of a folder of results, a context manager; a block within another of this process is part of it.

    Args:
        out: folder of the results; made if missing.

    Raises:
        BusyError: when entered, if another process writes into the folder.
        WriteError: when entered, if it can't be written to.
    """
    return FolderLock(out, inside=True, other="choose another --out")


def predict_cases(
    ensemble: Ensemble,
    sources: Sequence[CaseFiles],
    out: Path,
    options: Options | None = None,
    watch: Callable[[CaseFiles], object] = lambda source: None,
    engine: Engine | None = None,
    left_out: LeftOut | None = None,
) -> Summary:
    """Segment every case that has no result yet, with a few cases in memory at a time.

    Args:
        ensemble: model or models.
        sources: files of the cases.
        out: folder of the results.
        options: the user's choices.
        watch: function that is called with every case that is finished.
        engine: engine that computes; this process by default.
        left_out: files that were left out of the cases, for ``left_out.csv``.

    Returns:
        Summary of the call; a case that can't be read or segmented is listed there and doesn't stop the others.

    Raises:
        InputError: ``out`` can't be written to, is being written by another process, or holds results of another
            network or other options.
    """
    pipeline = Pipeline(ensemble, out, options or Options())
    summary = Summary()
    with lock_results(out):
        records.begin(out, ensemble, pipeline.options)
        remove_partials(out)
        ledger = Ledger(out)
        ledger.leave_out(left_out or LeftOut())
        entered = ledger.enter(sources)
        # The engine is entered first, so that the handler of signals here replaces the one that Ray sets.
        chosen = engine or LocalEngine()
        with chosen, _stop_after_case(summary):
            left = _remaining(entered, out, summary, watch)
            for outcome in chosen.run(pipeline, left, lambda: bool(summary.signal)):
                if outcome.is_last:
                    raise InputError(outcome.failure)
                ledger.entries[outcome.source.name].failure = outcome.failure
                if outcome.failure:
                    summary.failed.append(outcome.failure)
                else:
                    summary.done += 1
                watch(outcome.source)
        names = {source.name for source in entered}
        summary.warned = write_tables(ledger, ensemble.labels, names)
        summary.lights = {name: light for name, light in find_lights(ledger).items() if name in names}
    return summary


def _remaining(
    sources: Sequence[CaseFiles], out: Path, summary: Summary, watch: Callable[[CaseFiles], object]
) -> Iterator[CaseFiles]:
    for source in sources:
        if summary.signal:
            return
        if records.read(out, source.name) is None:
            yield source
        else:
            summary.kept += 1
            watch(source)


@contextmanager
def _stop_after_case(summary: Summary) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end the call after the current case; a second signal ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        summary.signal = number
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
