"""Classification of whole images, for the pretraining of SUNet on ImageNet.

An item is a dictionary with ``image`` [3, X, Y], ``label``, the index of its class, and ``case``, its file below the
data folder. Everything but these parts, a loss and a network with logits [N, classes] is as for segmentation.

References:
    O. Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015; paper 001, section 6.1 and
    appendix A. Crops: C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6, which the schemes of
    ResNet and DenseNet in PyTorch follow. SUNet's authors vary brightness, contrast, saturation and lighting too, which
    the paper doesn't mention; it is left out.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from ignite.engine import Engine, Events
from monai.transforms import Randomizable
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import Dataset

from medpos.errors import InputError
from medpos.files import write_json
from medpos.results import write_csv
from medpos.runs import RunFolder, is_main_process
from medpos.transforms.lift import Item, Lifted
from medpos.transforms.randomised import RandLifted

SUFFIXES = {".jpeg", ".jpg", ".png"}
CROP_AREA, CROP_ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
TRIES = 10
# Of ILSVRC 2012: training, validation, classes.
IMAGENET_COUNTS = (1_281_167, 50_000, 1000)


class ImageFolders(Dataset[dict[str, Any]]):
    """Images in one folder a class, as ``train/n01440764/*.JPEG`` of ImageNet; the sorted folders are the classes.

    Args:
        folder: ``train`` or ``val`` of the data set; the published validation images are to be sorted into classes.
        transform: applied at every access. What is random in it rests on seed, epoch and item.
        seed: of the transform.

    Attributes:
        classes: names of the folders.
        epoch: of the training, which :class:`medpos.data.EpochSampler` tells.

    Raises:
        InputError: no such folder, no class, or a class without images; on access, a file that is no image.
    """

    def __init__(
        self, folder: str | Path, transform: Callable[[dict[str, Any]], dict[str, Any]], seed: int = 0
    ) -> None:
        self.folder, self.transform, self.seed, self.epoch = Path(folder), transform, seed, 0
        if not self.folder.is_dir():
            raise InputError(f"{folder}: there is no such folder; needed is one with a folder of images for each class")
        places = sorted(place for place in self.folder.iterdir() if place.is_dir())
        self.classes = [place.name for place in places]
        self.files: list[tuple[Path, int]] = []
        for label, place in enumerate(places):
            found = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
            if not found:
                raise InputError(f"{place}: holds no image; needed are {', '.join(sorted(SUFFIXES))}")
            self.files += [(path, label) for path in found]
        if not self.classes:
            raise InputError(f"{folder}: holds no folder; needed is one for each class, such as n01440764")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, label = self.files[index]
        if isinstance(self.transform, Randomizable):
            state = np.random.SeedSequence([self.seed, self.epoch, int(index)]).generate_state(1)
            self.transform.set_random_state(seed=int(state[0]))
        item = {"image": read_rgb(path), "label": label, "case": path.relative_to(self.folder).as_posix()}
        return self.transform(item)


def read_rgb(path: Path) -> Tensor:
    """Any image as red, green and blue in [0, 1], [3, X, Y].

    Raises:
        InputError: the file can't be read.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path}: can't be read as an image ({error}); copy it again, or take it out") from error
    return torch.from_numpy(pixels.transpose(2, 1, 0) / 255)


def resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """[C, X', Y'] of [C, X, Y], bilinear, low-passed where it shrinks, as Pillow does it."""
    return F.interpolate(image[None], tuple(size), mode="bilinear", antialias=True)[0]


class ResizeShortSide(Lifted):
    """Resizes images so that the shorter side has ``size`` px.

    Args:
        size: in px, 256 before a central crop of 224.
        keys: entries to resize, [C, X, Y].
    """

    def __init__(self, size: int = 256, keys: str | Sequence[str] = "image") -> None:
        super().__init__(keys)
        self.size = size

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Resizes one entry; the longer side is rounded down."""
        short = min(image.shape[1:])
        return resized(image, [self.size * side // short for side in image.shape[1:]])


class RandResizedCrop(RandLifted):
    """Cuts out a part of random area, shape and place, and resizes it.

    Args:
        size: side of the result in px.
        area: least and largest share of the image, drawn uniformly.
        aspect: least and largest quotient of its sides, drawn uniformly in the logarithm.
        keys: entries to cut, [C, X, Y].
    """

    def __init__(
        self,
        size: int = 224,
        area: Sequence[float] = CROP_AREA,
        aspect: Sequence[float] = CROP_ASPECT,
        keys: str | Sequence[str] = "image",
    ) -> None:
        super().__init__(keys)
        self.size, self.area, self.aspect = size, tuple(area), tuple(aspect)
        self._field = (0, 0, 0, 0)

    def randomize(self, data: Item) -> None:
        """Draws the part; after ten that don't fit, the largest central one of a valid shape."""
        super().randomize(data)
        whole = self.plane(data)
        for _ in range(TRIES):
            share = self.R.uniform(*self.area) * whole[0] * whole[1]
            aspect = math.exp(self.R.uniform(*map(math.log, self.aspect)))
            x, y = round(math.sqrt(share * aspect)), round(math.sqrt(share / aspect))
            if 0 < x <= whole[0] and 0 < y <= whole[1]:
                self._field = (self.R.randint(whole[0] - x + 1), self.R.randint(whole[1] - y + 1), x, y)
                return
        x, y = min(whole[0], round(whole[1] * self.aspect[1])), min(whole[1], round(whole[0] / self.aspect[0]))
        self._field = ((whole[0] - x) // 2, (whole[1] - y) // 2, x, y)

    def apply(self, image: Tensor, item: Item, key: Hashable) -> Tensor:
        """Cuts and resizes one entry."""
        x, y, width, height = self._field
        return resized(image[:, x : x + width, y : y + height], (self.size, self.size))


class TopK:
    """Shares of images whose class is the first, and among the first five; ``key_val_metric`` of a MONAI evaluator.

    ``engine.state.metrics`` holds ``top1`` under the name of the key metric, and ``top5``.

    Args:
        run: whose folder gets ``predictions.csv``, a row an image with the rank of its class, 1 the first, and
            ``summary.json``, which marks the run as finished; None writes nothing.
        classes: names, for the table.
        bundle: name for the summary.
    """

    columns = ("case", "class", "predicted", "rank")

    def __init__(self, run: RunFolder | None = None, classes: Sequence[str] = (), bundle: str = "") -> None:
        self.run, self.classes, self.bundle = run, list(classes), bundle
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
            best = int(scores.argmax())
            row = {"case": item["case"], "class": self._name(label), "predicted": self._name(best), "rank": rank}
            self.rows.append(row)

    def _name(self, label: int) -> str:
        return self.classes[label] if self.classes else str(label)

    def _finish(self, engine: Engine, name: str) -> None:
        if torch.distributed.is_initialized():
            parts: list[list[dict[str, Any]]] = [[] for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(parts, self.rows)
            unique = {row["case"]: row for part in parts for row in part}  # the sampler's padding may repeat some
            self.rows = [unique[case] for case in sorted(unique)]
        shares = {f"top{k}": sum(row["rank"] <= k for row in self.rows) / len(self.rows) for k in (1, 5)}
        engine.state.metrics |= {name: shares["top1"], "top5": shares["top5"]}
        if self.run is not None and is_main_process():
            write_csv(self.rows, self.run.results / "predictions.csv", self.columns)
            content = {"bundle": self.bundle, "images": len(self.rows), **shares}
            write_json(self.run.results / "summary.json", content)
