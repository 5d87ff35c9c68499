"""Quantize the network of a run to 8-bit integers for OpenVINO, and check the result on validation images.

The ranges of the activations are those on training images of the run; NNCF places the quantizers (Jacob et al., CVPR
2018, describe the arithmetic). The quantized network is kept in the run, with what the check found.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import nibabel
import numpy as np
import torch

from medpos.core.errors import InputError, first_line
from medpos.core.files import WriteError, read_json, write_folder, write_json
from medpos.data.folder import DataFolder
from medpos.inferers import FastInferer
from medpos.metrics import mean_of_finite, overlap
from medpos.predict.backends import Network, compile_openvino, convert_to_openvino
from medpos.predict.label_maps import compute_label_map, undo_centering
from medpos.predict.run_files import open_training_data

if TYPE_CHECKING:
    from medpos.predict.model import Model

logger = logging.getLogger(__name__)
T = TypeVar("T")
LEAST_EQUAL = 0.995  # share of pixels with the label of the float32 network
MOST_DICE = 0.005  # largest change of an organ's mean Dice
_FOLDER, _NETWORK, _CHECK = "int8", "network.xml", "check.json"
_INPUTS = 64  # network inputs at most that the ranges are taken from
_CHECKED = 32  # validation images at most


def load_int8(model: "Model", config: dict[str, Any], dataset_dir: Path | None, amp: bool) -> Network:
    """Load the int8 network of a run; at the first use, quantize it, check it, and keep it in the run.

    Args:
        model: model of the run, with its float32 network.
        config: resolved configuration of the run.
        dataset_dir: training data, if they have moved; needed at the first use alone.
        amp: whether what isn't quantized may be computed in bf16.

    Returns:
        Function from images [N, C, X, Y] to logits [N, classes, X, Y], float32.

    Raises:
        InputError: the run classifies, or its images differ in size; NNCF isn't installed; the training data are
            needed and unknown; the check fails; or the network that the run keeps is of other weights, or damaged.
    """
    model.check_segments()
    if model.input_shape is None:
        raise InputError(
            "--precision int8: expected a run whose network gets images of one size; leave --precision out"
        )
    folder, shape = model.run / _FOLDER, list(model.input_shape)
    if (folder / _CHECK).is_file():
        found = read_json(folder / _CHECK, f"remove {folder}, so that the network is quantized again")
        if found.get("weights") == model.identity and found.get("shape") == shape:
            return _compile_kept(folder, amp)
        raise InputError(
            f"{folder}: expected the int8 network of these weights and this image size, got that of others; remove the "
            "folder, so that the network is quantized again"
        )
    source = _open_data(model, config, dataset_dir)
    quantized = _quantize(model, source)
    network = compile_openvino(quantized, amp)
    check = {"weights": model.identity, "shape": shape, **compare(model, network, source)}
    _keep(quantized, folder, check)
    return network


def _compile_kept(folder: Path, amp: bool) -> Network:
    """Compile the int8 network that a run keeps."""
    try:
        return compile_openvino(folder / _NETWORK, amp)
    except RuntimeError as error:  # of OpenVINO, also for a file that is missing
        raise InputError(
            f"{folder / _NETWORK}: expected an OpenVINO network, got a damaged or missing file "
            f"({first_line(error, 120)}); remove {folder}, so that the network is quantized again"
        ) from error


def _open_data(model: "Model", config: dict[str, Any], dataset_dir: Path | None) -> DataFolder:
    """Open the training data, for the ranges of the activations and for the check."""
    if dataset_dir is None and "data_folder" not in config:
        raise InputError(
            f"--precision int8: expected the training data of {model.run}, on which the network is calibrated once, "
            "got an exported bundle, which doesn't say where they are; give them by --dataset-dir"
        )
    source = open_training_data(model.run, config, dataset_dir)
    if source.labels != model.data.labels or tuple(source.channels) != model.data.channels:
        raise InputError(
            f"--precision int8: expected the training data of {model.run}, got other classes or channels in "
            f"{source.folder}; give its own by --dataset-dir"
        )
    return source


def _quantize(model: "Model", source: DataFolder) -> Any:
    """Quantize the network of a model with ranges of training images."""
    try:
        import nncf  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise InputError("--precision int8: nncf is not installed; pip install 'medpos[fast]'") from None
    logging.getLogger("nncf").setLevel(logging.ERROR)
    inputs = spread(list(_network_inputs(model, source)), _INPUTS)
    converted = convert_to_openvino(model.network, torch.from_numpy(inputs[0]))
    try:
        return nncf.quantize(
            converted,
            nncf.Dataset(inputs),
            preset=nncf.QuantizationPreset.MIXED,  # ranges that aren't symmetric about 0 for the activations
            subset_size=len(inputs),
            fast_bias_correction=False,  # the slow one halves the number of other labels
            ignored_scope=nncf.IgnoredScope(names=_first_convolution(converted)),
        )
    except Exception as error:
        reason = first_line(error, 150)
        raise InputError(f"--precision int8: can't quantize this network ({reason}); leave --precision out") from error


def _first_convolution(network: Any) -> list[str]:
    """Return the name of the first convolution, whose input channels differ in range: gray values and position."""
    kinds = ((op.get_type_name(), op.get_friendly_name()) for op in network.get_ordered_ops())
    return [name for kind, name in kinds if kind == "Convolution"][:1]


def _network_inputs(model: "Model", source: DataFolder) -> Iterator[np.ndarray[Any, Any]]:
    """Collect inputs [1, C, X, Y] of the network from training images, a few of each."""
    cases = spread(source.cases("training"), _INPUTS)
    for case in cases:
        seen: list[torch.Tensor] = []

        def record(image: torch.Tensor, seen: list[torch.Tensor] = seen) -> torch.Tensor:
            seen.extend(image.float().cpu().split(1))
            return image.new_zeros(len(image), len(model.data.labels), *image.shape[2:])

        with torch.inference_mode():
            model.inferer(model.prepare(model.decode(_read(case), case["spacing_mm"]))[None], record)
        yield from (image.numpy() for image in spread(seen, max(1, _INPUTS // len(cases))))


def compare(model: "Model", network: Network, source: DataFolder) -> dict[str, Any]:
    """Compare label maps and Dice of a quantized network with those of the float32 network on validation images.

    Args:
        model: model of the run, with its float32 network.
        network: the quantized network.
        source: training data of the run.

    Returns:
        ``images``; ``equal_labels``, the share of pixels with the same label, 0 to 1; ``dice_change``, the change of
        the mean Dice of each organ.

    Raises:
        InputError: fewer than ``LEAST_EQUAL`` of the labels are equal, or an organ's Dice changes by more than
            ``MOST_DICE``.
    """
    # MONAI's own inferer, without the fast path, so that the comparison is with float32.
    cases = spread(source.cases("validation"), _CHECKED)
    inner = model.inferer.inferer if isinstance(model.inferer, FastInferer) else model.inferer
    classes, equal, pixels = len(model.data.labels), 0, 0
    scores: tuple[list[Any], list[Any]] = ([], [])
    for case in cases:
        values, truth = _read(case), np.asarray(nibabel.load(case["label"]).dataobj)
        image = model.prepare(model.decode(values, case["spacing_mm"]))[None]
        size = model.find_size(values.shape, case["spacing_mm"])
        maps = []
        for one, scored in zip((model.network, network), scores, strict=True):
            with torch.inference_mode():
                probabilities = inner(image, one).float().softmax(dim=1)[0]
            whole = probabilities if size is None else undo_centering(probabilities, size)
            maps.append(compute_label_map(whole, values.shape[:3]))
            scored.append(overlap(maps[-1].reshape(truth.shape), truth, classes)["dice"])
        equal, pixels = equal + int((maps[0] == maps[1]).sum()), pixels + maps[0].size
    means = [np.array([mean_of_finite(list(column)) for column in np.transpose(scored)]) for scored in scores]
    change = means[1] - means[0]
    _refuse(equal / pixels, change, model, len(cases))
    organs = {label.name: float(value) for label, value in zip(model.data.labels[1:], change, strict=True)}
    return {"images": len(cases), "equal_labels": equal / pixels, "dice_change": organs}


def _refuse(equal: float, change: np.ndarray[Any, Any], model: "Model", count: int) -> None:
    worst = int(np.nanargmax(np.abs(change))) if np.isfinite(change).any() else None
    largest = abs(float(change[worst])) if worst is not None else 0.0
    organ = model.data.labels[1 + (worst or 0)].name
    about = f"{equal:.2%} equal labels, and a Dice of {organ} that changes by {largest:.4f}"
    if equal < LEAST_EQUAL or largest > MOST_DICE:
        raise InputError(
            f"--precision int8: expected at least {LEAST_EQUAL:.1%} equal labels and changes of Dice of at most "
            f"{MOST_DICE} on {count} validation images of {model.run}, got {about}; leave --precision out"
        )
    logger.info("int8 on %d validation images: %s", count, about)


def _keep(quantized: Any, folder: Path, check: dict[str, Any]) -> None:
    """Keep a quantized network in its run; a run that can't be written to is quantized again at each use."""
    import openvino  # type: ignore[import-untyped,unused-ignore]

    def write(partial: Path) -> None:
        openvino.save_model(quantized, str(partial / _NETWORK))
        write_json(partial / _CHECK, check)

    try:
        write_folder([folder], write)
    except (WriteError, InputError) as error:  # another process may have been faster
        logger.warning("%s: the int8 network is not kept (%s)", folder, error)


def _read(case: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Read a prepared image [X, Y, Z], or [X, Y, Z, C] of several channels."""
    return np.asarray(nibabel.load(case["image"]).dataobj, np.float32)


def spread(items: Sequence[T], most: int) -> list[T]:
    """Choose items at equal distances.

    Args:
        items: the items.
        most: greatest number to choose.
    """
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[int(place)] for place in dict.fromkeys(places)]
