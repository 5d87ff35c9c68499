"""What a bundle says to itself when it starts: are the override keys known, can the network take the images, what was
resolved.

MONAI accepts any override key in silence and shows an error as a long traceback without the key that caused it; both
are mended here, for every bundle at once.
"""

import difflib
import inspect
import logging
import pydoc
import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from monai.bundle import ComponentLocator, ConfigComponent, ConfigParser

from medpos.bundle import phantoms, tracking
from medpos.bundle.keys import known_keys
from medpos.core.config import follow_references, is_entry_point, is_referred_to
from medpos.core.device import has_fast_bf16
from medpos.core.errors import InputError
from medpos.core.memory import keep_freed_memory

logger = logging.getLogger(__name__)

_SWITCHES = frozenset({"amp", "resume"})
_LEAST = {
    "max_epochs": 1,
    "val_interval": 1,
    "batch_size": 1,
    "image_size": 1,
    "num_workers": 0,
    "seed": 0,
    "phantom_cases": 3,
    "encoding_bands": 1,
    "crf_iterations": 0,
    "crf_images": 1,
}


def start() -> None:
    """Refuse unknown override keys before anything is read, and take phantom mode's values where the data are phantoms;
    from here on bad input is shown without a traceback.

    Raises:
        InputError: an override key is unknown, or its value is out of range.
    """
    show_errors_plainly()
    # Where pydicom is installed, MONAI warns in every run that one decoder for it is not; no bundle reads DICOM.
    warnings.filterwarnings("ignore", message=".*nvImageCodec")
    parser = _parser()
    config = parser.get()
    check_keys(config)
    check_nested_keys(config, parser.locator)
    check_values(config)
    phantoms.apply(parser, phantoms.given())
    tracking.complete(config)
    # bf16 halves the feature maps, so keeping their memory stays below what float32 takes; float32 would take more.
    if config["amp"] and has_fast_bf16("cpu"):
        keep_freed_memory()


def _parser() -> ConfigParser:
    """The parser that is evaluating the expression which called us.

    MONAI gives an expression no way to reach its own configuration, so it is looked up in the calling frames; every
    consumer (``monai.bundle run``, MONAI Label, a plain ``ConfigParser``) evaluates through
    ``ConfigParser.get_parsed_content``.
    """
    for info in inspect.stack(0):
        found = info.frame.f_locals.get("self")
        if isinstance(found, ConfigParser):
            return found
    raise RuntimeError("not called from a bundle's configuration")


def check_keys(config: dict[str, Any]) -> None:
    """Refuse a top-level key that the bundle doesn't have, which is how a mistyped override shows.

    Args:
        config: raw configuration with the overrides in it.

    Raises:
        InputError: names the unknown key and the nearest known one.
    """
    known = known_keys(config)
    for key in config:
        if key in known:
            continue
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
        hint = f"; did you mean --{near[0]}?" if near else "."
        flat = ", ".join(k for k in known if k[0] != "_" and not isinstance(config[k], dict | list))
        name = config["bundle_name"]
        raise InputError(f"override --{key}: bundle {name} has no such key{hint} Keys to override: {flat}")


def check_nested_keys(config: dict[str, Any], locator: ComponentLocator) -> None:
    """Refuse a key inside the configuration that nothing reads, which is how a mistyped nested override shows.

    That is an argument that its ``_target_`` doesn't take, or a key of a section that nothing refers to.

    Args:
        config: raw configuration with the overrides in it.
        locator: MONAI's, which knows the full names of its components.

    Raises:
        InputError: names the unknown key, the nearest known one and what there is at that level.
    """
    for path, node in _dictionaries(config):
        own = [key for key in node if not (key.startswith("_") and key.endswith("_"))]
        if "_target_" in node:
            known, owner = _arguments(node, locator), str(node["_target_"])
        else:
            known, owner = _section(path, own, config), "this section"
        for key in own:
            if known is not None and key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
                hint = f"; did you mean --{path}#{near[0]}?" if near else "."
                raise InputError(f"override --{path}#{key}: {owner} has no such key{hint} It has: {', '.join(known)}")


def _dictionaries(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All dictionaries inside, by path, ``#`` between the keys; the outermost one is left out."""
    if isinstance(node, dict) and path:
        yield path, node
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _dictionaries(value, f"{path}#{key}" if path else str(key))


def _arguments(node: dict[str, Any], locator: ComponentLocator) -> Collection[str] | None:
    """What a component takes; None where that can't be told."""
    name = ConfigComponent(node, locator=locator).resolve_module_name()
    target = pydoc.locate(name) if isinstance(name, str) and name[:1] not in ("$", "@") else name
    try:
        parameters = inspect.signature(target).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return None if open_ended else [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]


def _section(path: str, own: Sequence[str], config: dict[str, Any]) -> Collection[str] | None:
    """The keys of a top-level section that something refers to; None for a dictionary that is used as a whole, and for
    one that an override left without use."""
    if "#" in path or path == "_meta_" or is_referred_to(path, config, r"(?!\w|::|#)"):
        return None
    return [key for key in own if is_referred_to(f"{path}::{key}", config)] or None


def check_values(config: dict[str, Any]) -> None:
    """Refuse a plain value that can't be meant; MONAI takes ``--resume false`` for a text, which counts as true.

    Args:
        config: raw configuration; expressions are left to their own checks.

    Raises:
        InputError: names the key, the value and what is needed.
    """
    for key, value in config.items():
        if isinstance(value, str) and value.startswith("$"):
            continue
        if key in _SWITCHES and not isinstance(value, bool):
            raise InputError(f"--{key} is {value!r}, needed True or False, with a capital letter")
        if key in _LEAST and (isinstance(value, bool) or not isinstance(value, int) or value < _LEAST[key]):
            raise InputError(f"--{key} is {value!r}, needed a whole number from {_LEAST[key]} upwards")
        if key == "lr" and not (isinstance(value, int | float) and 0 < value < float("inf")):
            raise InputError(f"--lr is {value!r}, needed a learning rate above 0, such as 0.001")


def try_image_size(network: torch.nn.Module, image_size: int) -> None:
    """Pass one empty image through the network, before anything is trained; on PyTorch's meta device, which computes
    shapes alone, where the network can.

    Args:
        network: has ``in_channels``, or its first weight is a convolution's.
        image_size: pixels a side.

    Raises:
        InputError: the network can't take this size; its own message says which sizes it can.
    """
    if not isinstance(image_size, int) or image_size < 1:
        raise InputError(f"image_size is {image_size!r}, needed a whole number of pixels above 0, such as 256")
    was_training = network.training
    weight = next(network.parameters())
    # A convolution's weight is [out, in, ...].
    channels = network.in_channels if hasattr(network, "in_channels") else weight.shape[1]
    image = torch.zeros(1, channels, image_size, image_size)
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    network.eval()
    try:
        with torch.no_grad():
            try:
                torch.func.functional_call(network, shapes, image.to("meta"))
            except (NotImplementedError, RuntimeError):
                network(image.to(weight.device))
    except InputError as error:
        raise InputError(f"image_size {image_size}: {error}") from error
    finally:
        network.train(was_training)


def try_data(*datasets: Sequence[Any]) -> None:
    """Decode all images and pass the first item of each data set through its chain, before anything is written.

    Raises:
        InputError: a file or a transform's parameter can't be used.
    """
    for dataset in datasets:
        dataset[0]


def resolved() -> dict[str, Any]:
    """The running configuration with overrides applied and every plain value worked out, ready for JSON.

    What can't be a JSON value (a network, a transform) stays as it is written, so the file can be run again.
    """
    return resolve(_parser())


def resolve(parser: ConfigParser, without: Collection[str] = ()) -> dict[str, Any]:
    """The same for any parser of a bundle; reads the data set, and makes phantoms where there is none.

    Args:
        parser: of the bundle, phantom mode applied.
        without: keys whose values are not worked out, nor those of what refers to them.
    """
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    left = {key for key in config if key in without or follow_references([config[key]], config) & set(without)}
    for key, value in config.items():
        if isinstance(value, str) and value[:1] in "$@" and key not in left and not is_entry_point(key, value):
            plain = parser.get_parsed_content(key)
            config[key] = plain if isinstance(plain, bool | int | float | str | None) else _as_text(plain, value)
    # A key whose value is worked out into another one, such as iterations, is referred to no longer.
    return {**config, "known_keys": [*config, "known_keys"]}


def _as_text(value: Any, written: str) -> Any:
    return str(value) if isinstance(value, Path) else written


def show_errors_plainly() -> None:
    """Let an :class:`InputError` that ends the program print its message instead of a traceback."""
    if sys.excepthook is not _plain_hook:
        sys.excepthook = _plain_hook


def _plain_hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        logger.error("stopped by an error that medpos did not foresee", exc_info=(kind, error, trace))
        sys.__excepthook__(kind, error, trace)
        return
    logger.debug("traceback", exc_info=(kind, error, trace))
    sys.stderr.write(f"error: {cause}\n")
