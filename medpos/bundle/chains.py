"""Try the chains of transforms of a bundle on one item of its data, before anything is trained or written."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, MapTransform

from medpos.bundle.arguments import find_dictionaries
from medpos.core.config import Config
from medpos.core.errors import InputError, first_line
from medpos.data.cached import CachedDataset
from medpos.data.patches import Patches

_ABSENT_KEY = re.compile(r"Key `(.*)` of transform `(.*)` was missing in the data")
_FAILED = re.compile(r"applying transform <((?:medpos|monai)\.[\w.]+) object")


def try_chain(dataset: Any, config: Config) -> None:
    """Transform the first item of a data set; every transform must find its keys, one that acts at random too.

    Args:
        dataset: data set, such as :class:`medpos.data.CachedDataset`.
        config: raw configuration, which tells the place of a wrong key.

    Raises:
        InputError: a transform doesn't find one of its keys, or refuses the item.
    """
    try:
        dataset[0]
        whole = dataset.dataset if isinstance(dataset, Patches) else dataset
        if isinstance(whole, CachedDataset):
            place, condition = whole.find(0)
            _apply(whole.transform, {**whole.decoded(place), **condition.to_item()})
    except Exception as error:
        raise _explain(error, config) from error


def try_postprocessing(parser: ConfigParser, evaluator: str) -> None:
    """Apply the postprocessing of an evaluator to an item of its data, with zeros as the network's output.

    Args:
        parser: parser of the bundle.
        evaluator: place of the evaluator in it; one without data or postprocessing is not tried.

    Raises:
        InputError: a transform doesn't find one of its keys, or refuses the item.
    """
    data, chain = f"{evaluator}::val_data_loader", f"{evaluator}::postprocessing"
    if data not in parser or chain not in parser:
        return
    item, transforms = parser.get_parsed_content(data).dataset[0], parser.get_parsed_content(chain)
    empty = torch.zeros(_count_outputs(parser), *item["image"].shape[1:])
    try:
        _apply(transforms, {**item, "pred": empty})
    except Exception as error:
        raise _explain(error, parser.get()) from error


def _count_outputs(parser: ConfigParser) -> int:
    """Return the number of channels of the network's output; that of the classes for a network that doesn't say."""
    if "network_def::out_channels" in parser:
        return int(parser.get_parsed_content("network_def::out_channels"))
    return max(1, len(getattr(parser.get_parsed_content("source"), "labels", ())))


def _apply(chain: Any, item: Mapping[str, Any]) -> None:
    """Apply transforms one after the other, and ask each that names keys for all of them."""
    for step in _flatten(chain):
        if isinstance(step, MapTransform):
            list(step.key_iterator(item))
        item = step(item)


def _flatten(chain: Any) -> Iterator[Any]:
    """Yield the transforms of a chain and of the chains in it."""
    if type(chain) is not Compose:
        yield chain
        return
    for step in chain.transforms:
        yield from _flatten(step)


def _explain(error: BaseException, config: Config) -> BaseException:
    """Return an InputError for a key that no item has, or for values that a known transform refuses."""
    found, cause = "", error
    while True:
        if match := _ABSENT_KEY.search(str(cause)):
            key, name = match.groups()
            return InputError(
                f"{_find_place(config, key, name)}: expected keys of the data, such as image, label or (after the "
                f"network) pred, got {key!r}, which no item has there; correct it"
            )
        match = _FAILED.search(str(cause))
        found = match[1] if match else found
        if cause.__cause__ is None:
            break
        cause = cause.__cause__
    if isinstance(error, InputError) or not found:
        return error
    return InputError(f"{found} can't be applied to the first item ({first_line(cause)}); correct its values")


def _find_place(config: Config, key: str, name: str) -> str:
    """Return the option that sets a key of a transform; the name of the transform's class where none is known."""
    for path, node in find_dictionaries(config):
        keys = node.get("keys", ())
        if str(node.get("_target_")).endswith(name) and key in ([keys] if isinstance(keys, str) else keys):
            return f"--{path}#keys"
    return name
