"""Identify trained models by their resolved training configuration and the hash of their data.

Both are in a run folder's ``config.json``, so a model trained for one study, or by hand, can be used in every other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from medpos.bundle import phantoms
from medpos.bundle.keys import apply_overrides
from medpos.bundle.startup import check, resolve
from medpos.core.config_files import SUFFIXES, read_config
from medpos.core.errors import InputError
from medpos.core.files import read_csv
from medpos.data.conditions import Condition, named
from medpos.data.folder import DataFolder
from medpos.runs import files
from medpos.runs.checkpoints import load
from medpos.runs.identity import IRRELEVANT, ResultSettings, compute_identity
from medpos.runs.tables import condition_key
from medpos.runs.task import is_classification, not_a_segmentation
from medpos.statistics.criteria import ALARM, OF_PROBABILITIES
from medpos.trust.calibration import EXPECTED

Config = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """Describe one model of a study, trained or not.

    Args:
        data: name of the data set.
        variant: name of the variant.
        seed: random seed of the training.
        bundle: path of the bundle's file.
        overrides: values for keys of the bundle, with the seed.
        config: resolved configuration.
        chosen: value chosen on the validation split, by key.
        fold: fold of a cross-validation, such as ``2/5``; empty for the prepared split.
    """

    data: str
    variant: str
    seed: int
    bundle: Path
    overrides: dict[str, Any]
    config: Config
    chosen: dict[str, Any]
    fold: str = ""

    @property
    def name(self) -> str:
        """Name with data set, chosen value, fold and seed."""
        chosen = "".join(f", {key} {value}" for key, value in self.chosen.items())
        return f"{name_variant(self.data, self.variant + chosen, self.fold)}, seed {self.seed}"

    @cached_property
    def identity(self) -> str:
        """Hash that is equal for equal models."""
        return compute_identity(self.config)

    @property
    def parent(self) -> Path:
        """Folder of all runs of its bundle."""
        return Path(self.config["runs_dir"]) / str(self.config["bundle_name"])

    @property
    def run_name(self) -> str:
        """Name for a new run: seed, distinguishing overrides and the beginning of the identity."""
        plain = {k: v for k, v in self.overrides.items() if k not in IRRELEVANT and k != "seed"}
        words = "_".join(f"{k}-{v}" for k, v in sorted(plain.items())).replace("/", "-")
        return re.sub(r"[^A-Za-z0-9._-]", "", f"seed{self.seed}_{words}")[:60].rstrip("_-.") + f"-{self.identity[:8]}"

    def folder(self) -> Path:
        """Return its run folder: a finished one, else an unfinished one, else the folder of a new run."""
        configs = sorted(self.parent.glob(f"*/{files.CONFIG}"))
        same = [path.parent for path in configs if _read_identity(path, path.stat().st_mtime_ns)[0] == self.identity]
        finished = [run for run in same if files.Run(run).is_trained]
        return next(iter(finished or same), self.parent / self.run_name)


def name_variant(data: str, variant: str, fold: str) -> str:
    """Name a variant on a data set, with its fold if there is one."""
    return f"{data}: {variant}" + (f", fold {fold}" if fold else "")


@lru_cache(maxsize=4096)
def _read_identity(path: Path, modified_ns: int) -> tuple[str, ResultSettings]:
    """Read identity and settings of the results from a run's configuration, once for each state of the file."""
    config = files.read_json(path)
    return compute_identity(config), ResultSettings.of(config)


def resolve_configuration(bundle: Path, overrides: dict[str, Any], makes_data: bool = True) -> Config:
    """Resolve the configuration of a bundle as a run would record it.

    Args:
        bundle: path of the bundle's file.
        overrides: values for keys of the bundle.
        makes_data: True makes phantoms where there are no data; False leaves values that depend on the data as they are
            written.

    Raises:
        InputError: there is no such bundle, it classifies whole images, or it has no such key.
    """
    parser, data = parse_bundle(bundle, overrides)
    return resolve(parser, {"data_folder"} if data == phantoms.MISSING and not makes_data else ())


def parse_bundle(bundle: Path, overrides: dict[str, Any]) -> tuple[ConfigParser, str]:
    """Parse a bundle, so that its parts can be built.

    Args:
        bundle: path of the bundle's file.
        overrides: values for keys of the bundle.

    Returns:
        Parser with the overrides, and the kind of data that there are for the bundle.

    Raises:
        InputError: there is no such bundle, it classifies whole images, or it has no such key.
    """
    if not bundle.exists():
        raise InputError(f"{bundle}: does not exist; choose one of {', '.join(_list_bundles(bundle.parent))}")
    read_config(bundle)  # MONAI's errors don't name the line
    parser = ConfigParser()
    parser.read_config(bundle)
    if is_classification(parser.get()):
        raise not_a_segmentation(bundle)
    apply_overrides(parser, overrides)
    return parser, check(parser, overrides)


def _list_bundles(folder: Path) -> list[str]:
    others = ("metadata", "multi_gpu", "crf", "stage_")
    return sorted(p.stem for p in folder.glob("*") if p.suffix in SUFFIXES and not p.stem.startswith(others))


def read_validation_dice(run: Path) -> float:
    """Read the mean foreground Dice of the best epoch on the validation split."""
    return float(load(run / files.RESUME)["best_metric"])


def conditions_of(config: Config, groups: tuple[str, ...]) -> list[Condition]:
    """Return the conditions of these groups under a configuration."""
    return named(groups, config["degradation_table"], config["shift_pixels"])


def find_tables(run: Path, config: Config, name: str = files.METRICS) -> list[tuple[Path, ResultSettings]]:
    """Find the finished evaluations of a model and what their results depend on.

    Args:
        run: run folder of the model.
        config: resolved configuration of the model.
        name: name of the table in the run folder and its evaluations.
    """
    identity = compute_identity(config)
    found = []
    for table in sorted([run / name, *run.glob(f"*/{name}")]):
        part = files.Run(table.parent)
        if table.is_file() and part.is_finished and part.is_recorded:
            path = part.folder / files.CONFIG
            own, settings = _read_identity(path, path.stat().st_mtime_ns)
            if own == identity:
                found.append((table, settings))
    return found


def read_rows(
    run: Path, config: Config, conditions: list[Condition], name: str = files.METRICS
) -> list[dict[str, str]]:
    """Read the rows of a model under these conditions from its tables, each condition once.

    Args:
        run: run folder of the model.
        config: resolved configuration of the model; a row that was measured with other data or settings is left.
        conditions: the conditions.
        name: name of the tables.
    """
    wanted = {_text_key(c) for c in conditions}
    settings = ResultSettings.of(config)
    found: list[dict[str, str]] = []
    for table, own in find_tables(run, config, name):
        usable = {key for key in wanted if not settings.find_differences(own, [key])}
        new = [row for row in read_csv(table) if condition_key(row) in usable] if usable else []
        wanted -= {condition_key(row) for row in new}
        found += new
    return found


def add_calibration(
    rows: list[dict[str, str]], run: Path, config: Config, conditions: list[Condition]
) -> list[dict[str, Any]]:
    """Add the values of ``OF_PROBABILITIES`` to rows of ``metrics.csv``; None where an earlier version measured none.

    Args:
        rows: the rows, of :func:`read_rows`.
        run: run folder of the model.
        config: resolved configuration of the model.
        conditions: the conditions.
    """
    found = {
        (condition_key(row), row["case"], row["organ"]): row
        for row in read_rows(run, config, conditions, files.CALIBRATION)
    }
    return [{**row, **_calibration(row, found.get((condition_key(row), row["case"], row["organ"])))} for row in rows]


def _calibration(row: dict[str, str], found: dict[str, str] | None) -> dict[str, float | None]:
    if found is None:
        return dict.fromkeys(OF_PROBABILITIES)
    values = {name: float(found[name] or "nan") for name in (*OF_PROBABILITIES[1:], EXPECTED)}
    return {OF_PROBABILITIES[0]: values.pop(EXPECTED) - float(row["dice"] or "nan"), **values}


def add_alarms(
    rows: list[dict[str, Any]], run: Path, config: Config, conditions: list[Condition]
) -> list[dict[str, Any]]:
    """Add ``alarm`` to rows of ``metrics.csv``: 1 for a yellow or red light, 0 for a green one, None if not judged.

    The arguments are those of :func:`add_calibration`.
    """
    judged = read_rows(run, config, conditions, files.NOTICED_CASES)
    found = {(condition_key(row), row["case"]): float(row[ALARM]) for row in judged}
    return [{**row, ALARM: found.get((condition_key(row), row["case"]))} for row in rows]


def find_to_judge(run: Path, config: Config, groups: Sequence[str]) -> tuple[Path | None, tuple[str, ...]] | None:
    """Find a finished evaluation of a model whose images the lights must judge still.

    Args:
        run: run folder of the model.
        config: resolved configuration of the model.
        groups: groups of conditions under which they must be judged; probes of the position channels are left out,
            because the image stays as it is.

    Returns:
        The folder of the evaluation, None where none has the conditions of a group, and the groups. None where
        everything is judged.
    """
    wanted = [group for group in groups if group != "position"]
    conditions = conditions_of(config, tuple(wanted))
    done = {condition_key(row) for row in read_rows(run, config, conditions, files.NOTICED_CASES)}
    missing = {condition for condition in conditions if _text_key(condition) not in done}
    if not missing:
        return None
    settings = ResultSettings.of(config)
    for table, own in find_tables(run, config):
        tested = files.Run(table.parent).config
        usable = {
            group: found
            for group in wanted
            if set(found := conditions_of(config, (group,))) <= set(conditions_of(tested, (group,)))
            and not settings.find_differences(own, map(_text_key, found))
        }
        if missing & {condition for found in usable.values() for condition in found}:
            return table.parent, tuple(usable)
    return None, tuple(groups)


def read_moved(run: Path, config: Config, conditions: list[Condition]) -> list[dict[str, str]]:
    """Read the scores of a model's clean predictions, shifted with the image, for the shifts among the conditions."""
    return read_rows(run, config, [c for c in conditions if c.is_shift], files.MOVED)


def missing_conditions(
    run: Path, config: Config, conditions: list[Condition], needs_calibration: bool = False
) -> list[Condition]:
    """Return the conditions under which a model has not been tested yet; a shift needs its moved predictions too.

    Args:
        run: run folder of the model.
        config: resolved configuration of the model.
        conditions: the conditions.
        needs_calibration: whether the probabilities must have been measured too, as earlier versions did not.
    """
    done = {condition_key(row) for row in read_rows(run, config, conditions)}
    moved = {condition_key(row) for row in read_moved(run, config, conditions)}
    if needs_calibration:
        known = {condition_key(row) for row in read_rows(run, config, conditions, files.CALIBRATION)}
        done, moved = done & known, moved & known
    return [c for c in conditions if _text_key(c) not in (moved if c.is_shift else done)]


def _text_key(condition: Condition) -> tuple[str, str, str]:
    """Return a condition as ``metrics.csv`` names it."""
    return condition.degradation, str(condition.severity), condition.shift


def open_data_folder(config: Config) -> DataFolder:
    """Open the prepared folder of a resolved configuration."""
    return DataFolder(config["data_folder"], config.get("fold", ""))
