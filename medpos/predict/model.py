"""Compute probabilities with the preprocessing and the network of a trained run."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from medpos.core.config import expand_steps
from medpos.core.device import memory_format
from medpos.core.errors import InputError, first_line
from medpos.data.training_data import TrainingData
from medpos.inferers import FastInferer, describe_network_input
from medpos.io.scan import Array
from medpos.networks import AppendPosition
from medpos.predict.backends import check_precision, compile_network
from medpos.predict.loading import ImageRequirements
from medpos.predict.quantization import load_int8
from medpos.predict.run_files import EXPORTED_WEIGHTS, inferer_key, read_run_files
from medpos.predict.stored import Stored
from medpos.runs.checkpoints import load, load_network
from medpos.runs.task import is_classification, not_a_segmentation
from medpos.transforms import Resampled
from medpos.trust.evidence import Evidence

_PROBES = ((8, 8), (12, 10))  # sizes in pixels of two images that show whether the chain resamples to one size
_PROBE_DEPTH = 3  # slices of the volume that shows whether volumes can be segmented in parts


class Model(Stored):
    """Load the preprocessing and the network of a run.

    Args:
        run: folder of a run or of an exported bundle.
        dataset_dir: training data, for a run without ``data.json`` whose data have moved.
        device: device to compute on; empty: CUDA if there is one.
        backend: one of ``BACKENDS``; those other than ``torch`` compute on the CPU, faster, and differ by rounding.
        precision: ``int8`` quantizes the network for ``openvino``, calibrated on the training data and checked on
            validation images; empty: the backend's own.

    Attributes:
        data: description of the training data.
        classifies: whether the network gives the class of a whole image rather than a label map.
        is_flat: whether the network takes single images and no volumes.
        is_absolute: whether the network takes gray values in the units of the training set, rather than on each
            image's own range.
        network: network with its weights, in evaluation mode.
        inferer: inferer that the run was tested with.
        input_shape: shape [C, X, Y] of the network's input; None: images of any size.
        slices: number of slices of a volume that the network sees at a time; 1 unless it sees neighbors.
        sees_whole_images: whether every window of the inferer is a whole image or slice.
        plane: X and Y of the network's grid in pixels where every image is resampled to it; None: they differ.
        takes_slices: whether a slice of a volume has the same result in any part of the volume with its neighbors.

    Raises:
        InputError: the folder is no run, lacks weights, is of a newer version, its training data are unknown, or the
            backend doesn't support its network; or its int8 network can't be made, or differs too much.
    """

    def __init__(
        self,
        run: Path,
        dataset_dir: Path | None = None,
        device: str = "",
        backend: str = "torch",
        precision: str = "",
    ) -> None:
        self.run = run
        self._arguments = (run, dataset_dir, device, backend, precision)
        self.precision = check_precision(precision, backend)
        found = read_run_files(run, dataset_dir)
        config, weights, self.data = found.config, found.weights, found.data
        self.home = weights.parent.parent if weights.parent.name == EXPORTED_WEIGHTS.parent.name else weights.parent
        self.backend = backend
        self.device = _device(device, backend)
        state = load(weights)
        self.identity = hashlib.sha256(weights.read_bytes()).hexdigest()
        chain = json.dumps([expand_steps(config[key], config) for key in ("decode", "standardise")])
        self.classifies = is_classification(config)
        self.is_absolute = "@source.intensity" in chain or "@window::" in chain
        parser = _parser(config, self.data, str(self.device))
        try:
            network, self._standardise, self.inferer = (
                parser.get_parsed_content(key) for key in ("network_def", "standardise", inferer_key(config))
            )
            self._decode: Compose = parser.get_parsed_content("decode")
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{run}: expected a configuration that can be built, got: {_cause(error)}; train it again"
            ) from error
        steps = self._decode.flatten().transforms
        self._resampling = next((step for step in steps if isinstance(step, Resampled) and step.pixdim), None)
        if isinstance(network, AppendPosition):
            # An exported network's position channels are appended before the inferer, as in its run.
            self._standardise = Compose([self._standardise, network.append_to_item])
            network = network.network
        load_network(network, state, weights)
        network.eval().to(device=self.device, memory_format=memory_format(self.device))
        self.network = network
        self._probe()
        amp = bool(config.get("amp", True))
        self._network = compile_network(network, "torch" if precision else backend, self.input_shape, amp)
        if precision:
            self._network = load_int8(self, config, dataset_dir, amp)

    def _probe(self) -> None:
        """Find the network's input by sending two small images through preprocessing and inferer."""
        names = self.data.channels
        last = (len(names),) if len(names) > 1 else ()
        probe, other = (self.decode(np.zeros((*size, 1, *last), np.float32), self.pixdim) for size in _PROBES)
        image = self.prepare(probe)
        channels, sides = describe_network_input(self.inferer, image.shape[0])
        if sides is None and probe.shape == other.shape:  # the chain resamples to one size
            sides = (int(image.shape[1]), int(image.shape[2]))
        expected = getattr(self.network, "in_channels", channels)
        if channels != expected:
            raise InputError(
                f"{self.run}: expected {expected} input channels for its network, got {channels} from images of "
                f"{', '.join(names)}; give the data it was trained on by --dataset-dir"
            )
        self.is_flat = probe.ndim == 3
        self.input_shape = None if sides is None else (channels, *sides)
        self.slices = channels // image.shape[0]
        self.sees_whole_images = probe.shape == other.shape and sides == tuple(image.shape[1:3])
        self.plane = (int(probe.shape[1]), int(probe.shape[2])) if probe.shape == other.shape else None
        self.takes_slices = not self.is_flat and self._compare_parts()

    def _compare_parts(self) -> bool:
        """Tell whether a small volume has the same logits in parts as in one, with a stand-in for the network."""
        low, high, margin = self.data.intensity["low"], self.data.intensity["high"], self.slices // 2
        depth, names = _PROBE_DEPTH + 2 * margin, self.data.channels
        shape = (*_PROBES[1], depth, len(names)) if len(names) > 1 else (*_PROBES[1], depth)
        values = np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)
        values[:, :, : depth // 2] *= 0.5  # the slices differ, so that what depends on all of them is seen

        def segment(part: Array) -> torch.Tensor:
            with torch.inference_mode():
                logits: torch.Tensor = self.inferer(
                    self.prepare(self.decode(part, self.pixdim))[None].to(self.device), _stand_in
                )
            return logits[0]

        try:
            whole = segment(values)
            around = [values[:, :, z : z + 2 * margin + 1] for z in range(depth - 2 * margin)]
            parts = [segment(part)[..., margin] for part in around]
        except Exception:  # the user's own steps and inferers may refuse such a volume
            return False
        inner = whole[..., margin : depth - margin]
        return inner.shape[-1] == len(parts) and bool(torch.allclose(inner, torch.stack(parts, -1), 1e-3, 1e-3))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments alone, so that the model is built anew where it arrives."""
        return Model, self._arguments

    def check_segments(self) -> None:
        """Check that the network segments.

        Raises:
            InputError: it classifies whole images.
        """
        if self.classifies:
            raise not_a_segmentation(self.run)

    @property
    def requirements(self) -> ImageRequirements:
        """Images that the network takes."""
        return ImageRequirements(self.data, self.is_flat, self.is_absolute)

    @property
    def pixdim(self) -> tuple[float, ...] | None:
        """Pixel size in mm along x and y to which the run resamples images; None: it resizes them, or neither."""
        return None if self._resampling is None else self._resampling.pixdim

    def find_size(self, shape: Sequence[int], spacing_mm: Sequence[float] | None) -> tuple[int, int] | None:
        """Return X and Y of an image at the run's pixel size, before padding and cropping to the network's grid.

        Args:
            shape: X and Y of the image in pixels.
            spacing_mm: spacing of the image along X and Y in mm; None: unknown.

        Returns:
            X and Y in pixels; None where the run doesn't resample to a pixel size.

        Raises:
            InputError: the run needs a pixel size, and that of the image is unknown or far larger.
        """
        return None if self._resampling is None else self._resampling.find_size(shape, spacing_mm)

    def decode(self, values: Array, spacing_mm: Sequence[float] | None = None) -> torch.Tensor:
        """Scale an image to [0, 1] and resample it to the network's grid, as the run does.

        Args:
            values: image [X, Y, Z], or [X, Y, Z, C] where there are several channels, in training units.
            spacing_mm: spacing along X and Y in mm, for a run that resamples to a pixel size; None: unknown.

        Returns:
            Image [C, x, y] or [C, x, y, z].

        Raises:
            InputError: the run needs a pixel size, and that of the image is unknown or far larger.
        """
        return self.decode_labeled(values, None, spacing_mm)[0]

    def decode_labeled(
        self, values: Array, label: Array | None, spacing_mm: Sequence[float] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode an image as :meth:`decode` does, and its label map with it.

        Args:
            values: image, as for :meth:`decode`.
            label: label map [X, Y, Z]; None: one of zeros.
            spacing_mm: spacing along X and Y in mm, as for :meth:`decode`.

        Returns:
            Image [C, x, y] or [C, x, y, z], and label map [1, x, y] or [1, x, y, z].

        Raises:
            InputError: the run needs a pixel size, and that of the image is unknown or far larger.
        """
        self.find_size(values.shape, spacing_mm)
        first = np.moveaxis(values, 3, 0) if values.ndim == 4 else values[None]
        item = {**_item(torch.from_numpy(np.require(first, np.float32, ["C", "W"]))), "spacing_mm": spacing_mm}
        if label is not None:
            item["label"] = torch.from_numpy(np.require(label[None], np.uint8, ["C", "W"]))
        found = self._decode(item)
        return found["image"], found["label"]

    def prepare(self, decoded: torch.Tensor) -> torch.Tensor:
        """Standardize a decoded image, and append position channels where the run has them.

        Args:
            decoded: image [C, x, y] or [C, x, y, z] in [0, 1].

        Returns:
            Input of the network, [C', x, y] or [C', x, y, z].
        """
        # A copy, because MONAI's channel-wise NormalizeIntensityd works in place.
        image: torch.Tensor = self._standardise(_item(decoded.clone()))["image"]
        return image

    def check_dropout(self) -> None:
        """Check that the network has dropout, and is computed by PyTorch.

        Raises:
            InputError: it has none, or another backend computes it without.
        """
        if self.backend != "torch":
            raise InputError(f"--dropout: expected --backend torch, got {self.backend}; leave one of them out")
        if not _find_dropout(self.network):
            raise InputError(
                f"--dropout: expected a network with dropout layers, got that of {self.run} without; leave it out, or "
                "take --tta or --member"
            )

    def sample(self, decoded: torch.Tensor, number: int) -> torch.Tensor:
        """Compute the probabilities of a network whose dropout is switched on (Monte Carlo dropout).

        Args:
            decoded: image [C, x, y] or [C, x, y, z] in [0, 1].
            number: number of the pass, from 0, which is the seed.

        Returns:
            Probabilities as those of :meth:`probabilities`, of one pass.

        Reference:
            Y. Gal and Z. Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.
        """
        image, layers = self.prepare(decoded), _find_dropout(self.network)
        # MONAI's own inferer: the fast path folds networks in evaluation mode.
        inferer = self.inferer.inferer if isinstance(self.inferer, FastInferer) else self.inferer
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices):
            torch.manual_seed(number)
            for layer in layers:
                layer.train()
            try:
                logits = inferer(image[None].to(self.device), self.network)
            finally:
                for layer in layers:
                    layer.eval()
            result: torch.Tensor = logits.float().softmax(dim=1)[0].cpu()
        return result

    def probabilities(self, decoded: torch.Tensor, evidence: Evidence | None = None) -> torch.Tensor:
        """Compute the probabilities of all classes.

        Args:
            decoded: image [C, x, y] or [C, x, y, z] in [0, 1].
            evidence: collection that gets what detectors of strange images look at; None: nothing is collected.

        Returns:
            Probabilities [classes, x, y] or [classes, x, y, z] on the network's grid, float32.
        """
        image = self.prepare(decoded)
        with torch.inference_mode(), nullcontext() if evidence is None else evidence.tap.open():
            logits = self.inferer(image[None].to(self.device), self._network)
            result: torch.Tensor = logits.softmax(dim=1)[0].cpu()
        if evidence is not None:
            evidence.add(decoded, result)
        return result


def _find_dropout(network: nn.Module) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, _DropoutNd) and layer.p > 0]


def _stand_in(image: torch.Tensor) -> torch.Tensor:
    """Return logits [N, 2, X, Y] that depend on all channels of each pixel."""
    weights = torch.linspace(1.0, 2.0, image.shape[1], device=image.device)
    score = (image.float() * weights.view(-1, 1, 1)).sum(dim=1)
    return torch.stack([score, -score], dim=1)


def _item(image: torch.Tensor) -> dict[str, Any]:
    """Return an item with an empty label, as the run's transforms expect image and label."""
    return {"image": image, "label": torch.zeros(image[:1].shape, dtype=torch.uint8)}


def _device(device: str, backend: str) -> torch.device:
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() and backend == "torch" else "cpu"))
    except RuntimeError:
        raise InputError(f"--device: expected cpu, cuda or cuda:N, got {device!r}; give one of these") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device: expected cpu, as there is no CUDA device, got {device!r}; leave --device out")
    if chosen.type != "cpu" and backend != "torch":
        raise InputError(f"--backend {backend}: expected --device cpu, got {device!r}; leave one of them out")
    return chosen


def _parser(config: dict[str, Any], data: TrainingData, device: str) -> ConfigParser:
    """Return a parser of the run's configuration, with the description of the training data in place of the data."""
    # The image is read already, so the step that reads files is left out.
    chain = expand_steps(config["decode"], config)
    rest = [step for step in chain["transforms"] if not str(step.get("_target_")).endswith("LoadImaged")]
    decode = {**chain, "transforms": rest}
    parser = ConfigParser({**config, "decode": decode, "source": data, "device": device, "_meta_": {}})
    monai.data.set_track_meta(False)
    return parser


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
