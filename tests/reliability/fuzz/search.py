"""Search a damaged file that breaks a reader."""

import re
import shutil
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
from hypothesis import strategies as st

from .changes import changed
from .guard import BrokenError, attempt


@dataclass
class Found:
    """Hold what a search has found.

    Args:
        counts: number of files that were tried, refused and read.
        fault: the smallest fault; empty where there is none.
    """

    counts: Counter = field(default_factory=Counter)
    fault: str = ""


def search(target, seed, examples, keep=None):
    """Damage the files of a target, and read each.

    Args:
        target: the reader.
        seed: random seed; the same seed tries the same files.
        examples: number of damaged files.
        keep: folder that gets a file which breaks the reader.
    """
    found = Found()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        folder = Path(place).resolve() / "data"
        folder.mkdir()
        sound = {path: path.read_bytes() for path in target.make(folder)}
        paths = sorted(sound)
        cases = st.integers(0, len(paths) - 1).flatmap(
            lambda n: st.tuples(st.just(paths[n]), changed(paths[n].name, sound[paths[n]]))
        )

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
            suppress_health_check=list(hypothesis.HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
        )
        @hypothesis.given(cases)
        def read(case):
            path, content = case
            if keep:  # for a fault that ends the process
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"last-{path.name}").write_bytes(content)
            path.write_bytes(content)
            try:
                refused = attempt(target.read, path, folder)
                found.counts.update(["tried", "refused" if refused else "read"])
            finally:
                path.write_bytes(sound[path])
                for made in set(folder.rglob("*")) - before:
                    shutil.rmtree(made) if made.is_dir() and not made.is_symlink() else made.unlink(missing_ok=True)

        before = set(folder.rglob("*"))
        for path in paths:
            assert not attempt(target.read, path, folder), f"{target.name}: the sound {path.name} is refused"
        try:
            read()
        except (BrokenError, hypothesis.errors.Flaky) as fault:  # flaky: the file breaks the reader sometimes
            found.counts.update(["tried"])
            found.fault = _describe(fault)
            if keep:
                last = max(keep.glob("last-*"), key=lambda path: path.stat().st_mtime_ns)
                shutil.copy(last, keep / f"{re.sub('[^A-Za-z0-9]+', '-', target.name)}-{last.name}")
    return found


def _describe(fault):
    fault = fault if isinstance(fault, BrokenError) else next(iter(getattr(fault, "exceptions", ())), fault)
    trace = traceback.extract_tb(fault.__cause__.__traceback__)[-1] if fault.__cause__ else None
    return f"{fault} ({trace.filename}:{trace.lineno})" if trace else str(fault)
