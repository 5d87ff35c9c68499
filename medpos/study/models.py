"""What makes two trained models the same model: the resolved training configuration and the hash of the data.

A run folder's ``config.json`` says both, so a model trained for one study, or by hand, serves every other study.
"""

import csv
import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from medpos.bundle import phantoms
from medpos.bundle.startup import check_keys, check_values, resolve
from medpos.core.config import is_entry_point, with_steps
from medpos.core.errors import InputError
from medpos.core.moved import with_current_names
from medpos.data.conditions import Condition, named
from medpos.data.folder import DataFolder
from medpos.runs import files
from medpos.runs.checkpoints import load
from medpos.runs.task import is_classification, not_a_segmentation

# Keys that say where, how long ago or under which conditions, not what is learnt. Everything else but entry points
# counts, so that a bundle's own keys do too.
_NOT_LEARNT = frozenset(
    [
        "_desc_",
        "imports",
        "bundle_name",
        "bundle_root",
        "dataset_dir",
        "data_folder",
        "phantom_cases",
        "runs_dir",
        "run_name",
        "resume",
        "checkpoint",
        "device",
        "num_workers",
        "conditions",
        "degradation_table",
        "shift_pixels",
        "source",
        "run_folder",
        "board",
        "dataset",
        "dataloader",
        "key_metric",
        "handlers",
        "evaluator",
        "begin_test",
        "known_keys",
        "phantom",
        "steps",  # counted where a chain takes them
        "_meta_",
    ]
)
Config = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """One model of a study, to be trained or found.

    Args:
        data: name of the data set.
        variant: name of the variant.
        seed: of the training.
        bundle: path of the bundle's file.
        overrides: all of them, the seed among them.
        config: resolved configuration.
        chosen: the value that the validation split chose, by key.
    """

    data: str
    variant: str
    seed: int
    bundle: Path
    overrides: dict[str, Any]
    config: Config
    chosen: dict[str, Any]

    @property
    def name(self) -> str:
        """As people read it."""
        chosen = "".join(f", {key} {value}" for key, value in self.chosen.items())
        return f"{self.data}: {self.variant}{chosen}, seed {self.seed}"

    @cached_property
    def identity(self) -> str:
        """Equal for models that are the same."""
        return identity(self.config)

    @property
    def parent(self) -> Path:
        """The folder of all runs of its bundle."""
        return Path(self.config["runs_dir"]) / str(self.config["bundle_name"])

    @property
    def run_name(self) -> str:
        """What a new run of it is called: the overrides that tell it apart, and its identity."""
        plain = {k: v for k, v in self.overrides.items() if k not in _NOT_LEARNT and k != "seed"}
        words = "_".join(f"{k}-{v}" for k, v in sorted(plain.items()))
        return re.sub(r"[^A-Za-z0-9._-]", "", f"seed{self.seed}_{words}")[:60].rstrip("_-.") + f"-{self.identity[:8]}"

    def folder(self) -> Path:
        """Its run folder: a finished one if there is one, else one that was begun, else the one to be."""
        configs = sorted(self.parent.glob(f"*/{files.CONFIG}"))
        same = [path.parent for path in configs if _recorded(path, path.stat().st_mtime_ns)[0] == self.identity]
        finished = [run for run in same if files.Run(run).is_trained]
        return next(iter(finished or same), self.parent / self.run_name)


def identity(config: Config) -> str:
    """sha256 of what a training depends on, from its resolved configuration (which holds the hash of its data)."""
    learnt = {k: with_steps(v, config) for k, v in config.items() if k not in _NOT_LEARNT and not is_entry_point(k, v)}
    for part in ("train", "validate"):
        # What watches a training doesn't change it.
        learnt[part] = {k: v for k, v in learnt.get(part, {}).items() if k != "handlers"}
    return hashlib.sha256(json.dumps(with_current_names(learnt), sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=4096)
def _recorded(path: Path, modified_ns: int) -> tuple[str, str | None]:
    """Identity and degradation table of a recorded configuration, read again only when the file has changed."""
    config = _read(path)
    return identity(config), config.get("degradation_table")


def configuration(bundle: Path, overrides: dict[str, Any], makes_data: bool = True) -> Config:
    """The resolved configuration that a run of this bundle would record.

    Args:
        bundle: its file.
        overrides: of its keys.
        makes_data: make phantoms where there are no data; otherwise what rests on the data stays as it is written.

    Raises:
        InputError: there is no such bundle, or it doesn't take an override.
    """
    parser, data = parsed(bundle, overrides)
    return resolve(parser, {"data_folder"} if data == phantoms.MISSING and not makes_data else ())


def parsed(bundle: Path, overrides: dict[str, Any]) -> tuple[ConfigParser, str]:
    """A bundle with these values, from which its parts can be built, and what data there are for it.

    Raises:
        InputError: there is no such bundle, or it doesn't take an override.
    """
    if not bundle.exists():
        raise InputError(f"{bundle}: there is no such bundle; there are {', '.join(_bundles(bundle.parent))}")
    parser = ConfigParser()
    parser.read_config(bundle)
    if is_classification(parser.get()):
        raise not_a_segmentation(bundle)
    for key, value in overrides.items():
        parser[key] = value
    check_keys(parser.get())
    check_values(parser.get())
    return parser, phantoms.apply(parser, overrides)


def _bundles(folder: Path) -> list[str]:
    others = ("metadata", "multi_gpu", "crf")
    return sorted(p.stem for p in folder.glob("*.json") if not p.stem.startswith(others))


def validation_dice(run: Path) -> float:
    """Mean foreground Dice of the best epoch on the validation split."""
    return float(load(run / files.RESUME)["best_metric"])


def conditions_of(config: Config, groups: tuple[str, ...]) -> list[Condition]:
    """The conditions that these groups name for this configuration."""
    return named(groups, config["degradation_table"], config["shift_pixels"])


def tables(run: Path, config: Config) -> list[Path]:
    """The finished evaluations of a model: every ``metrics.csv`` of its run folder that was made with its settings."""
    wanted = identity(config), config["degradation_table"]
    found = []
    for table in sorted([run / files.METRICS, *run.glob(f"*/{files.METRICS}")]):
        part = files.Run(table.parent)
        if part.is_finished and part.is_recorded:
            path = part.folder / files.CONFIG
            if _recorded(path, path.stat().st_mtime_ns) == wanted:
                found.append(table)
    return found


def rows(run: Path, config: Config, conditions: list[Condition]) -> list[dict[str, str]]:
    """The rows of a model under these conditions, each condition once, as ``metrics.csv`` has them."""
    wanted = {key_of(c) for c in conditions}
    found: list[dict[str, str]] = []
    for table in tables(run, config):
        with table.open(encoding="utf-8", newline="") as stream:
            new = [row for row in csv.DictReader(stream) if _key(row) in wanted]
        wanted -= {_key(row) for row in new}
        found += new
    return found


def lacking(run: Path, config: Config, conditions: list[Condition]) -> list[Condition]:
    """The conditions under which a model has not been tested yet."""
    done = {_key(row) for row in rows(run, config, conditions)}
    return [c for c in conditions if key_of(c) not in done]


def key_of(condition: Condition) -> tuple[str, str, str]:
    """A condition as the columns of ``metrics.csv`` name it."""
    return condition.degradation, str(condition.severity), condition.shift


def _key(row: dict[str, str]) -> tuple[str, str, str]:
    return row["degradation"], row["severity"], row["shift"]


def _read(path: Path) -> Config:
    content: Config = json.loads(path.read_text(encoding="utf-8"))
    return content


def data_folder(config: Config) -> DataFolder:
    """The data set of a resolved configuration."""
    return DataFolder(config["data_folder"])
