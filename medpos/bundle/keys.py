"""Tell which keys of a bundle are known: those that something refers to, its entry points, and a few reserved names.

A key of the bundle's own file may be without use: an override of ``train#optimizer`` leaves ``momentum`` so. MONAI puts
overrides behind the file's keys, and a bundle's file ends with its entry points.
"""

from monai.bundle.properties import InferProperties, TrainProperties

from medpos.bundle import tracking
from medpos.core.config import Config, find_references, is_entry_point

# Read by medpos or by people, from the file or from a run's folder, whether anything in it refers to them or not.
_OWN = frozenset({"_desc_", "imports", "known_keys", "bundle_name", "bundle_root", "data_sha256", "phantom", "amp"})
# Sought by MONAI's tools, and added by MONAI itself (metadata; MLflow tracking).
_MONAIS = {entry["id"].split("::")[0] for entry in [*TrainProperties.values(), *InferProperties.values()]}
_RESERVED = _OWN | _MONAIS | tracking.KEYS | {"_meta_"}


def known_keys(config: Config) -> list[str]:
    """List the top-level keys of a bundle that are none by mistake.

    Args:
        config: raw configuration. Bundles of earlier versions, and the configuration of a run, list keys of theirs as
            ``known_keys``.
    """
    used = {name for key, value in config.items() for name in find_references([value]) - {key}}
    known = used | _RESERVED | set(config.get("known_keys", ()))
    last = max((place for place, item in enumerate(config.items()) if is_entry_point(*item)), default=-1)
    return [key for place, key in enumerate(config) if place <= last or key in known]
