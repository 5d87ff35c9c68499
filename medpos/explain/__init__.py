"""Show filters, activations and preferred images of a trained network, and find receptive fields."""

from medpos.explain.ascent import AscentResult, AscentSettings, ascend
from medpos.explain.explanation import ExplainOptions, Explanation, explain_network, load_input_image
from medpos.explain.field_table import LayerField, NetworkFields, find_network_fields
from medpos.explain.layers import Layer, trace_layers
from medpos.explain.writing import write_explanation

__all__ = [
    "AscentResult",
    "AscentSettings",
    "ExplainOptions",
    "Explanation",
    "Layer",
    "LayerField",
    "NetworkFields",
    "ascend",
    "explain_network",
    "find_network_fields",
    "load_input_image",
    "trace_layers",
    "write_explanation",
]
