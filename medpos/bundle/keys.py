"""List the known keys of a bundle: keys that something refers to, entry points, and a few reserved names.

A key of the bundle's file may be unused: an override of ``train#optimizer`` leaves ``momentum`` without use. MONAI
appends overrides to the keys of the file, and a bundle's file ends with its entry points.
"""

from monai.bundle.properties import InferProperties, TrainProperties

from medpos.bundle import tracking
from medpos.core.config import Config, find_references, is_entry_point

# Read by medpos or by people from the file or the run folder, even if nothing in it refers to them.
_MEDPOS_KEYS = frozenset(
    {
        "_desc_",
        "imports",
        "known_keys",
        "bundle_name",
        "bundle_root",
        "data_sha256",
        "phantom",
        "amp",
        "allow_training_cases",
    }
)
# Read by MONAI's tools.
_MONAI_KEYS = {entry["id"].split("::")[0] for entry in [*TrainProperties.values(), *InferProperties.values()]}
# MONAI itself adds the keys of MLflow tracking and of metadata.
_RESERVED = _MEDPOS_KEYS | _MONAI_KEYS | tracking.KEYS | {"_meta_"}


def known_keys(config: Config) -> list[str]:
    """List the known top-level keys of a bundle; any other key is a mistake.

    Args:
        config: raw configuration. Bundles of earlier versions, and the configuration of a run, list their keys as
            ``known_keys``.
    """
    used = {name for key, value in config.items() for name in find_references([value]) - {key}}
    known = used | _RESERVED | set(config.get("known_keys", ()))
    last = max((place for place, item in enumerate(config.items()) if is_entry_point(*item)), default=-1)
    return [key for place, key in enumerate(config) if place <= last or key in known]
