"""What ``configs/inference.json`` of an exported bundle is wired from: MONAI's chain, the label maps of ``predict``.

Any program that runs MONAI bundles can use these: reading and writing, orientation and resampling are those of
:mod:`medpos.predict`, and everything they need to know travels with the image, in its metadata.
"""

import json
import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from medpos.core.errors import InputError
from medpos.data.training_data import TrainingData
from medpos.predict import inputs
from medpos.predict.loading import ImageRequirements, load_image
from medpos.predict.model import compute_label_map
from medpos.predict.orientation import Orientation

logger = logging.getLogger(__name__)

Item = dict[Hashable, Any]
_FILES, _ORDER, _FLIPS = "medpos_files", "medpos_order", "medpos_flips"


def list_cases(dataset_dir: str, output_dir: str, channels: Sequence[str] = ("image",)) -> list[dict[str, Any]]:
    """The cases of a folder, as a MONAI ``Dataset`` takes them.

    Args:
        dataset_dir: folder, file, glob or list of files.
        output_dir: where results go; never read.
        channels: names of those that the network takes.

    Returns:
        An item a case: ``image``, its file names, and ``case``, its name.

    Raises:
        InputError: nothing there that can be read.
    """
    found = inputs.find_cases([str(dataset_dir)], Path(output_dir), channels)
    return [{"image": [str(path) for path in source.files], "case": source.name} for source in found]


class LoadOrientedImage:
    """Reads an image of any format of :data:`medpos.predict.inputs.FORMATS` and turns it as in training.

    What ``key`` names, a file, a series or a file a channel, becomes a ``MetaTensor`` [C, X, Y, Z], float32, in the
    units of training; its metadata have the file's ``affine`` and ``spatial_shape`` and the way back.

    Args:
        data: what the network was trained on.
        is_flat: it takes single images, no volumes.
        is_absolute: it rests on grey values in the units of the training set.
        key: of the image.

    Raises:
        InputError: when called, for a file that can't be used.
    """

    def __init__(self, data: TrainingData, is_flat: bool, is_absolute: bool, key: str = "image") -> None:
        self.wanted = ImageRequirements(data, is_flat, is_absolute)
        self.key = key

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        """Read the image of an item."""
        given = item[self.key]
        files = [str(given)] if isinstance(given, str | Path) else [str(path) for path in given]
        source = inputs.identify_case(files)
        found = load_image(source, self.wanted)
        for note in found.notes:
            logger.warning("%s: %s", source.files[0], note)
        affine = torch.from_numpy(found.scan.target.affine)
        meta = {
            "filename_or_obj": files[0],
            "original_affine": affine,
            "spatial_shape": np.array(found.scan.values.shape[:3]),  # NumPy's, as MONAI's own readers give it
            _FILES: json.dumps(files),
            _ORDER: torch.tensor(found.orientation.order),
            _FLIPS: torch.tensor(found.orientation.flips),
        }
        first = np.moveaxis(found.values, 3, 0) if found.values.ndim == 4 else found.values[None]
        values = torch.from_numpy(first.copy())
        return {**item, self.key: MetaTensor(values, affine=affine, meta=meta)}


class RestoreImageGrid:
    """Turns logits on the network's grid into the label map on the grid of the image's file.

    Args:
        key: of the logits [classes, x, y] or [classes, x, y, z]; replaced by a ``MetaTensor`` [1, X, Y, Z], uint8.
        image_key: of the image that :class:`LoadOrientedImage` read.

    Raises:
        InputError: when called, if the chain has lost the image's metadata.
    """

    def __init__(self, key: str = "pred", image_key: str = "image") -> None:
        self.key = key
        self.image_key = image_key

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        """Bring the prediction of an item to its own grid."""
        meta = _meta(item[self.image_key])
        order, flips, shape = (meta[name].tolist() for name in (_ORDER, _FLIPS, "spatial_shape"))
        logits = torch.as_tensor(item[self.key]).detach()
        plain = logits.as_tensor() if isinstance(logits, MetaTensor) else logits
        probabilities = plain[None].float().softmax(dim=1)[0].cpu()
        upright = compute_label_map(probabilities, [shape[axis] for axis in order])
        x, y, z = order
        own = Orientation((x, y, z), (bool(flips[0]), bool(flips[1]))).undo(upright)
        labels = torch.from_numpy(own.copy())[None]
        return {**item, self.key: MetaTensor(labels, affine=meta["original_affine"], meta=dict(meta))}


class SavePredictions:
    """Writes every label map beside the others, in the format that fits the image: NIfTI, DICOM SEG or PNG.

    Args:
        output_dir: the folder.
        data: what the network was trained on.
    """

    def __init__(self, output_dir: str, data: TrainingData) -> None:
        self.output_dir = Path(output_dir)
        self.data = data

    def attach(self, engine: Engine) -> None:
        """Follow an evaluator; goes behind its postprocessing."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._tell)

    def _write(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            files = json.loads(_meta(item["image"])[_FILES])
            # Only the file knows how it wants to be answered, and nothing but tensors and text passes MONAI's batches.
            target = inputs.read_case(inputs.identify_case(files), force=True, names=self.data.channels).target
            labels = output["pred"].as_tensor().cpu().numpy()[0]
            path = target.write(self.output_dir / item["case"], labels, self.data.labels)
            logger.info("%s", path)

    def _tell(self, engine: Engine) -> None:
        if self.data.phantom:
            from medpos.predict.case import PHANTOM

            logger.warning(PHANTOM)


def _meta(image: Any) -> dict[str, Any]:
    meta = image.meta if isinstance(image, MetaTensor) else {}
    if _FILES not in meta:
        raise InputError("the image has lost its metadata on its way through the chain; call set_track_meta(True)")
    return dict(meta)
