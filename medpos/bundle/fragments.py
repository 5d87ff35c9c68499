"""Merging the fragments of ``bundles/src`` into self-contained bundles, by MONAI's own rules.

Later fragments win; ``a::b`` reaches inside, ``+a`` extends.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.config_parser import merge_kv

Config = dict[str, Any]
_FLAT = (str, int, float, bool, type(None))


def merge(
    source: Path,
    fragments: Sequence[str],
    name: str,
    description: str | list[str],
    own: Mapping[str, Any] | None = None,
) -> Config:
    """One bundle as JSON content: description and flat keys first, since those are what people look for.

    Args:
        source: folder of the fragments.
        fragments: their names, in order.
        name: of the bundle.
        description: its ``_desc_``.
        own: what comes after the fragments, in their notation.
    """
    parser = ConfigParser(ConfigParser.load_config_files([source / f"{fragment}.json" for fragment in fragments]))
    for key, value in (own or {}).items():
        merge_kv(parser, key, value)
    config = dict(parser.get())
    config["bundle_name"] = name
    config.pop("_desc_", None)
    flat = {k: v for k, v in config.items() if isinstance(v, _FLAT) and not _needs_objects(v)}
    ordered = {"_desc_": description, "imports": config.pop("imports"), **flat}
    ordered |= {k: v for k, v in config.items() if k not in ordered}
    # What an override may name: medpos.bundle refuses everything else, where MONAI would accept it in silence.
    return {**ordered, "known_keys": [*ordered, "known_keys"]}


def metadata(content: Config, inputs: Sequence[str], classes: Sequence[str] = (), size: str = "") -> Config:
    """A bundle's ``metadata.json`` for other channels.

    Args:
        content: to start from; is not changed.
        inputs: names of the network's input channels.
        classes: names of its output channels, background first; those of ``content`` by default.
        size: which sides of an image the network takes, as ``"16*n"``; those of ``content`` by default.
    """
    changed = copy.deepcopy(content)
    formats = changed["network_data_format"]
    for part, names in ((formats["inputs"]["image"], inputs), (formats["outputs"]["pred"], classes)):
        if size:
            part["spatial_shape"] = [size, size]
        if names:
            part |= {"num_channels": len(names), "channel_def": {str(n): name for n, name in enumerate(names)}}
    return changed


def _needs_objects(value: Any) -> bool:
    return isinstance(value, str) and ("@network" in value)
