"""Check a bundle when it starts: its override keys and values, its data, and the image size that its network takes.

MONAI accepts unknown override keys silently, and reports an error by a long traceback without the key that caused it.
These checks name the key and say what to do, for every bundle.
"""

import inspect
import logging
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import monai.utils
import torch
from monai.bundle import ComponentLocator, ConfigParser

from medpos.bundle import phantoms, tracking
from medpos.bundle.arguments import check_arguments, find_dictionaries, locate_target
from medpos.bundle.callers import find_entry_point, find_given, find_given_files, find_parser
from medpos.bundle.chains import try_chain, try_postprocessing
from medpos.bundle.keys import check_entry_point, known_keys, suggest
from medpos.bundle.texts import is_monai_command, restore_texts
from medpos.bundle.training_step import check_classes, try_training_step
from medpos.bundle.values import check_expressions, check_parts, check_references, check_relations, check_values
from medpos.core.config import follow_references, is_entry_point, is_referred_to
from medpos.core.config_files import read_config
from medpos.core.device import check_device, has_fast_bf16
from medpos.core.ending import explain, forget_workers, skip_garbage, stop_plainly
from medpos.core.errors import InputError, first_line
from medpos.core.memory import keep_freed_memory
from medpos.core.streams import show_plainly
from medpos.core.workers import allow_open_files
from medpos.data.cached import CachedDataset
from medpos.data.folder import ADVICE, describe_leaks
from medpos.data.leaks import find_equal_images
from medpos.data.patches import Patches
from medpos.runs import files
from medpos.runs.begin_with import check_beginning

logger = logging.getLogger(__name__)
# Values that TensorBoard lists.
_SHOWN: tuple[str, ...] = (
    "seed",
    "image_size",
    "batch_size",
    "max_epochs",
    "train_cases",
    "lr",
    "pe_alpha",
    "pe_range",
)
_SHOWN += ("encoding", "encoding_bands")


def start() -> None:
    """Check the overrides before anything is read, and apply phantom mode where the data are phantoms.

    From here on unusable input is reported without a traceback.

    Raises:
        InputError: an override key is unknown, its value is out of range, or YAML reads it in another way than meant.
    """
    show_plainly()
    show_errors_plainly()
    if is_monai_command():
        stop_plainly(_advise_to_resume)
        skip_garbage()
    # With pydicom installed, MONAI warns in every run that one of its decoders is missing; no bundle reads DICOM.
    warnings.filterwarnings("ignore", message=".*nvImageCodec")
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    for file in find_given_files():
        read_config(file)  # MONAI reads 1e-3 as text, and keeps the last of two equal keys
    parser = find_parser()
    config = parser.get()
    if (name := find_entry_point()) is not None:
        check_entry_point(config, name)
    check(parser, find_given())
    allow_open_files(parser.get_parsed_content("num_workers") if "num_workers" in config else 0)
    tracking.complete(config)
    # bf16 halves the feature maps, so memory stays below that of float32 even if freed memory is kept.
    if config.get("amp") and has_fast_bf16("cpu"):
        keep_freed_memory()


def check(parser: ConfigParser, given: Mapping[str, Any]) -> str:
    """Check the keys and values of a bundle, and apply phantom mode where the data are phantoms.

    Args:
        parser: parser of the bundle, with the overrides applied.
        given: overrides, which are applied already.

    Returns:
        Kind of data, as :func:`medpos.bundle.phantoms.apply` does.

    Raises:
        InputError: a key is unknown, or its value is out of range.
    """
    config = parser.get()
    restore_texts(parser, given)
    check_parts(config)
    check_keys(config)
    check_nested_keys(config, parser.locator)
    check_arguments(config, parser.locator)
    check_references(parser)
    check_expressions(parser)
    check_values(parser)
    if "device" in config:
        device = parser.get_parsed_content("device")
        check_device(f"cuda:{device}" if isinstance(device, int) else device)
    data = phantoms.apply(parser, given)
    check_relations(config)
    return data


def check_keys(config: dict[str, Any]) -> None:
    """Refuse top-level keys that the bundle lacks, such as a mistyped override.

    Args:
        config: raw configuration, with the overrides applied.

    Raises:
        InputError: a key is unknown; the message names it and the most similar known key.
    """
    known = known_keys(config)
    for key in config:
        if key in known:
            continue
        flat = ", ".join(k for k in known if k[0] != "_" and not isinstance(config[k], dict | list))
        name = config["bundle_name"]
        raise InputError(
            f"override --{key}: bundle {name} has no such key{suggest(key, known)} Keys to override: {flat}"
        )


def check_nested_keys(config: dict[str, Any], locator: ComponentLocator) -> None:
    """Refuse nested keys that nothing reads, such as a mistyped nested override.

    Such a key is an argument that its ``_target_`` doesn't take, or a key of a section that nothing refers to.

    Args:
        config: raw configuration, with the overrides applied.
        locator: MONAI's table of the full names of its components.

    Raises:
        InputError: a key is unknown; the message names it, the most similar known key and all keys of its level.
    """
    for path, node in find_dictionaries(config):
        own = [key for key in node if not (key.startswith("_") and key.endswith("_"))]
        if "_target_" in node:
            known, owner = _arguments(node, locator), str(node["_target_"])
        else:
            known, owner = _section(path, own, config), "this section"
        for key in own:
            if known is not None and key not in known:
                hint = suggest(key, known, f"--{path}#")
                raise InputError(f"override --{path}#{key}: {owner} has no such key{hint} It has: {', '.join(known)}")


def _arguments(node: dict[str, Any], locator: ComponentLocator) -> Collection[str] | None:
    """Return the names of a component's arguments; None if it takes any, or if they can't be determined."""
    try:
        parameters = inspect.signature(locate_target(node, locator)).parameters.values()
    except (TypeError, ValueError):
        return None
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return None if open_ended else [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]


def _section(path: str, own: Sequence[str], config: dict[str, Any]) -> Collection[str] | None:
    """Return the keys of a top-level section that something refers to.

    None for a dictionary that is used as a whole, and for one that is unused because of an override.
    """
    if "#" in path or path == "_meta_" or is_referred_to(path, config, r"(?!\w|::|#)"):
        return None
    return [key for key in own if is_referred_to(f"{path}::{key}", config)] or None


def set_determinism(seed: int, deterministic: bool = False) -> None:
    """Set the random seeds; on a GPU choose algorithms of cuDNN with a fixed order of sums, or the fastest.

    The fastest algorithm is searched for each size of images, so only where a bundle resizes all images to one size. On
    a CPU every run gives the same bits. A bundle's configuration calls it.

    Args:
        seed: random seed.
        deterministic: True for a fixed order of sums in cuDNN.
    """
    monai.utils.set_determinism(seed=seed)
    if not deterministic:
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.benchmark = "resize" in (find_parser().get("steps") or {})


def try_image_size(network: torch.nn.Module, image_size: int) -> None:
    """Pass one empty image through the network, before anything is trained.

    Where the network allows it, this happens on PyTorch's meta device, which only computes shapes.

    Args:
        network: network that has ``in_channels``, or that begins with a convolution.
        image_size: side of the image in pixels.

    Raises:
        InputError: the network can't take this size; the message says which sizes it takes.
    """
    if not isinstance(image_size, int) or image_size < 1:
        raise InputError(f"--image_size: expected an integer of at least 1 in pixels, such as 256, got {image_size!r}")
    was_training = network.training
    weight = next(network.parameters())
    # A convolution's weight is [out, in, ...].
    channels = network.in_channels if hasattr(network, "in_channels") else weight.shape[1]
    shape = 1, channels, image_size, image_size
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    network.eval()
    try:
        with torch.no_grad():
            try:
                torch.func.functional_call(network, shapes, torch.zeros(shape, device="meta"))
            except (NotImplementedError, RuntimeError):
                network(torch.zeros(shape, device=weight.device))
    except InputError as error:
        raise InputError(f"image_size {image_size}: {error}") from error
    finally:
        network.train(was_training)


def try_data(*datasets: Sequence[Any]) -> None:
    """Check what a training needs before anything is written: its data, its parts, and one training step.

    A training's entry point calls it, from a bundle's configuration; in bundles of earlier versions a test does too,
    with its own data alone.

    Args:
        datasets: data sets of training, validation and test.

    Raises:
        InputError: the data, or values such as the image size, can't be used.
    """
    try_images(*datasets)
    if len(datasets) > 1:
        parser = find_parser()
        _try_parts(parser, with_test=len(datasets) > 2)
        if parser.get("begin_with") and not parser.get_parsed_content("resume"):
            check_beginning(parser.get_parsed_content("network_def"), parser.get_parsed_content("begin_with"))
        try_training_step(parser)


def try_images(*datasets: Sequence[Any]) -> None:
    """Decode all images, and transform the first item of each data set.

    Args:
        datasets: data sets, such as :class:`medpos.data.CachedDataset`, which decodes at the first access.

    Raises:
        InputError: a file, or an argument of a transform, can't be used, or two parts of the data share an image.
    """
    config = find_parser().get()
    for dataset in datasets:
        try_chain(dataset, config)
    whole = [dataset.dataset if isinstance(dataset, Patches) else dataset for dataset in datasets]
    cached = [dataset for dataset in whole if isinstance(dataset, CachedDataset)]
    parts = {dataset.data[0]["split"]: dataset.cached_images() for dataset in cached}
    if leaks := find_equal_images(parts):
        raise InputError(f"expected parts of the data that share nothing, but {describe_leaks(leaks)}; {ADVICE}")


def _try_parts(parser: ConfigParser, with_test: bool) -> None:
    """Build the parts of a training that a wrong value can break; all but the engines are kept for the training.

    Args:
        parser: parser of the configuration.
        with_test: whether the training ends with a test, so that there are data for its evaluator.
    """
    parts = ("optimizer", "loss", "dataloader", "inferer", "handlers")
    for part in (*(f"train::{part}" for part in parts), "validate::evaluator", "inferer", "postprocessing"):
        if part in parser:
            parser.get_parsed_content(part)
    tests = ["evaluator"] if with_test else []
    for engine in ("train::trainer", *tests):
        if isinstance(node := parser.get(engine), dict):
            _try_engine(parser, engine, node)
    for evaluator in ("validate::evaluator", *tests):
        try_postprocessing(parser, evaluator)
    check_classes(parser)


def _try_engine(parser: ConfigParser, place: str, node: dict[str, Any]) -> None:
    """Build an engine that is thrown away, without what acts on other parts: handlers that restore a training."""
    target = locate_target(node, parser.locator)
    arguments = {
        key: parser.get_parsed_content(f"{place}::{key}") for key in node if not (key[0] == "_" and key[-1] == "_")
    }
    handlers = next((key for key in ("train_handlers", "val_handlers") if arguments.get(key)), None)
    try:
        if handlers:
            arguments[handlers] = [part for part in arguments[handlers] if not getattr(part, "restores", False)]
        target(**arguments)
    except InputError:
        raise
    except Exception as error:  # a component may raise anything
        raise InputError(
            f"--{place.replace('::', '#')}: {node['_target_']} refuses its values ({first_line(error)}); correct them"
        ) from error


def hyper_parameters(source: Any) -> dict[str, Any]:
    """Return the values that TensorBoard lists beside the best key metric, as far as the bundle has them.

    A bundle's configuration calls it.

    Args:
        source: the training data.
    """
    parser = find_parser()
    values = {key: parser.get_parsed_content(key) for key in _SHOWN if key in parser.get()}
    return {"bundle": parser.get_parsed_content("bundle_name"), **values, "phantom": source.phantom}


def resolved() -> dict[str, Any]:
    """Return the configuration in use, with overrides applied and plain values evaluated, ready for JSON.

    Components that have no JSON value (a network, a transform) stay as they are written, so the file can be run again.
    """
    return resolve(find_parser())


def resolve(parser: ConfigParser, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the configuration of a parser as :func:`resolved` does; makes phantoms where there are no data.

    Args:
        parser: parser of a bundle, with phantom mode applied.
        without: keys to leave unevaluated, along with the keys that refer to them.
    """
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    left = {key for key in config if key in without or follow_references([config[key]], config) & set(without)}
    for key, value in config.items():
        if isinstance(value, str) and value[:1] in "$@" and key not in left and not is_entry_point(key, value):
            plain = parser.get_parsed_content(key)
            config[key] = plain if isinstance(plain, bool | int | float | str | None) else _as_text(plain, value)
    # Once evaluated, values no longer refer to keys such as iterations, so all keys are listed as known.
    return {**config, "known_keys": [*config, "known_keys"]}


def _as_text(value: Any, written: str) -> Any:
    return str(value) if isinstance(value, Path) else written


def show_errors_plainly() -> None:
    """Print the message of an :class:`InputError` that ends the program, instead of a traceback."""
    if sys.excepthook is not _plain_hook:
        sys.excepthook = _plain_hook


def _plain_hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    forget_workers()
    message = explain(error)
    if message is None:
        logger.error("stopped by an unexpected error", exc_info=(kind, error, trace))
        sys.__excepthook__(kind, error, trace)
        return
    logger.debug("traceback", exc_info=(kind, error, trace))
    sys.stderr.write(f"error: {message}\n")


def _advise_to_resume() -> str:
    """Return what to do after a training was stopped; empty where there is nothing to go on with."""
    logs = [Path(h.baseFilename) for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    runs = [log.parent for log in logs if (log.parent / files.RESUME).exists()]
    if not runs or files.Run(runs[0]).is_trained:
        return ""
    return f"; {runs[0]} keeps the finished epochs, go on with --resume True --run_name {runs[0].name}"
