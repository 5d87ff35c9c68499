"""Transform images beyond MONAI: position channels, graded degradations, shifts, scaling per slice, augmentation.

An item is a dictionary with ``image`` [C, X, Y] or [C, X, Y, Z] and ``label`` of the same spatial shape. X is the
column and Y the row of the image, as in NIfTI files, and Z the slice. Nothing is changed in place.

The order of the chain: scale to [0, 1], shift, degrade, standardize, append the position channels.
"""

from functools import partial
from typing import TYPE_CHECKING

from medpos.core.moved import find_renamed
from medpos.transforms.base.lift import Lifted
from medpos.transforms.base.randomized import RandLifted
from medpos.transforms.intensity.degradations import KINDS, SEVERITIES, SOURCES, TABLES, UNITS, Degraded, degrade
from medpos.transforms.intensity.lighting import RandColorJitter, RandLighting
from medpos.transforms.intensity.mean_image import SubtractMeanImage
from medpos.transforms.intensity.photometric import PhotometricDistortion
from medpos.transforms.intensity.standardize import ScaleToUnit, StandardizePerSlice
from medpos.transforms.labels.border import BorderWeight
from medpos.transforms.labels.void import ClearUnlabeled, IgnoreVoid
from medpos.transforms.labels.weight_map import border_weight
from medpos.transforms.position.channels import ENCODINGS, PositionChannels, channel_count, position_channels
from medpos.transforms.position.probe import PROBES, ProbedPosition, probe_position
from medpos.transforms.spatial.crops import RandCropWithClassCap, RandomTile
from medpos.transforms.spatial.elastic import RandElastic
from medpos.transforms.spatial.neighbors import stack_neighbors
from medpos.transforms.spatial.resampled import Resampled
from medpos.transforms.spatial.resized import RandResizedCrop, ResizeShortSide
from medpos.transforms.spatial.shift import Shifted, shift

__all__ = [
    "ENCODINGS",
    "KINDS",
    "PROBES",
    "SEVERITIES",
    "SOURCES",
    "TABLES",
    "UNITS",
    "BorderWeight",
    "ClearUnlabeled",
    "Degraded",
    "IgnoreVoid",
    "Lifted",
    "PhotometricDistortion",
    "PositionChannels",
    "ProbedPosition",
    "RandColorJitter",
    "RandCropWithClassCap",
    "RandElastic",
    "RandLifted",
    "RandLighting",
    "RandResizedCrop",
    "RandomTile",
    "Resampled",
    "ResizeShortSide",
    "ScaleToUnit",
    "Shifted",
    "StandardizePerSlice",
    "SubtractMeanImage",
    "border_weight",
    "channel_count",
    "degrade",
    "position_channels",
    "probe_position",
    "shift",
    "stack_neighbors",
]

if not TYPE_CHECKING:  # former names, which files of users hold
    __getattr__ = partial(find_renamed, __name__)
