"""Looking inside a trained network, and what each network sees of the image."""

from medpos.explain.fields import Field, fields
from medpos.explain.layers import Layer, layers_of

__all__ = ["Field", "Layer", "fields", "layers_of"]
