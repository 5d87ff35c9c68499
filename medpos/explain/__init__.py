"""Looking inside a trained network, and what each network sees of the image."""

from medpos.explain.ascent import Climbed, Settings, ascend
from medpos.explain.fields import Field, Seen, fields
from medpos.explain.layers import Layer, layers_of
from medpos.explain.looking import Look, Wish, look, subject_of
from medpos.explain.writing import write

__all__ = [
    "Climbed",
    "Field",
    "Layer",
    "Look",
    "Seen",
    "Settings",
    "Wish",
    "ascend",
    "fields",
    "layers_of",
    "look",
    "subject_of",
    "write",
]
