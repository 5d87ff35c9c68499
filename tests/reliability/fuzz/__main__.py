"""Fuzz the readers for some minutes: ``python -m tests.reliability.fuzz --minutes 30``.

Ends with exit status 1 and the smallest damaged file of each fault; the files are kept in ``--keep``, and so are the
counts, to which further runs add.
"""

import argparse
import json
import resource
import time
import warnings
from pathlib import Path

from .search import search
from .targets import TARGETS


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=30)
    options.add_argument("--seed", type=int, default=0, help="seed of the first round")
    options.add_argument("--only", nargs="*", default=list(TARGETS), choices=list(TARGETS), metavar="TARGET")
    options.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder of files that break a reader")
    options.add_argument("--gigabytes", type=float, default=16, help="limit of the address space")
    given = options.parse_args()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (int(given.gigabytes * 2**30),) * 2)
    end, faults = time.monotonic() + 60 * given.minutes, {}
    given.keep.mkdir(parents=True, exist_ok=True)
    path = given.keep / "counts.json"
    counts = json.loads(path.read_text()) if path.exists() else {}
    number = given.seed
    while time.monotonic() < end:
        for name in given.only:
            if name in faults or time.monotonic() > end:
                continue
            found = search(TARGETS[name], seed=number, examples=100, keep=given.keep)
            done = counts.setdefault(name, {"tried": 0, "refused": 0, "read": 0})
            for key in done:
                done[key] += found.counts[key]
            if found.fault:
                faults[name] = found.fault
                print(f"{name}: {found.fault}", flush=True)
            path.write_text(json.dumps(counts, indent=2))
        number += 1
    print(json.dumps(counts, indent=2))
    print(f"{sum(count['tried'] for count in counts.values())} files, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
