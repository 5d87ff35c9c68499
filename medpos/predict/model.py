"""A trained run as a function from grey values to label maps, by the run's own chain and network."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.bundle import ConfigParser
from torch.nn import functional

from medpos.core.config import with_steps
from medpos.core.device import memory_format
from medpos.core.errors import InputError, first_line
from medpos.core.labels import Label
from medpos.data.training_data import TrainingData
from medpos.inferers import describe_network_input
from medpos.io.scan import Array, Pixels
from medpos.predict.backends import compile_network
from medpos.predict.loading import ImageRequirements
from medpos.predict.run_files import inferer_key, read_run_files
from medpos.runs.checkpoints import load, load_network
from medpos.runs.task import is_classification, not_a_segmentation

logger = logging.getLogger(__name__)

_SIDES = ("right_", "left_")
_PROBES = ((8, 8), (12, 10))  # px; of two sizes, to see whether the chain resamples them to one


class Model:
    """A run's preprocessing and network.

    Args:
        run: the run's folder, or a bundle that was exported from one.
        dataset_dir: the data that it was trained on, for a run without ``data.json`` whose data have moved.
        device: to compute on; empty: CUDA where there is one.
        backend: one of ``BACKENDS``; others than ``torch`` compute on the CPU, faster, and equal but for rounding.

    Attributes:
        data: what it was trained on.
        identity: SHA-256 of the weights.
        classifies: it gives the class of a whole image, no label map.
        is_flat: it takes single images, no volumes.
        is_absolute: it rests on grey values in the units of the training set, not on each image's own range.
        network: with its weights, in evaluation mode.
        input_shape: [C, X, Y] of what the network sees; None: images as they are, of any size.
        slices: of a volume that the network sees at a time, 1 unless it sees neighbours.

    Raises:
        InputError: no run, without weights, of a newer version, its data are not known, or the backend can't take its
            network.
    """

    def __init__(self, run: Path, dataset_dir: Path | None = None, device: str = "", backend: str = "torch") -> None:
        self.run = run
        self._made_with = (run, dataset_dir, device, backend)
        found = read_run_files(run, dataset_dir)
        config, weights, self.data = found.config, found.weights, found.data
        self.backend = backend
        self.device = _device(device, backend)
        state = load(weights)
        self.identity = hashlib.sha256(weights.read_bytes()).hexdigest()
        chain = json.dumps([with_steps(config[key], config) for key in ("decode", "standardise")])
        self.classifies = is_classification(config)
        self.is_absolute = "@source.intensity" in chain or "@window::" in chain
        parser = _parser(config, self.data, str(self.device))
        try:
            network, self._standardise, self._inferer = (
                parser.get_parsed_content(key) for key in ("network_def", "standardise", inferer_key(config))
            )
            self._decode = parser.get_parsed_content("decode")
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{run}: its configuration can't be built ({_cause(error)}); train it again") from error
        load_network(network, state, weights)
        network.eval().to(device=self.device, memory_format=memory_format(self.device))
        self.network = network
        self._look()
        self._network = compile_network(network, backend, self.input_shape, bool(config.get("amp", True)))

    def _look(self) -> None:
        """Find out what the chain and the inferer make of an image."""
        names = self.data.channels
        last = (len(names),) if len(names) > 1 else ()
        probe, other = (self.decode(np.zeros((*size, 1, *last), np.float32)) for size in _PROBES)
        image = self.prepare(probe)
        channels, sides = describe_network_input(self._inferer, image.shape[0])
        if sides is None and probe.shape == other.shape:  # the chain resamples to one size
            sides = (int(image.shape[1]), int(image.shape[2]))
        needed = getattr(self.network, "in_channels", channels)
        if channels != needed:
            raise InputError(
                f"{self.run}: its network takes {needed} input channels, images of {', '.join(names)} give {channels}; "
                "give the data it was trained on by --dataset-dir"
            )
        self.is_flat = probe.ndim == 3
        self.input_shape = None if sides is None else (channels, *sides)
        self.slices = channels // image.shape[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent as the name of its run, to be built anew where it arrives."""
        return Model, self._made_with

    @property
    def requirements(self) -> ImageRequirements:
        """What the network takes."""
        return ImageRequirements(self.data, self.is_flat, self.is_absolute)

    def decode(self, values: Array) -> torch.Tensor:
        """The run's chain up to grey values in [0, 1] on the network's grid.

        Args:
            values: [X, Y, Z], or [X, Y, Z, C] of several channels.

        Returns:
            [C, x, y] or [C, x, y, z].
        """
        first = np.moveaxis(values, 3, 0) if values.ndim == 4 else values[None]
        image = torch.from_numpy(np.ascontiguousarray(first, np.float32))
        decoded: torch.Tensor = self._decode(_item(image))["image"]
        return decoded

    def prepare(self, decoded: torch.Tensor) -> torch.Tensor:
        """The network's input [C, x, y] or [C, x, y, z]: standardised, with position channels where it has them."""
        # A copy: MONAI's NormalizeIntensityd by channel works in place.
        image: torch.Tensor = self._standardise(_item(decoded.clone()))["image"]
        return image

    def probabilities(self, decoded: torch.Tensor) -> torch.Tensor:
        """Probabilities [classes, x, y] or [classes, x, y, z], float32, on the network's grid."""
        image = self.prepare(decoded)
        with torch.inference_mode():
            logits = self._inferer(image[None].to(self.device), self._network)
            result: torch.Tensor = logits.softmax(dim=1)[0].cpu()
        return result


def _item(image: torch.Tensor) -> dict[str, torch.Tensor]:
    """The run's chains read image and label; an empty label passes with the image."""
    return {"image": image, "label": torch.zeros(image[:1].shape, dtype=torch.uint8)}


def _device(device: str, backend: str) -> torch.device:
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() and backend == "torch" else "cpu"))
    except RuntimeError:
        raise InputError(f"--device is {device!r}, needed cpu, cuda or cuda:N") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device is {device!r}, but there is no CUDA device; leave --device out")
    if chosen.type != "cpu" and backend != "torch":
        raise InputError(f"--backend {backend} computes on the CPU, --device is {device!r}; leave one of them out")
    return chosen


def _parser(config: dict[str, Any], data: TrainingData, device: str) -> ConfigParser:
    """Of the run's configuration; the training data's description stands for the data."""
    # Reading files is done here already; the chain begins behind it.
    chain = with_steps(config["decode"], config)
    rest = [step for step in chain["transforms"] if not str(step.get("_target_")).endswith("LoadImaged")]
    decode = {**chain, "transforms": rest}
    parser = ConfigParser({**config, "decode": decode, "source": data, "device": device, "_meta_": {}})
    monai.data.set_track_meta(False)
    return parser


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


@dataclass(frozen=True)
class Ensemble:
    """One model or several, whose probabilities are averaged.

    Args:
        models: trained on the same classes.
        flip: average with the mirrored image's, mirrored back, right for left.

    Raises:
        InputError: one classifies whole images; classes, orientation or kind of image differ, or the classes can't be
            mirrored.
    """

    models: Sequence[Model]
    flip: bool = False

    def __post_init__(self) -> None:
        first = self.models[0]
        for model in self.models:
            if model.classifies:
                raise not_a_segmentation(model.run)
        for other in self.models[1:]:
            for name in ("labels", "channels", "orientation", "nominal"):
                mine, theirs = getattr(first.data, name), getattr(other.data, name)
                if mine != theirs:
                    raise InputError(f"--member {other.run}: {name} differ from those of {first.run}; leave it out")
            if first.is_flat != other.is_flat or first.is_absolute != other.is_absolute:
                raise InputError(f"--member {other.run}: takes other images than {first.run}; leave it out")
        if self.flip:
            mirror_classes(self.labels)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The classes, background first."""
        return self.models[0].data.labels

    @property
    def phantom(self) -> bool:
        """Whether a member was trained on computed images."""
        return any(model.data.phantom for model in self.models)

    def decode(self, values: Array) -> list[torch.Tensor]:
        """Every member's image on its own grid."""
        return [model.decode(values) for model in self.models]

    def probabilities(self, decoded: Sequence[torch.Tensor]) -> torch.Tensor:
        """Mean probabilities [classes, x, y(, z)] on the first member's grid."""
        parts = []
        for model, image in zip(self.models, decoded, strict=True):
            parts.append(model.probabilities(image))
            if self.flip:
                turned = model.probabilities(image.flip(1)).flip(1)
                parts.append(turned[list(mirror_classes(self.labels))])
        plane = parts[0].shape[1:3]
        same = [part if part.shape[1:3] == plane else _resampled(part, plane) for part in parts]
        return same[0] if len(same) == 1 else torch.stack(same).mean(dim=0)


def mirror_classes(labels: Sequence[Label]) -> tuple[int, ...]:
    """The index of each class's mirror image: right for left; others are their own.

    Raises:
        InputError: a class of one side has none on the other.
    """
    names = [label.name for label in labels]
    result = []
    for name in names:
        side = next((side for side in _SIDES if name.startswith(side)), None)
        other = name if side is None else _SIDES[1 - _SIDES.index(side)] + name[len(side) :]
        if other not in names:
            raise InputError(f"--tta flip: {name} has no {other} to be mirrored to; leave --tta out")
        result.append(names.index(other))
    return tuple(result)


def _resampled(volume: torch.Tensor, plane: Sequence[int]) -> torch.Tensor:
    """[C, x, y(, z)] with other x and y; bilinear, averaging where it gets smaller."""
    images = volume[..., None] if volume.ndim == 3 else volume
    planes = images.permute(3, 0, 1, 2).contiguous()
    done = functional.interpolate(planes, size=tuple(plane), mode="bilinear", antialias=True).permute(1, 2, 3, 0)
    return done[..., 0] if volume.ndim == 3 else done


def compute_label_map(probabilities: torch.Tensor, shape: Sequence[int]) -> Pixels:
    """The most probable class of each pixel of the image, from probabilities on the network's grid.

    Args:
        probabilities: [classes, x, y] or [classes, x, y, z].
        shape: X, Y, Z of the image.

    Returns:
        uint8 [X, Y, Z]; of equal probabilities the lower class.
    """
    result = np.empty(tuple(shape), np.uint8)
    for z in range(shape[2]):
        best: torch.Tensor | None = None
        # Class by class: of a large image all classes at once would fill the memory.
        for index in range(len(probabilities)):
            values = resample_plane(probabilities, index, z, shape[:2])
            if best is None:
                best, chosen = values, torch.zeros(values.shape, dtype=torch.uint8)
            else:
                chosen[values > best] = index
                best = torch.maximum(best, values)
        result[..., z] = chosen.numpy()
    return result


def resample_plane(probabilities: torch.Tensor, index: int, z: int, plane: Sequence[int]) -> torch.Tensor:
    """One class in one slice, on the image's grid [X, Y]."""
    values = probabilities[index] if probabilities.ndim == 3 else probabilities[index, ..., z]
    return values if values.shape == tuple(plane) else _resampled(values[None], plane)[0]


def compute_probability_map(probabilities: torch.Tensor, shape: Sequence[int]) -> Array:
    """All probabilities on the image's grid: float32 [X, Y, Z, classes]."""
    result = np.empty((*shape, len(probabilities)), np.float32)
    for z in range(shape[2]):
        for index in range(len(probabilities)):
            result[:, :, z, index] = resample_plane(probabilities, index, z, shape[:2]).numpy()
    return result
