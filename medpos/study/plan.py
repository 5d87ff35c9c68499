"""Plan a study: its models, and the jobs that are left to run.

A plan is made from the run folders, so an interrupted study is planned again and continues where it stopped.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medpos.bundle.keys import suggest
from medpos.core.config_files import find_config, read_config
from medpos.core.errors import InputError
from medpos.data.conditions import Condition
from medpos.data.split import list_folds
from medpos.runs import files
from medpos.study.declaration import Study, Variant
from medpos.study.jobs import Job
from medpos.study.models import (
    Config,
    Model,
    conditions_of,
    find_to_judge,
    missing_conditions,
    name_variant,
    read_validation_dice,
    resolve_configuration,
)

_EPOCH = re.compile(r"epoch (\d+)/(\d+);.* ([\d.]+) s$", re.MULTILINE)


@dataclass(frozen=True)
class Settings:
    """Hold the folders and overrides for running a study.

    Args:
        bundles: folder of the bundles.
        overrides: values for keys, used in every bundle that has the key.
        dataset_dirs: prepared folder of each data set; that of the bundle where none is given.
        runs_dir: folder of all runs; empty for that of the bundle.
        logs: folder for the printed output of the jobs.
    """

    bundles: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    dataset_dirs: dict[str, str] = field(default_factory=dict)
    runs_dir: str = ""
    logs: Path = Path("logs")


@dataclass(frozen=True)
class Plan:
    """Hold the models of a study and the jobs that are left.

    Args:
        models: every model that is known so far.
        jobs: jobs that are left, at most one per model.
        undecided: variants with a value that isn't chosen yet on the validation split.
    """

    models: tuple[Model, ...]
    jobs: tuple[Job, ...]
    undecided: tuple[str, ...]

    @property
    def decided(self) -> tuple[Model, ...]:
        """The models without the candidates of a choice that can't be made yet, which would pass for one model."""
        names = set(self.undecided)
        return tuple(model for model in self.models if name_variant(model.data, model.variant, model.fold) not in names)


class Planner:
    """Plan a study; configurations are resolved once.

    Args:
        study: declaration of the study.
        settings: folders and overrides.
        makes_data: True makes phantoms where there are no data; False counts their models as untrained.
    """

    def __init__(self, study: Study, settings: Settings, makes_data: bool = True) -> None:
        self.study, self.settings, self.makes_data = study, settings, makes_data
        self._configs: dict[tuple[Any, ...], Config] = {}
        self._bundle_keys: dict[Path, set[str]] = {}
        self._check_settings()
        # Prepared data or phantoms that the first bundle of a data set found, so that they are searched for once.
        self._folders = dict(settings.dataset_dirs)

    def plan(self, given_up: Sequence[str] = ()) -> Plan:
        """Plan from the present state of the run folders.

        Args:
            given_up: run folders of failed jobs; they aren't tried again, and choices are made without them.
        """
        models: list[Model] = []
        jobs: dict[str, Job] = {}
        undecided: list[str] = []
        for data, variant, fold in self._variants():
            chosen, candidates = self._choose(data, variant, fold, given_up)
            if chosen is None:
                undecided.append(name_variant(data, variant.name, fold))
                models += candidates
            else:
                models += [self._model(data, variant, fold, seed, chosen) for seed in self._seeds(variant)]
                # Candidates that aren't chosen are trained before, so that the choice can be made again.
        for model in models:
            job = self._job(model)
            if job is not None and job.folder not in given_up:
                jobs.setdefault(job.folder, job)
        return Plan(tuple(models), tuple(jobs.values()), tuple(undecided))

    def conditions(self, model: Model) -> list[Condition]:
        """Return the conditions that a model is tested under; probes need a model with position channels."""
        return conditions_of(model.config, self._groups(model))

    def choices(self) -> list[tuple[str, str, str, Any, float, bool]]:
        """Return data set, model, key, value, validation Dice and whether it was chosen, for each trained candidate."""
        rows = []
        for data, variant, fold in self._variants():
            chosen, candidates = self._choose(data, variant, fold, ())
            for model in candidates:
                [(key, value)] = model.chosen.items()
                if files.Run(model.folder()).is_trained:
                    dice = read_validation_dice(model.folder())
                    name = variant.name + (f", fold {fold}" if fold else "")
                    rows.append((data, name, key, value, dice, model.chosen == chosen))
        return rows

    def _variants(self) -> Iterator[tuple[str, Variant, str]]:
        """Yield data set, variant and fold of all models."""
        folds = list_folds(self.study.folds) or [""]
        for data, variant, fold in itertools.product(self.study.data, self.study.variants, folds):
            if not variant.data or data in variant.data:
                yield data, variant, fold

    def _groups(self, model: Model) -> tuple[str, ...]:
        gives_position = "pe_alpha" in model.config and model.config.get("encoding", "linear") in ("linear", "placebo")
        return tuple(g for g in self.study.conditions if g != "position" or gives_position)

    def _seeds(self, variant: Variant) -> tuple[int, ...]:
        return variant.seeds or self.study.seeds

    def _choose(
        self, data: str, variant: Variant, fold: str, given_up: Sequence[str]
    ) -> tuple[dict[str, Any] | None, list[Model]]:
        """Return the value with the best validation Dice, None while candidates are untrained, and the candidates.

        Each fold has a choice of its own, because subjects that validate in one fold are tested in another.
        """
        if not variant.choose:
            return {}, []
        [(key, values)] = variant.choose.items()
        candidates = [self._model(data, variant, fold, self._seeds(variant)[0], {key: value}) for value in values]
        folders = {value: model.folder() for value, model in zip(values, candidates, strict=True)}
        usable = {value: run for value, run in folders.items() if str(run.resolve()) not in given_up}
        if not usable or not all(files.Run(run).is_trained for run in usable.values()):
            return None, candidates
        dice = {value: read_validation_dice(run) for value, run in usable.items()}
        return {key: max(dice, key=lambda value: dice[value])}, candidates

    def bundle(self, name: str, data: str) -> tuple[Path, dict[str, Any]]:
        """Return the path of a bundle, and the overrides for every model of this data set."""
        path = find_config(self.settings.bundles, name)
        return path, self._common(path, data)

    def _model(self, data: str, variant: Variant, fold: str, seed: int, chosen: dict[str, Any]) -> Model:
        bundle, common = self.bundle(variant.bundle.replace("{data}", data), data)
        overrides = {**common, **variant.overrides, **chosen, **({"fold": fold} if fold else {}), "seed": seed}
        key = (str(bundle), *sorted((k, str(v)) for k, v in overrides.items()))
        if key not in self._configs:
            self._configs[key] = config = resolve_configuration(bundle, overrides, self.makes_data)
            if not str(config["data_folder"]).startswith("$"):
                self._folders.setdefault(data, str(config["data_folder"]))
        return Model(data, variant.name, seed, bundle, overrides, self._configs[key], chosen, fold)

    def _common(self, bundle: Path, data: str) -> dict[str, Any]:
        """Return the overrides for every bundle that this one has keys for (a mean mask has no learning rate)."""
        # Jobs fit lights where a criterion is about them, to this model and to those of other studies.
        wanted = {"fit_lights": False, **self.settings.overrides}
        overrides = {k: v for k, v in wanted.items() if _first_part(k) in self._keys(bundle)}
        if data in self._folders:
            overrides["dataset_dir"] = self._folders[data]
        if self.settings.runs_dir:
            overrides["runs_dir"] = self.settings.runs_dir
        return overrides

    def _keys(self, bundle: Path) -> set[str]:
        """Return the top-level keys of a bundle's file; none where there is no such bundle."""
        if bundle not in self._bundle_keys:
            self._bundle_keys[bundle] = set(read_config(bundle)) if bundle.exists() else set()
        return self._bundle_keys[bundle]

    def _check_settings(self) -> None:
        """Refuse overrides that no bundle of the study takes, and folders of data sets that it doesn't have.

        Raises:
            InputError: a key of ``--set`` or ``--profile``, or a name of ``--dataset-dir``, is unknown.
        """
        names = {variant.bundle.replace("{data}", data) for variant in self.study.variants for data in self.study.data}
        known = {key for name in names for key in self._keys(find_config(self.settings.bundles, name))}
        for key in self.settings.overrides:
            if known and _first_part(key) not in known:
                hint = suggest(_first_part(key), known, "")
                raise InputError(f"--set or --profile: no bundle of this study has a key {key!r}{hint}")
        for data in self.settings.dataset_dirs:
            if data not in self.study.data:
                raise InputError(
                    f"--dataset-dir {data}: expected a data set of this study, {', '.join(self.study.data)}"
                    f"{suggest(data, self.study.data, '')}"
                )

    def _job(self, model: Model) -> Job | None:
        folder = model.folder()
        trained = files.Run(folder).is_trained
        groups = self._groups(model)
        wanted = (self.conditions(model), self.study.needs_calibration)
        missing = missing_conditions(folder, model.config, *wanted) if trained else []
        has_cases = any(folder.glob(f"**/{files.CASES}"))
        judged = None
        if trained and not missing and has_cases:
            if not self.study.needs_lights or (judged := find_to_judge(folder, model.config, groups)) is None:
                return None
            groups = judged[1]
        elif trained:
            groups = _groups_of(missing, groups, model)
        places = {
            "runs_dir": str(Path(model.config["runs_dir"]).resolve()),
            "dataset_dir": str(Path(model.config["data_folder"]).resolve()),
        }
        return Job(
            name=model.name,
            bundle=str(model.bundle.resolve()),
            # Absolute paths, because a worker on another machine has another working directory.
            overrides={**model.overrides, **places, "run_name": folder.name},
            folder=str(folder.resolve()),
            conditions=groups,
            train=not trained,
            epochs=int(model.config["max_epochs"]),
            judged=str(judged[0].resolve()) if judged and judged[0] else "",
            log=str((self.settings.logs / f"{folder.parent.name}_{folder.name}.log").resolve()),
        )


def _groups_of(missing: Sequence[Condition], groups: Sequence[str], model: Model) -> tuple[str, ...]:
    """Return the groups with a missing condition; ``clean`` alone where none is missing."""
    wanted = set(missing)
    found = [g for g in groups if wanted & set(conditions_of(model.config, (g,))[1:])]
    return tuple(found or ["clean"])


def read_epochs(folder: str | Path) -> tuple[int, float]:
    """Read the number of finished epochs and the seconds of the fastest one (0 before the first) from a run's log."""
    log = Path(folder) / files.LOG
    found = _EPOCH.findall(log.read_text(encoding="utf-8")) if log.exists() else []
    return (int(found[-1][0]), min(float(seconds) for _, _, seconds in found)) if found else (0, 0.0)


def estimate_seconds(plan: Plan) -> dict[str, float | None]:
    """Estimate the seconds of training left for each run folder; None where no similar epoch was measured yet."""
    speed: dict[tuple[str, Any, Any], float] = {}
    folders = {str(model.folder().resolve()): model for model in plan.models}
    for folder, model in folders.items():
        _, seconds = read_epochs(folder)
        if seconds:
            speed[_kind(model.config)] = seconds
    estimate: dict[str, float | None] = {}
    for job in plan.jobs:
        each = speed.get(_kind(folders[job.folder].config))
        done = read_epochs(job.folder)[0]
        estimate[job.folder] = 0.0 if not job.train else None if each is None else (job.epochs - done) * each
    return estimate


def _kind(config: Config) -> tuple[str, Any, Any]:
    return str(config["bundle_name"]), config["image_size"], config["train_cases"]


def _first_part(key: str) -> str:
    """Return the top-level part of a nested key."""
    return re.split("#|::", key)[0]
