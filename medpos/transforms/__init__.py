"""What MONAI's transforms lack: position channels, graded degradations, shifts, scaling slice by slice, augmentation.

An item is a dictionary with ``image`` [C, X, Y] or [C, X, Y, Z] and ``label`` of the same spatial shape. Dimension 1
runs along the image's columns, dimension 2 along its rows, as NIfTI files load, and Z counts the slices. Nothing is
changed in place.

The order of the chain: scale to [0, 1], shift, degrade, standardise, append the position channels.
"""

from medpos.transforms.border import BorderWeight
from medpos.transforms.crops import RandCropWithClassCap, RandomTile
from medpos.transforms.degradations import KINDS, SEVERITIES, SOURCES, TABLES, UNITS, Degraded, degrade
from medpos.transforms.elastic import RandElastic
from medpos.transforms.intensity import ScaleToUnit, StandardisePerSlice
from medpos.transforms.lift import Lifted
from medpos.transforms.neighbours import with_neighbours
from medpos.transforms.photometric import PhotometricDistortion
from medpos.transforms.position import ENCODINGS, PositionChannels, channel_count, position_channels
from medpos.transforms.probe import PROBES, ProbedPosition, probe_position
from medpos.transforms.randomised import RandLifted
from medpos.transforms.resized import RandResizedCrop, ResizeShortSide
from medpos.transforms.shift import Shifted, shift
from medpos.transforms.unlabelled import IgnoredVoid, Unlabelled

__all__ = [
    "ENCODINGS",
    "KINDS",
    "PROBES",
    "SEVERITIES",
    "SOURCES",
    "TABLES",
    "UNITS",
    "BorderWeight",
    "Degraded",
    "IgnoredVoid",
    "Lifted",
    "PhotometricDistortion",
    "PositionChannels",
    "ProbedPosition",
    "RandCropWithClassCap",
    "RandElastic",
    "RandLifted",
    "RandResizedCrop",
    "RandomTile",
    "ResizeShortSide",
    "ScaleToUnit",
    "Shifted",
    "StandardisePerSlice",
    "Unlabelled",
    "channel_count",
    "degrade",
    "position_channels",
    "probe_position",
    "shift",
    "with_neighbours",
]
