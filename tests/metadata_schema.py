"""Hold the requirements of MONAI's schema for a bundle's metadata, so that no test needs the internet."""

# The requirements of MONAI's meta_schema_20240725.json; the schema itself is on the internet.
TEXTS = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors")
TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {"num_channels": {"type": "integer"}, "value_range": {"type": "array", "items": {"type": "number"}}},
}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2019-09/schema",
    "type": "object",
    "required": [*TEXTS, "copyright", "required_packages_version", "network_data_format"],
    "properties": {
        **{key: {"type": "string"} for key in (*TEXTS, "copyright", "data_source", "intended_use", "pred_classes")},
        **{key: {"type": "object"} for key in ("changelog", "required_packages_version", "eval_metrics")},
        "references": {"type": "array", "items": {"type": "string"}},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {key: {"additionalProperties": TENSOR} for key in ("inputs", "outputs")},
        },
    },
}
