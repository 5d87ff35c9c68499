"""Identify trained models by their training, and results by everything that they depend on.

Results may be pooled only where model, data, split, checkpoint and inference settings are the same, and those of
degraded or shifted images only where degradations or shifts are.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from medpos.core.config import Config, expand_clean_chain, expand_steps, follow_references, is_entry_point
from medpos.core.moved import with_current_names, without_later_keys
from medpos.transforms.intensity.degradations import name_table
from medpos.transforms.position.probe import PROBES

# Keys about the machine and its speed, and about tests: neither changes what a training makes.
OF_MACHINE = frozenset({"device", "num_workers", "device_memory_gb", "device_memory", "compile", "deterministic"})
OF_MACHINE |= {"surface_interval"}
OF_TESTS = frozenset({"conditions", "degradation_table", "noise_seed", "shift_pixels", "shift_before_standardizing"})
OF_TESTS |= {"allow_training_cases", "fit_lights"}
# Keys that don't change the trained weights. All other keys but entry points count, so that keys which only some bundle
# has count too.
IRRELEVANT = OF_MACHINE | OF_TESTS
IRRELEVANT |= {"bundle_name", "bundle_root", "dataset_dir", "data_folder", "phantom_cases", "runs_dir", "run_name"}
IRRELEVANT |= {
    "resume",
    "checkpoint",
    "source",
    "run_folder",
    "board",
    "dataset",
    "dataloader",
    "key_metric",
    "handlers",
}
IRRELEVANT |= {"evaluator", "begin_test", "phantom", "_desc_", "_meta_", "imports", "known_keys"}
IRRELEVANT |= {"steps"}  # counted where a chain takes them
# Keys that set the conditions of a test.
TESTS = ("degradation_table", "noise_seed", "shift_before_standardizing")
# What the prediction of a clean image depends on, beside the weights.
_INFERENCE = ("decode", "network_def", "inferer", "postprocessing")


def compute_identity(config: Config) -> str:
    """Compute the sha256 of everything that a training depends on.

    Args:
        config: resolved configuration, which holds the hash of its data.
    """
    config = without_later_keys(config)
    relevant = {
        key: expand_steps(value, config)
        for key, value in config.items()
        if key not in IRRELEVANT and not is_entry_point(key, value)
    }
    if "preprocessing" in relevant:
        relevant["preprocessing"] = expand_clean_chain(config)  # validation is on clean images
    for part in ("train", "validate"):
        # Handlers observe a training without changing it.
        relevant[part] = {k: v for k, v in relevant.get(part, {}).items() if k != "handlers"}
    return hashlib.sha256(json.dumps(with_current_names(relevant), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ResultSettings:
    """Hold what the results of an evaluation depend on, beside the model.

    Args:
        common: data, split, checkpoint and inference settings.
        degraded: settings of the degradations.
        shifted: settings of the shifts.
    """

    common: dict[str, Any]
    degraded: dict[str, Any]
    shifted: dict[str, Any]

    @classmethod
    def of(cls, config: Config) -> "ResultSettings":
        """Find the settings in a run's configuration, of this or an earlier version."""
        config = without_later_keys(config)
        parts: dict[str, Any] = {key: expand_steps(config.get(key), config) for key in _INFERENCE}
        parts["preprocessing"] = expand_clean_chain(config)
        values = {key: config[key] for key in follow_references(parts.values(), config, IRRELEVANT)}
        common = {
            "data": config.get("data_sha256"),
            "split": config.get("dataset", {}).get("data"),
            "fold": config.get("fold"),
            "spacing_mm": config.get("spacing_mm"),
            "checkpoint": config.get("checkpoint") or None,
            **{key: value for key, value in values.items() if key not in parts},
            **{key: with_current_names(part) for key, part in parts.items()},
        }
        # Earlier versions took the training's seed for the noise, and shifted before they standardized slices.
        by_slice = any("ardizePerSlice" in str(step) for step in parts["preprocessing"])
        return cls(
            common,
            {
                "degradation_table": name_table(config.get("degradation_table")),
                "noise_seed": config.get("noise_seed", config.get("seed")),
            },
            {"shift_before_standardizing": config.get("shift_before_standardizing", by_slice)},
        )

    @staticmethod
    def depends_on(part: str, conditions: Iterable[tuple[Any, ...]]) -> bool:
        """Tell whether results depend on the settings ``degraded`` or ``shifted``.

        Args:
            part: ``degraded`` or ``shifted``.
            conditions: degradation, severity and shift of each condition.
        """
        if part == "shifted":
            return any(shift != "0" for _, _, shift in conditions)
        return any(int(severity) > 0 and degradation not in PROBES for degradation, severity, _ in conditions)

    def find_differences(self, other: "ResultSettings", conditions: Iterable[tuple[Any, ...]]) -> list[str]:
        """List the settings in which two results differ.

        Args:
            other: settings of the other result.
            conditions: degradation, severity and shift of each condition that they have in common.
        """
        measured = list(conditions)
        parts = ["common", *(part for part in ("degraded", "shifted") if self.depends_on(part, measured))]
        pairs = [(getattr(self, part), getattr(other, part)) for part in parts]
        return [
            key
            for one, two in pairs
            for key in dict.fromkeys([*one, *two])
            if _plain(one.get(key)) != _plain(two.get(key))
        ]


def _plain(value: Any) -> str:
    """Return a value as text, the same before and after it was written to a file."""
    return json.dumps(value, sort_keys=True)
