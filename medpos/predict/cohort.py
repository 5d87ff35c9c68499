"""Many cases: going on after a bad file, ending cleanly, resuming where a call was stopped."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from medpos.core.errors import InputError
from medpos.predict import records
from medpos.predict.case import Pipeline
from medpos.predict.engines import Engine, LocalEngine
from medpos.predict.inputs import CaseFiles
from medpos.predict.model import Ensemble
from medpos.predict.records import Options

__all__ = ["Options", "Summary", "predict_cases"]


@dataclass
class Summary:
    """How a call went.

    Args:
        done: cases that were segmented.
        kept: cases that an earlier call had segmented.
        warned: cases with a warning.
        failed: file and reason of each case that could not be segmented.
        signal: that stopped the call; 0: it came to its end.
    """

    done: int = 0
    kept: int = 0
    warned: int = 0
    failed: list[str] = field(default_factory=list)
    signal: int = 0


def predict_cases(
    ensemble: Ensemble,
    sources: Sequence[CaseFiles],
    out: Path,
    options: Options | None = None,
    watch: Callable[[CaseFiles], object] = lambda source: None,
    engine: Engine | None = None,
) -> Summary:
    """Segment every case that has no result yet; memory holds a few cases, however many there are.

    Args:
        ensemble: the network.
        sources: the cases.
        out: folder of the results.
        options: the user's choices.
        watch: is told of every case that is done with.
        engine: computes; this process by default.

    Returns:
        What was done. A case that can't be read or segmented is named there and does not stop the others.

    Raises:
        InputError: ``out`` can't be written to, or holds results of another network or other options.
    """
    pipeline = Pipeline(ensemble, out, options or Options())
    records.begin(out, ensemble, pipeline.options)
    summary = Summary()
    # The engine first: Ray has a handler of its own for signals, which is to be replaced.
    with engine or LocalEngine() as entered, _stop_after_case(summary):
        left = _remaining(sources, out, summary, watch)
        for outcome in entered.run(pipeline, left, lambda: bool(summary.signal)):
            if outcome.is_last:
                raise InputError(outcome.failure)
            if outcome.failure:
                summary.failed.append(outcome.failure)
            else:
                summary.done += 1
            watch(outcome.source)
    summary.warned = records.finish(out, sources, summary.failed)
    return summary


def _remaining(
    sources: Sequence[CaseFiles], out: Path, summary: Summary, watch: Callable[[CaseFiles], object]
) -> Iterator[CaseFiles]:
    for source in sources:
        if summary.signal:
            return
        if records.read(out, source) is None:
            yield source
        else:
            summary.kept += 1
            watch(source)


@contextmanager
def _stop_after_case(summary: Summary) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end the call after the present case; the second one ends it at once."""
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
