"""Many cases, one after another: loading ahead, going on after a bad file, resuming where a call was stopped."""

import json
import logging
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from medpos import __version__
from medpos.errors import InputError
from medpos.files import write_json, write_text
from medpos.predict import measurements
from medpos.predict.inputs import Source
from medpos.predict.model import Ensemble, label_map, probability_map
from medpos.predict.orientation import Orientation
from medpos.predict.outputs import write_overlay
from medpos.predict.scan import Array, Pixels, Scan
from medpos.predict.upright import Wanted, bring

logger = logging.getLogger(__name__)

RECORDS = ".cases"
MANIFEST = "predictions.json"
MEASUREMENTS = "measurements.csv"
WARNINGS = "warnings.csv"
FAILED = "failed.txt"
PHANTOM = "network trained on PHANTOMS: not fit for patients"
_AHEAD = 2  # cases that are loaded while one is computed; the memory's bound


@dataclass(frozen=True)
class Options:
    """What the user can choose; results of other choices are never mixed in one folder.

    Args:
        probabilities: keep them too.
        overlays: write a picture of each case.
        force: take images that look wrong.
        window: grey values of the file that are black and white, in place of its format's.
        spacing_mm: in place of the file's, where that says nothing; along its axes.
    """

    probabilities: bool = False
    overlays: bool = True
    force: bool = False
    window: tuple[float, float] | None = None
    spacing_mm: tuple[float, ...] | None = None


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


@dataclass(eq=False)
class _Loaded:
    """A case that is ready for the network; ``upright`` [X, Y, Z] as in training, in its units."""

    scan: Scan
    orientation: Orientation
    upright: Array
    spacing_mm: tuple[float, float, float] | None
    decoded: list[torch.Tensor]
    warnings: list[str]


def run(
    ensemble: Ensemble,
    sources: Sequence[Source],
    out: Path,
    options: Options | None = None,
    watch: Callable[[Source], object] = lambda source: None,
) -> Summary:
    """Segment every case that has no result yet; memory holds a few cases, however many there are.

    Args:
        ensemble: the network.
        sources: the cases.
        out: folder of the results.
        options: the user's choices.
        watch: is told of every case that is done with.

    Returns:
        What was done. A case that can't be read or segmented is named there and does not stop the others.

    Raises:
        InputError: ``out`` can't be written to, or holds results of another network or other options.
    """
    options = options or Options()
    _begin(out, ensemble, options)
    summary = Summary()
    with _stoppable(summary):
        left = _left(sources, out, summary, watch)
        for source, future in _ahead(lambda source: load(source, ensemble, options), left):
            if summary.signal:
                break
            try:
                loaded = future.result()
                labels, probabilities = segment(loaded, ensemble)
            except Exception as error:
                summary.failed.append(_reason(source, error))
            else:
                # Outside the try: a full disk would fail every case that follows.
                _write(source, loaded, labels, probabilities, ensemble, out, options)
                summary.done += 1
            watch(source)
    _finish(sources, out, summary)
    return summary


def load(source: Source, ensemble: Ensemble, options: Options) -> _Loaded:
    """Read a case and bring it to the network's grid.

    Raises:
        InputError: it can't be used.
    """
    first = ensemble.models[0]
    wanted = Wanted(first.data, first.is_flat, first.is_absolute)
    found = bring(source, wanted, options.force, options.window, options.spacing_mm)
    return _Loaded(
        found.scan, found.orientation, found.values, found.spacing_mm, ensemble.decode(found.values), found.notes
    )


def segment(loaded: _Loaded, ensemble: Ensemble) -> tuple[Pixels, torch.Tensor]:
    """Label map [X, Y, Z] of the upright image, and the probabilities on the network's grid."""
    probabilities = ensemble.probabilities(loaded.decoded)
    if probabilities.ndim == 4 and probabilities.shape[3] != loaded.upright.shape[2]:
        raise InputError("the run's chain changes the number of slices, so they can't be brought back")
    return label_map(probabilities, loaded.upright.shape), probabilities


def _write(
    source: Source,
    loaded: _Loaded,
    values: Pixels,
    probabilities: torch.Tensor,
    ensemble: Ensemble,
    out: Path,
    options: Options,
) -> None:
    labels, target, back = ensemble.labels, loaded.scan.target, loaded.orientation.undo
    files = [target.write(out / source.name, back(values), labels)]
    if options.probabilities:
        whole = back(probability_map(probabilities, values.shape))
        files.append(target.write_probabilities(out / f"{source.name}_probabilities", whole))
    if options.overlays:
        files.append(out / "overlays" / f"{source.name}.png")
        lines = [source.name, PHANTOM] if ensemble.phantom else [source.name]
        write_overlay(files[-1], loaded.upright, values, labels, lines)
    record = {
        "made_from": _stamp(source),
        "files": [str(path.relative_to(out)) for path in files],
        "measurements": _plain(measurements.measure(values, loaded.spacing_mm, labels)),
        "warnings": loaded.warnings + measurements.warnings(values, loaded.spacing_mm, labels),
    }
    write_json(_record(out, source), record)  # last: it marks the case as complete


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """JSON has no NaN."""
    return [{**row, "value": None if row["value"] != row["value"] else row["value"]} for row in rows]


def _record(out: Path, source: Source) -> Path:
    return out / RECORDS / f"{source.name}.json"


def _stamp(source: Source) -> list[list[Any]]:
    """Equal as long as the files are the same."""
    stats = [(path, path.stat()) for path in source.files]
    return [[str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def _read_record(out: Path, source: Source) -> dict[str, Any] | None:
    """What an earlier call left of this case, if that is complete and of the same files."""
    try:
        record: dict[str, Any] = json.loads(_record(out, source).read_text(encoding="utf-8"))
        same = record["made_from"] == _stamp(source) and all((out / name).is_file() for name in record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if same else None


def _left(
    sources: Sequence[Source], out: Path, summary: Summary, watch: Callable[[Source], object]
) -> Iterator[Source]:
    for source in sources:
        if summary.signal:
            return
        if _read_record(out, source) is None:
            yield source
        else:
            summary.kept += 1
            watch(source)


def _ahead(
    function: Callable[[Source], _Loaded], sources: Iterator[Source]
) -> Iterator[tuple[Source, "Future[_Loaded]"]]:
    """Call the function in a thread of its own, a few cases before they are needed."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[tuple[Source, Future[_Loaded]]] = deque()
        try:
            for source in sources:
                waiting.append((source, pool.submit(function, source)))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _, future in waiting:
                future.cancel()


@contextmanager
def _stoppable(summary: Summary) -> Iterator[None]:
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


def _begin(out: Path, ensemble: Ensemble, options: Options) -> None:
    """Write what the results are made with, or find it equal."""
    if options.window is not None and not ensemble.models[0].is_absolute:
        raise InputError(
            f"--window: {ensemble.models[0].run} scales every image by itself, so it would change nothing; leave it out"
        )
    path = out / MANIFEST
    settings = {
        "models": [model.identity for model in ensemble.models],
        "backend": ensemble.models[0].backend,
        "tta_flip": ensemble.flip,
        "options": json.loads(json.dumps(asdict(options))),
    }
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            before = None
        if before != settings:
            raise InputError(f"{out}: holds predictions of other runs or options; choose another --out")
        return
    about = {
        "medpos": __version__,
        "runs": [f"{model.run.resolve().parent.name}/{model.run.resolve().name}" for model in ensemble.models],
        "trained_on_phantoms": ensemble.phantom,
        "labels": [label.to_json() for label in ensemble.labels],
        "settings": settings,
    }
    write_json(path, about)


def _finish(sources: Sequence[Source], out: Path, summary: Summary) -> None:
    """Tables over all cases that are complete, those of earlier calls too."""
    rows: list[dict[str, Any]] = []
    found: list[dict[str, str]] = []
    indexed: list[tuple[str, str, list[dict[str, Any]]]] = []
    for source in sources:
        record = _read_record(out, source)
        if record is None:
            continue
        subject, phase = source.subject_and_phase
        measured = record["measurements"]
        rows += [{"case": source.name, "subject": subject, "phase": phase, **row} for row in measured]
        found += [{"case": source.name, "warning": text} for text in record["warnings"]]
        summary.warned += bool(record["warnings"])
        indexed.append((subject, phase, measured))
    measurements.write_table(out / MEASUREMENTS, measurements.COLUMNS, rows + measurements.phases(indexed))
    measurements.write_table(out / WARNINGS, ("case", "warning"), found)
    write_text(out / FAILED, "".join(f"{line}\n" for line in summary.failed))


def _reason(source: Source, error: Exception) -> str:
    if isinstance(error, InputError):
        text = str(error)
        return (
            text
            if any(str(path) in text or str(path.parent) in text for path in source.files)
            else (f"{source.files[0]}: {text}")
        )
    logger.debug("%s", source.name, exc_info=error)
    return f"{source.files[0]}: could not be segmented ({type(error).__name__}); look at it, or leave it out"
