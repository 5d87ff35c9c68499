"""What MONAI's transforms lack: position channels, graded degradations, shifts, and scaling slice by slice.

An item is a dictionary with ``image`` [C, X, Y] or [C, X, Y, Z] and ``label`` of the same spatial shape. Dimension 1
runs along the image's columns, dimension 2 along its rows, as NIfTI files load, and Z counts the slices. Nothing is
changed in place.

The order of the chain: scale to [0, 1], shift, degrade, standardise, append the position channels.
"""

from medpos.transforms.degradations import KINDS, SEVERITIES, SOURCES, TABLES, UNITS, Degraded, degrade
from medpos.transforms.intensity import ScaleToUnit, StandardisePerSlice
from medpos.transforms.lift import Lifted
from medpos.transforms.position import ENCODINGS, PositionChannels, channel_count, position_channels
from medpos.transforms.probe import PROBES, ProbedPosition, probe_position
from medpos.transforms.shift import Shifted, shift

__all__ = [
    "ENCODINGS",
    "KINDS",
    "PROBES",
    "SEVERITIES",
    "SOURCES",
    "TABLES",
    "UNITS",
    "Degraded",
    "Lifted",
    "PositionChannels",
    "ProbedPosition",
    "ScaleToUnit",
    "Shifted",
    "StandardisePerSlice",
    "channel_count",
    "degrade",
    "position_channels",
    "probe_position",
    "shift",
]
