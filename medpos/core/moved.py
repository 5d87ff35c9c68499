"""Redirect imports of modules and names that have moved.

Bundles, run folders, exports and notebooks that users already have name Python objects by dotted names. The tables
below map the old names to the new ones, and old forms of files to the present ones, so that these files keep working.
"""

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pydoc import locate
from types import ModuleType
from typing import Any

from medpos.core.config import Config, find_references

# Old module -> new module.
MOVED = {
    "data_prep.ready": "data_prep.prepared",
    "medpos.cases": "medpos.runs.cases",
    "medpos.classification": "medpos.data.classification",
    "medpos.colours": "medpos.core.colors",
    "medpos.conditions": "medpos.data.conditions",
    "medpos.crf_evaluation": "medpos.bundle.crf",
    "medpos.errors": "medpos.core.errors",
    "medpos.files": "medpos.core.files",
    "medpos.fragments": "medpos.bundle.fragments",
    "medpos.inference": "medpos.inferers",
    "medpos.labels": "medpos.core.labels",
    "medpos.memory": "medpos.core.memory",
    "medpos.new_bundle": "medpos.bundle.new_bundle",
    "medpos.overlay": "medpos.plotting.overlay",
    "medpos.parameter_groups": "medpos.optim.groups",
    "medpos.patches": "medpos.data.patches",
    "medpos.predict.bundled": "medpos.predict.exported",
    "medpos.pretrained": "medpos.bundle.pretrained",
    "medpos.pruning": "medpos.bundle.pruning",
    "medpos.results": "medpos.runs.tables",
    "medpos.schedules": "medpos.optim.schedules",
    "medpos.tracking": "medpos.bundle.tracking",
    "medpos.training_data": "medpos.data.training_data",
}
# Old object -> new object. An object without a line of its own keeps its name in the successor of its module.
RENAMED = {
    "data_prep.ready.ready": "data_prep.prepared.find_or_make_phantoms",
    "medpos.classification.ClassTable": "medpos.handlers.ClassTable",
    "medpos.classification.TopK": "medpos.handlers.TopK",
    "medpos.inferers.search": "medpos.inferers.search_crf",
    "medpos.networks.positioned": "medpos.networks.build_with_position",
    "medpos.predict.bundled.LoadUpright": "medpos.predict.exported.LoadOrientedImage",
    "medpos.predict.bundled.ToOwnGrid": "medpos.predict.exported.RestoreImageGrid",
    "medpos.predict.bundled.listed": "medpos.predict.exported.list_cases",
    "medpos.pretrained.COLOURS": "medpos.core.colors.PUBLISHED",
    "medpos.transforms.IgnoredVoid": "medpos.transforms.IgnoreVoid",
    "medpos.transforms.StandardisePerSlice": "medpos.transforms.StandardizePerSlice",
    "medpos.transforms.Unlabelled": "medpos.transforms.ClearUnlabeled",
}

# Keys of bundles that later versions have added, and their defaults, under which everything is as before.
LATER = {
    "fold": "",
    "begin_with": "",
    "patience": 0,
    "patience_nan": 1,
    "accumulate": 1,
    "position_dropout": 0.0,
    "device_memory_gb": None,
    "device_memory": {
        "_target_": "medpos.data.DeviceMemory",
        "device": "@device",
        "limit_gb": "@device_memory_gb",
    },
    "compile": False,
    "deterministic": False,
    "surface_interval": 10,
    "spacing_mm": None,
    "depth": 2,
    "dense": False,
    "fit_lights": True,
}
# Handlers that later versions have added; they only observe.
_LATER_HANDLERS = frozenset({"medpos.handlers.Calibration"})
# Arguments that earlier versions gave at their defaults.
_DEFAULTS = {"epoch_level": True}
# Arguments that say what is shown of a training, where, and under which title.
_SHOWN = frozenset({"hyper_parameters", "bundle", "board"})
# Object -> object of earlier versions that gives the same values.
SAME_AS = {
    "medpos.data.loader.BatchLoader": "DataLoader",
    "medpos.optim.fused.adam": "torch.optim.Adam",
    "medpos.transforms.spatial.resampled.Resampled": "Resized",  # apart from pixdim, a later key
}

# Files of which earlier versions wrote another form -> function that gives the present one.
FORMS: dict[str, Callable[[Any], Any]] = {
    "environment.json": lambda content: [content] if isinstance(content, dict) else content,  # one call alone
}


def in_current_form(name: str, content: Any) -> Any:
    """Return the content of a run's file as the present version writes it.

    Args:
        name: name of the file.
        content: content of the file, as any version wrote it.
    """
    return FORMS.get(name, lambda unchanged: unchanged)(content)


def without_later_keys(config: Config) -> Config:
    """Leave out the later keys at their defaults, the arguments that refer to a later key, and later handlers.

    So a configuration equals that of an earlier version which says the same.

    Args:
        config: configuration with the values of these keys at its top.
    """
    own = {key: value for key, value in config.items() if key not in LATER or value != LATER[key]}
    return {key: _without_references(value) for key, value in own.items()}


def _without_references(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_references(v) for k, v in value.items() if not _says_nothing_new(k, v)}
    if isinstance(value, list):
        return [_without_references(part) for part in value if not _is_later_handler(part)]
    return value


def _says_nothing_new(key: str, value: Any) -> bool:
    return key in _SHOWN or _is_later(value) or (key in _DEFAULTS and value == _DEFAULTS[key])


def _is_later_handler(part: Any) -> bool:
    return isinstance(part, dict) and part.get("_target_") in _LATER_HANDLERS


def _is_later(value: Any) -> bool:
    references = find_references([value]) if isinstance(value, str) else set()
    return bool(references & LATER.keys())


def find_renamed(module: str, name: str) -> Any:
    """Find an object by its former name, for the ``__getattr__`` of its package.

    Args:
        module: dotted name of the package.
        name: former name of the object.

    Raises:
        AttributeError: the package never had the name.
    """
    old = f"{module}.{name}"
    if old not in RENAMED:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new, _, attribute = RENAMED[old].rpartition(".")
    return getattr(import_module(new), attribute)


class _Moved(ModuleType):
    """Forward attributes of a moved module to its successor."""

    def __getattr__(self, name: str) -> Any:
        if f"{self.__name__}.{name}" in RENAMED:
            return find_renamed(self.__name__, name)
        return getattr(import_module(MOVED[self.__name__]), name)


class _Finder(MetaPathFinder, Loader):
    """Answer imports of old modules, after every other finder has failed."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        return ModuleSpec(name, self) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Moved(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing: names are looked up on access."""


def find_moved() -> None:
    """Redirect imports of old module names from now on; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def with_current_names(value: Any) -> Any:
    """Replace the ``_target_`` names in a part of a configuration by the present full names of their objects.

    Two configurations that say the same under names of different versions become equal; a name that is not found stays.
    """
    if isinstance(value, dict):
        return {k: _current_name(v) if k == "_target_" else with_current_names(v) for k, v in value.items()}
    return [with_current_names(part) for part in value] if isinstance(value, list) else value


@lru_cache(maxsize=4096)
def _current_name(name: str) -> str:
    found = locate(name) if name.startswith("medpos.") else None
    name = name if found is None else f"{found.__module__}.{found.__qualname__}"  # type: ignore[attr-defined]
    return SAME_AS.get(name, name)
