"""Provide the project's bundles to the benchmarks, on prepared data or on phantoms made on the spot."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from data_prep.prepared import find_or_make_phantoms
from medpos.bundle import phantoms

ROOT = Path(__file__).resolve().parents[1]


def bundle(name: str, **overrides: Any) -> ConfigParser:
    """Parse a bundle with these overrides and run its ``initialize``."""
    parser = ConfigParser()
    parser.read_config(ROOT / "bundles" / f"{name}.json")
    for key, value in overrides.items():
        parser[key] = value
    phantoms.apply(parser, overrides)
    # A benchmark may add keys of its own.
    parser["known_keys"] = list(parser.get())
    parser.get_parsed_content("initialize")
    return parser


@contextmanager
def prepared(name: str, dataset_dir: str | None, cases: int) -> Iterator[dict[str, str]]:
    """Yield ``dataset_dir`` and ``runs_dir`` for a bundle of this name; temporary folders are removed at the end."""
    kind = name.split("_")[0]
    with tempfile.TemporaryDirectory() as work:
        default, made = f"{work}/{kind}", f"{work}/phantoms/{kind}"
        folder = find_or_make_phantoms(kind, dataset_dir or default, default, made, cases)
        yield {"dataset_dir": folder, "runs_dir": f"{work}/runs"}
