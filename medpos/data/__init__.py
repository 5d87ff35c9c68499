"""Load prepared data: folder and schema, cached data set, sampler, patches and test conditions.

The names below are imported on first use, so that ``data_prep``, which needs the schema alone, starts without PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medpos.data.cached import CachedDataset
    from medpos.data.classification import ClassifiedImages, ImageClasses
    from medpos.data.folder import DataFolder
    from medpos.data.loader import BatchLoader, DeviceMemory
    from medpos.data.patches import CenterPatches, Patches
    from medpos.data.sampler import EpochSampler
    from medpos.data.training_data import TrainingData

__all__ = [
    "BatchLoader",
    "CachedDataset",
    "CenterPatches",
    "ClassifiedImages",
    "DataFolder",
    "DeviceMemory",
    "EpochSampler",
    "ImageClasses",
    "Patches",
    "TrainingData",
]

_MODULES = {
    "BatchLoader": "loader",
    "CachedDataset": "cached",
    "CenterPatches": "patches",
    "ClassifiedImages": "classification",
    "DataFolder": "folder",
    "DeviceMemory": "loader",
    "EpochSampler": "sampler",
    "ImageClasses": "classification",
    "Patches": "patches",
    "TrainingData": "training_data",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
