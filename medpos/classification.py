"""Classification of whole images, for the pretraining of SUNet on ImageNet.

An item is a dictionary with ``image`` [3, X, Y], ``label``, the index of its class, and ``case``, its file below the
data folder. Everything but these parts, a loss and a network with logits [N, classes] is as for segmentation.

References:
    O. Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015; paper 001, section 6.1 and
    appendix A. SUNet's authors vary brightness, contrast, saturation and lighting too, which the paper doesn't mention;
    it is left out.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.transforms import Randomizable
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from data_prep import imagenet, layout
from medpos.conditions import CLEAN, Condition
from medpos.data import SPLITS
from medpos.errors import InputError
from medpos.files import write_json
from medpos.handlers.metrics import condition_of, gathered
from medpos.labels import Label
from medpos.pretrained import COLOURS
from medpos.results import PHANTOM_NOTE, condition_key, write_csv
from medpos.runs import RunFolder, is_main_process
from medpos.training_data import TrainingData

logger = logging.getLogger(__name__)

KEY_METRIC = "top1"
ROW = ("case", "degradation", "severity", "shift", "class", "predicted", "rank")


def classifies(config: Mapping[str, Any]) -> bool:
    """Whether the configuration of a bundle or a run is of one that classifies whole images."""
    return KEY_METRIC in (config.get("key_metric") or {})


def refusal(what: str | Path) -> InputError:
    """What to say where a run or bundle that segments is needed, and ``what`` classifies."""
    return InputError(
        f"{what}: is a classification of whole images, needed is a segmentation, such as voc_sunet, begun with "
        "'--transplant RUN/model.pt'; results of a classification stand in its summary.json and predictions.csv"
    )


class ImageClasses:
    """Photographs in one folder a class, as ImageNet's; what :class:`medpos.data.DataFolder` is to segmentation.

    ImageNet's test images have no published classes, so the validation images, on which papers report, are ``test``
    too.

    Args:
        folder: holds ``train`` and ``val``; see :func:`data_prep.imagenet.find`.

    Attributes:
        name: of the data set.
        phantom: True where the images are computed, not real.
        labels: the classes, in the order of their WordNet numbers.
        channels: names of the image's channels.
        intensity: of the pixels: ``low``, ``high`` in file units; ``mean``, ``std`` scaled to [0, 1], ImageNet's.

    Raises:
        InputError: the folders aren't there, or aren't as they should be.
    """

    name = "imagenet"
    channels = ("red", "green", "blue")

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(f"{folder}: there is no such folder; give one with train and val as dataset_dir")
        found = imagenet.find(self.folder)
        self._images = dict(zip(SPLITS, (found.train, found.val, found.val), strict=True))
        self.phantom = layout.is_phantom(self.folder)
        self.labels = tuple(Label(n, name, "#000000") for n, name in enumerate(found.classes))
        mean, std = (float(np.mean(values)) for values in COLOURS["torchvision"])
        self.intensity = {"low": 0.0, "high": 255.0, "mean": mean, "std": std}

    @cached_property
    def sha256(self) -> str:
        """Of the names and classes of all images, and of what marks phantoms; reading a million files takes hours."""
        marker = self.folder / "PHANTOM.json"
        digest = hashlib.sha256(marker.read_bytes() if marker.is_file() else b"")
        for split in SPLITS[:2]:
            for path, label in self._images[split]:
                digest.update(f"{self._case(path)} {label}\n".encode())
        return digest.hexdigest()

    def _case(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def cases(self, split: str, images: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
        """The images of one split: each with its file, ``image``, the index of its class, ``label``, and ``case``.

        Args:
            split: ``training``, ``validation`` or ``test``.
            images: keep this many, drawn with ``seed``; None keeps all.
            seed: of the draw.

        Raises:
            InputError: the split has fewer.
        """
        found = self._images[split]
        chosen: Sequence[int] = range(len(found))
        if images is not None:
            if not (isinstance(images, int) and 1 <= images <= len(found)):
                raise InputError(
                    f"train_cases is {images!r}, needed 1 to {len(found)} ({split} images of {self.folder})"
                )
            chosen = sorted(np.random.default_rng(seed).permutation(len(found))[:images])
        listed = (found[place] for place in chosen)
        return [{"image": str(path), "label": label, "case": self._case(path)} for path, label in listed]

    @property
    def training_data(self) -> TrainingData:
        """What ``data.json`` says of them; pictures lie as on a screen."""
        return TrainingData(self.name, self.phantom, self.labels, self.intensity, "RAS", True, self.channels)


class ClassifiedImages(Dataset[dict[str, Any]]):
    """Reads each image when it is asked for, under one condition or many; ImageNet doesn't fit into memory.

    Args:
        data: as :meth:`ImageClasses.cases` gives them.
        decode: transform of ``image``, [3, X, Y], to values in [0, 1].
        transform: applied behind it. What is random in it rests on the seed, the epoch and the item alone, so a resumed
            training sees the same images.
        seed: of the transform.

    Attributes:
        epoch: of the training, which :class:`medpos.data.EpochSampler` tells.

    Raises:
        InputError: on access, a file that is no image; the message names it.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        decode: Callable[[dict[str, Any]], dict[str, Any]],
        transform: Callable[[dict[str, Any]], dict[str, Any]],
        seed: int = 0,
    ) -> None:
        self.data, self.decode, self.transform, self.seed, self.epoch = list(data), decode, transform, seed, 0
        self.conditions: tuple[Condition, ...] = (CLEAN,)

    def under(self, conditions: Sequence[Condition]) -> "ClassifiedImages":
        """Serve every image under these conditions from now on."""
        self.conditions = tuple(conditions)
        return self

    def __len__(self) -> int:
        return len(self.data) * len(self.conditions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):  # which ends a loop over the data set
            raise IndexError(f"item {index} of {len(self)}")
        which, place = divmod(int(index), len(self.data))
        case = self.data[place]
        image = self.decode({"image": read_rgb(Path(case["image"]))})["image"]
        if isinstance(self.transform, Randomizable):
            state = np.random.SeedSequence([self.seed, self.epoch, int(index)]).generate_state(1)
            self.transform.set_random_state(seed=int(state[0]))
        return self.transform({**case, "image": image, **self.conditions[which].to_item()})


def read_rgb(path: Path) -> Tensor:
    """Any image as red, green and blue, 0 to 255, float32 [3, X, Y].

    Raises:
        InputError: the file can't be read.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path}: can't be read as an image ({error}); unpack it again") from error
    return torch.from_numpy(pixels.transpose(2, 1, 0).copy())


class TopK:
    """Shares of images whose class is the first, and among the first five; ``key_val_metric`` of a MONAI evaluator.

    ``engine.state.metrics`` holds ``top1`` under the name of the key metric, and ``top5``; ``engine.state.rows`` an
    entry an image and condition with the rank of its class, 1 the first.

    Args:
        labels: the classes, for their names.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.labels = tuple(labels)
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine, name: str) -> None:
        """Follow the evaluator ``engine``; its items have ``case``, its outputs ``pred`` [classes] and ``label``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish, name)

    def _reset(self, engine: Engine) -> None:
        self.rows = []

    def _update(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            scores, label = torch.as_tensor(output["pred"]).flatten(), int(output["label"])
            # A class as probable as the true one counts as before it, so that equal scores are no success.
            rank = int((scores >= scores[label]).sum()) if bool(scores.isfinite().all()) else len(scores)
            names = (self.labels[n].name for n in (label, int(scores.argmax())))
            condition = condition_of(item)
            place = (condition.degradation, condition.severity, condition.shift)
            self.rows.append(dict(zip(ROW, (item["case"], *place, *names, rank), strict=True)))

    def _finish(self, engine: Engine, name: str) -> None:
        self.rows = engine.state.rows = gathered(self.rows)
        found = shares(self.rows)
        engine.state.metrics |= {name: found["top1"], "top5": found["top5"]}


def shares(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """``top1`` and ``top5``: the share of images whose class is the first, and among the first five."""
    return {f"top{k}": sum(row["rank"] <= k for row in rows) / len(rows) for k in (1, 5)}


class ClassTable:
    """Writes ``predictions.csv``, then ``summary.json``, which marks the run as finished, and logs the shares.

    Args:
        run: where they go.
        source: the data set; phantom data are called so everywhere.
        bundle: name for the title.
    """

    def __init__(self, run: RunFolder, source: ImageClasses, bundle: str) -> None:
        self.run, self.source, self.bundle = run, source, bundle

    def attach(self, engine: Engine) -> None:
        """Write when ``engine``, whose key metric is :class:`TopK`, has gone through the images."""
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        if not is_main_process():
            return
        conditions: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in engine.state.rows:
            conditions.setdefault(condition_key(row), []).append(row)
        entries = [
            {**dict(zip(ROW[1:4], key, strict=True)), "images": len(part), **shares(part)}
            for key, part in conditions.items()
        ]
        write_csv(engine.state.rows, self.run.results / "predictions.csv", ROW)
        about = {"bundle": self.bundle, "data": self.source.name, "phantom": self.source.phantom, "split": SPLITS[1]}
        write_json(self.run.results / "summary.json", {**about, "conditions": entries})
        lines = [f"{self.bundle}: {SPLITS[1]} images of {self.source.name}", *map(_line, entries)]
        note = [PHANTOM_NOTE] if self.source.phantom else []
        logger.info("results\n%s\nresults are in %s", "\n".join([*lines, *note]), self.run.results)


def _line(entry: dict[str, Any]) -> str:
    place = f"{entry['degradation']} {entry['severity']}, shift {entry['shift']} px"
    return f"{place}: top-1 {entry['top1']:.3f}, top-5 {entry['top5']:.3f} of {entry['images']} images"
