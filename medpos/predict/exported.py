"""Provide the transforms and the handler of an exported bundle's ``configs/inference.json``.

Any program that runs MONAI bundles can use them and gets the label maps of ``medpos predict``: reading, writing,
orientation and resampling are those of :mod:`medpos.predict`, and all that they need is in the image's metadata.
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
from medpos.io.walk import LeftOut
from medpos.predict import inputs
from medpos.predict.label_maps import compute_label_map, undo_centering
from medpos.predict.loading import ImageRequirements, load_image
from medpos.predict.orientation import Orientation
from medpos.transforms.spatial.resampled import RESAMPLED_SIZE

logger = logging.getLogger(__name__)

Item = dict[Hashable, Any]
_FILES, _ORDER, _FLIPS = "medpos_files", "medpos_order", "medpos_flips"


def list_cases(dataset_dir: str, output_dir: str, channels: Sequence[str] = ("image",)) -> list[dict[str, Any]]:
    """List the cases of a folder as items of a MONAI ``Dataset``.

    Args:
        dataset_dir: folder, file, glob or list of files.
        output_dir: folder of the results; never read.
        channels: names of the network's channels.

    Returns:
        An item for each case: ``image``, its file names, and ``case``, its name.

    Raises:
        InputError: there is nothing that can be read.
    """
    left_out = LeftOut()
    found = inputs.find_cases([str(dataset_dir)], Path(output_dir), channels, left_out=left_out)
    for line in left_out.describe():
        logger.warning("left out: %s", line)
    return [{"image": [str(path) for path in source.files], "case": source.name} for source in found]


class LoadOrientedImage:
    """Load an image of any format of :data:`medpos.predict.inputs.FORMATS` in training orientation and units.

    The item's ``key`` names a file, the files of a series, or a file for each channel; it is replaced by a
    ``MetaTensor`` [C, X, Y, Z], float32. Its metadata hold ``original_affine`` and ``spatial_shape`` of the file, and
    the file's axes in training orientation, for :class:`RestoreImageGrid`. The item gets ``spacing_mm``, the spacing
    along X, Y and Z in mm, where the file states it.

    Args:
        data: description of the training data.
        is_flat: whether the network takes single images and no volumes.
        is_absolute: whether the network takes gray values in the units of the training set.
        key: key of the image in an item.

    Raises:
        InputError: a file can't be used; raised by a call.
    """

    def __init__(self, data: TrainingData, is_flat: bool, is_absolute: bool, key: str = "image") -> None:
        self.requirements = ImageRequirements(data, is_flat, is_absolute)
        self.key = key

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        """Return the item with its image loaded."""
        given = item[self.key]
        files = [str(given)] if isinstance(given, str | Path) else [str(path) for path in given]
        source = inputs.identify_case(files)
        found = load_image(source, self.requirements)
        for note in found.notes:
            logger.warning("%s: %s", source.title, note)
        affine = torch.from_numpy(found.scan.target.affine)
        meta = {
            "filename_or_obj": files[0],
            "original_affine": affine,
            "spatial_shape": np.array(found.scan.values.shape[:3]),  # a NumPy array, as from MONAI's own readers
            _FILES: json.dumps(files),
            _ORDER: torch.tensor(found.orientation.order),
            _FLIPS: torch.tensor(found.orientation.flips),
        }
        first = np.moveaxis(found.values, 3, 0) if found.values.ndim == 4 else found.values[None]
        values = torch.from_numpy(first.copy())
        loaded: Item = {**item, self.key: MetaTensor(values, affine=affine, meta=meta)}
        if found.spacing_mm is not None:  # batches of MONAI can't hold None
            loaded["spacing_mm"] = torch.tensor(found.spacing_mm)
        return loaded


class RestoreImageGrid:
    """Turn logits on the network's grid into a label map on the grid of the image's file.

    Args:
        key: key of the logits [classes, x, y] or [classes, x, y, z]; replaced by a ``MetaTensor`` [1, X, Y, Z], uint8.
        image_key: key of the image that :class:`LoadOrientedImage` loaded.

    Raises:
        InputError: the transforms between have lost the image's metadata; raised by a call.
    """

    def __init__(self, key: str = "pred", image_key: str = "image") -> None:
        self.key = key
        self.image_key = image_key

    def __call__(self, item: Mapping[Hashable, Any]) -> Item:
        """Return the item with its prediction on the image's grid."""
        meta = _meta(item[self.image_key])
        order, flips, shape = (meta[name].tolist() for name in (_ORDER, _FLIPS, "spatial_shape"))
        logits = torch.as_tensor(item[self.key]).detach()
        plain = logits.as_tensor() if isinstance(logits, MetaTensor) else logits
        probabilities = plain[None].float().softmax(dim=1)[0].cpu()
        if RESAMPLED_SIZE in meta:
            probabilities = undo_centering(probabilities, meta[RESAMPLED_SIZE].tolist())
        oriented = compute_label_map(probabilities, [shape[axis] for axis in order])
        x, y, z = order
        own = Orientation((x, y, z), (bool(flips[0]), bool(flips[1]))).undo(oriented)
        labels = torch.from_numpy(own.copy())[None]
        return {**item, self.key: MetaTensor(labels, affine=meta["original_affine"], meta=dict(meta))}


class SavePredictions:
    """Write every label map to one folder, in the format that fits the image: NIfTI, DICOM SEG or PNG.

    Args:
        output_dir: folder of the label maps.
        data: description of the training data.
    """

    def __init__(self, output_dir: str, data: TrainingData) -> None:
        self.output_dir = Path(output_dir)
        self.data = data

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator, to run after its postprocessing.

        Args:
            engine: evaluator with batches of items and outputs of label maps.
        """
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._warn_of_phantoms)

    def _write(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            files = json.loads(_meta(item["image"])[_FILES])
            # The file is read again for its geometry: MONAI's batches pass on tensors and text only.
            target = inputs.read_case(inputs.identify_case(files), force=True, channels=self.data.channels).target
            labels = output["pred"].as_tensor().cpu().numpy()[0]
            path = target.write(self.output_dir / item["case"], labels, self.data.labels)
            logger.info("%s", path)

    def _warn_of_phantoms(self, engine: Engine) -> None:
        if self.data.phantom:
            from medpos.predict.case import PHANTOM

            logger.warning(PHANTOM)


def _meta(image: Any) -> dict[str, Any]:
    meta = image.meta if isinstance(image, MetaTensor) else {}
    if _FILES not in meta:
        raise InputError("expected an image with metadata, got one without; call monai.data.set_track_meta(True) first")
    return dict(meta)
