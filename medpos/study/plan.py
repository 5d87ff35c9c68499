"""From a declared study to the models it needs and the jobs that are left to do.

A plan is made from what lies on the disk, so an interrupted study is planned again and goes on where it stopped.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medpos.data.conditions import Condition
from medpos.runs import files
from medpos.study.declaration import Study, Variant
from medpos.study.jobs import Job
from medpos.study.models import (
    Config,
    Model,
    conditions_of,
    configuration,
    lacking,
    validation_dice,
)

_EPOCH = re.compile(r"epoch (\d+)/(\d+);.* ([\d.]+) s$", re.MULTILINE)


@dataclass(frozen=True)
class Settings:
    """Where and with what a study is run.

    Args:
        bundles: folder of the bundles.
        overrides: for every bundle that has the key.
        dataset_dirs: prepared folders by data set; the bundle's own by default.
        runs_dir: where the run folders go; the bundle's own by default.
        logs: folder of what the jobs print.
    """

    bundles: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    dataset_dirs: dict[str, str] = field(default_factory=dict)
    runs_dir: str = ""
    logs: Path = Path("logs")


@dataclass(frozen=True)
class Plan:
    """What a study needs, and what of it is there.

    Args:
        models: every model that can be named so far.
        jobs: what is left to do for them, each model once.
        undecided: variants whose value the validation split hasn't chosen yet.
    """

    models: tuple[Model, ...]
    jobs: tuple[Job, ...]
    undecided: tuple[str, ...]


class Planner:
    """Plans a study; configurations are resolved once.

    Args:
        study: as declared.
        settings: where and with what.
        makes_data: make phantoms where there are no data; otherwise their models count as untrained.
    """

    def __init__(self, study: Study, settings: Settings, makes_data: bool = True) -> None:
        self.study, self.settings, self.makes_data = study, settings, makes_data
        self._configs: dict[tuple[Any, ...], Config] = {}
        # The prepared data or the phantoms that the first bundle of a data set found, so that they are looked for once.
        self._folders = dict(settings.dataset_dirs)

    def plan(self, given_up: Sequence[str] = ()) -> Plan:
        """Plan from what lies on the disk.

        Args:
            given_up: run folders whose job failed; they aren't tried again, and choices are made without them.
        """
        models: list[Model] = []
        jobs: dict[str, Job] = {}
        undecided: list[str] = []
        for data in self.study.data:
            for variant in self.study.variants:
                if variant.data and data not in variant.data:
                    continue
                chosen, candidates = self._choose(data, variant, given_up)
                if chosen is None:
                    undecided.append(f"{data}: {variant.name}")
                    models += candidates
                else:
                    models += [self._model(data, variant, seed, chosen) for seed in self._seeds(variant)]
                    # A candidate that wasn't chosen is trained all the same, so that the choice can be made again.
        for model in models:
            job = self._job(model)
            if job is not None and job.folder not in given_up:
                jobs.setdefault(job.folder, job)
        return Plan(tuple(models), tuple(jobs.values()), tuple(undecided))

    def conditions(self, model: Model) -> list[Condition]:
        """Under which a model of this study is tested; position can be probed only where it is given."""
        return conditions_of(model.config, self._groups(model))

    def choices(self) -> list[tuple[str, str, str, Any, float, bool]]:
        """Data set, model, key, value, validation Dice and whether it was chosen, for each trained candidate."""
        rows = []
        for data in self.study.data:
            for variant in self.study.variants:
                chosen, candidates = self._choose(data, variant, ())
                for model in candidates:
                    [(key, value)] = model.chosen.items()
                    if files.Run(model.folder()).is_trained:
                        dice = validation_dice(model.folder())
                        rows.append((data, variant.name, key, value, dice, model.chosen == chosen))
        return rows

    def _groups(self, model: Model) -> tuple[str, ...]:
        gives_position = "pe_alpha" in model.config and model.config.get("encoding", "linear") == "linear"
        return tuple(g for g in self.study.conditions if g != "position" or gives_position)

    def _seeds(self, variant: Variant) -> tuple[int, ...]:
        return variant.seeds or self.study.seeds

    def _choose(
        self, data: str, variant: Variant, given_up: Sequence[str]
    ) -> tuple[dict[str, Any] | None, list[Model]]:
        """The value with the best validation Dice, or the candidates that must be trained to know it."""
        if not variant.choose:
            return {}, []
        [(key, values)] = variant.choose.items()
        candidates = [self._model(data, variant, self._seeds(variant)[0], {key: value}) for value in values]
        folders = {value: model.folder() for value, model in zip(values, candidates, strict=True)}
        left = {value: run for value, run in folders.items() if str(run.resolve()) not in given_up}
        if not left or not all(files.Run(run).is_trained for run in left.values()):
            return None, candidates
        dice = {value: validation_dice(run) for value, run in left.items()}
        return {key: max(dice, key=lambda value: dice[value])}, candidates

    def bundle(self, name: str, data: str) -> tuple[Path, dict[str, Any]]:
        """A bundle's file, and the overrides that every model of this data set gets."""
        path = self.settings.bundles / f"{name}.json"
        return path, self._common(path, data)

    def _model(self, data: str, variant: Variant, seed: int, chosen: dict[str, Any]) -> Model:
        bundle, common = self.bundle(variant.bundle.replace("{data}", data), data)
        overrides = {**common, **variant.overrides, **chosen, "seed": seed}
        key = (str(bundle), *sorted((k, str(v)) for k, v in overrides.items()))
        if key not in self._configs:
            self._configs[key] = config = configuration(bundle, overrides, self.makes_data)
            if not str(config["data_folder"]).startswith("$"):
                self._folders.setdefault(data, str(config["data_folder"]))
        return Model(data, variant.name, seed, bundle, overrides, self._configs[key], chosen)

    def _common(self, bundle: Path, data: str) -> dict[str, Any]:
        """The overrides for every bundle, less those that this one lacks (a mean mask has no learning rate)."""
        content = bundle.read_text(encoding="utf-8") if bundle.exists() else ""
        own = {k: v for k, v in self.settings.overrides.items() if f'"{k}":' in content}
        if data in self._folders:
            own["dataset_dir"] = self._folders[data]
        if self.settings.runs_dir:
            own["runs_dir"] = self.settings.runs_dir
        return own

    def _job(self, model: Model) -> Job | None:
        folder = model.folder()
        trained = files.Run(folder).is_trained
        groups = self._groups(model)
        missing = lacking(folder, model.config, self.conditions(model)) if trained else []
        has_cases = any(folder.glob("**/cases.npz"))
        if trained and not missing and has_cases:
            return None
        if trained:
            groups = _groups_of(missing, groups, model)
        places = {
            "runs_dir": str(Path(model.config["runs_dir"]).resolve()),
            "dataset_dir": str(Path(model.config["data_folder"]).resolve()),
        }
        return Job(
            name=model.name,
            bundle=str(model.bundle.resolve()),
            # A worker on another machine has another current folder.
            overrides={**model.overrides, **places, "run_name": folder.name},
            folder=str(folder.resolve()),
            conditions=groups,
            train=not trained,
            epochs=int(model.config["max_epochs"]),
            log=str((self.settings.logs / f"{folder.parent.name}_{folder.name}.log").resolve()),
        )


def _groups_of(missing: Sequence[Condition], groups: Sequence[str], model: Model) -> tuple[str, ...]:
    """The groups that hold a missing condition; clean alone if none is."""
    wanted = set(missing)
    found = [g for g in groups if wanted & set(conditions_of(model.config, (g,))[1:])]
    return tuple(found or ["clean"])


def epochs_done(folder: str | Path) -> tuple[int, float]:
    """Epochs that a run has finished, and the seconds of its quickest one (0 before the first), from its log."""
    log = Path(folder) / "log.txt"
    found = _EPOCH.findall(log.read_text(encoding="utf-8")) if log.exists() else []
    return (int(found[-1][0]), min(float(seconds) for _, _, seconds in found)) if found else (0, 0.0)


def seconds_left(plan: Plan) -> dict[str, float | None]:
    """Seconds of training left for each job, None where no epoch of its bundle and image size was measured yet."""
    speed: dict[tuple[str, Any, Any], float] = {}
    folders = {str(model.folder().resolve()): model for model in plan.models}
    for folder, model in folders.items():
        _, seconds = epochs_done(folder)
        if seconds:
            speed[_kind(model.config)] = seconds
    estimate: dict[str, float | None] = {}
    for job in plan.jobs:
        each = speed.get(_kind(folders[job.folder].config))
        done = epochs_done(job.folder)[0]
        estimate[job.folder] = 0.0 if not job.train else None if each is None else (job.epochs - done) * each
    return estimate


def _kind(config: Config) -> tuple[str, Any, Any]:
    return str(config["bundle_name"]), config["image_size"], config["train_cases"]
