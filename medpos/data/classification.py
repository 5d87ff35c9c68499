"""Load whole images with one class each, for the pretraining of SUNet on ImageNet.

An item is a dictionary with ``image`` [3, X, Y], ``label``, the index of its class, and ``case``, its path below the
data folder. The network returns logits [N, classes]; the rest of a bundle is as for segmentation.

References:
    O. Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015.
    S. Shah et al., "Stacked U-Nets", 2018, section 6.1 and appendix A; https://arxiv.org/abs/1804.10343.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from medpos.core.colors import PUBLISHED, RGB
from medpos.core.errors import InputError
from medpos.core.labels import Label
from medpos.core.names import find_faults
from medpos.data import imagenet, schema
from medpos.data.conditions import CLEAN, Condition
from medpos.data.schema import SPLITS
from medpos.data.training_data import TrainingData

logger = logging.getLogger(__name__)


class ImageClasses:
    """List the photographs of ImageNet, in one folder per class; the counterpart of :class:`medpos.data.DataFolder`.

    ImageNet's test images have no published classes, so its validation images, on which papers report, serve as
    ``validation`` and as ``test``.

    Args:
        folder: folder with ``train`` and ``val``; see :func:`medpos.data.imagenet.find_images`.

    Attributes:
        name: name of the data set.
        phantom: True if the images are computed, not real.
        labels: classes in the order of their WordNet numbers.
        channels: names of the image's channels.
        intensity: statistics of the pixels: ``low``, ``high`` in file units; ``mean``, ``std`` of ImageNet in [0, 1].

    Raises:
        InputError: a folder is missing or empty, or its name can't be that of a class.
    """

    name = "imagenet"
    channels = RGB

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(f"{folder}: expected a folder with train and val, found none; give another dataset_dir")
        self.phantom = schema.is_phantom(self.folder)
        found = imagenet.find_images(self.folder)
        self._images = dict(zip(SPLITS, (found.train, found.val, found.val), strict=True))
        if faults := find_faults("class", found.classes):
            raise InputError(f"{self.folder}: {faults[0]}; rename the folder of the class")
        self.labels = tuple(Label(n, name, "#000000") for n, name in enumerate(found.classes))
        mean, std = (float(np.mean(values)) for values in PUBLISHED["torchvision"])
        self.intensity = {"low": 0.0, "high": 255.0, "mean": mean, "std": std}

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all names and classes and of the phantom marker; reading all files would take hours."""
        marker = self.folder / schema.PHANTOM_MARKER
        digest = hashlib.sha256(marker.read_bytes() if marker.is_file() else b"")
        for split in SPLITS[:2]:
            for path, label in self._images[split]:
                digest.update(f"{self._case(path)} {label}\n".encode())
        return digest.hexdigest()

    def _case(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def cases(self, split: str, images: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
        """Return the images of one split.

        Args:
            split: ``training``, ``validation`` or ``test``.
            images: number of images to draw; None keeps all.
            seed: random seed of the draw.

        Returns:
            For each image its file, ``image``, the index of its class, ``label``, and its name, ``case``.

        Raises:
            InputError: the split has fewer images.
        """
        found = self._images[split]
        chosen: Sequence[int] = range(len(found))
        if images is not None:
            if not (isinstance(images, int) and 1 <= images <= len(found)):
                raise InputError(
                    f"--train_cases: expected 1 to {len(found)} ({split} images of {self.folder}), got {images!r}; "
                    "give fewer, or leave it out"
                )
            chosen = sorted(np.random.default_rng(seed).permutation(len(found))[:images])
        listed = (found[place] for place in chosen)
        return [{"image": str(path), "label": label, "case": self._case(path)} for path, label in listed]

    @property
    def training_data(self) -> TrainingData:
        """The content of a run's ``data.json``; images are oriented as on a screen."""
        return TrainingData(self.name, self.phantom, self.labels, self.intensity, "RAS", True, self.channels)


class ClassifiedImages(Dataset[dict[str, Any]]):
    """Serve images decoded on access, under one or several test conditions; ImageNet exceeds any memory.

    Args:
        data: images from :meth:`ImageClasses.cases`.
        decode: transform of ``image``, [3, X, Y], to values in [0, 1].
        transform: transform that follows. Its random state depends on the seed, the epoch and the item alone, so that a
            resumed training sees the same images.
        seed: random seed of the transform.

    Attributes:
        epoch: epoch of the training, set by :class:`medpos.data.EpochSampler`.

    Raises:
        InputError: a file isn't an image (on access).
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
        """Serve every image under these conditions from now on, and return the data set."""
        self.conditions = tuple(conditions)
        return self

    def __len__(self) -> int:
        return len(self.data) * len(self.conditions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):  # ends a loop over the data set
            raise IndexError(f"item {index} of {len(self)}")
        which, place = divmod(int(index), len(self.data))
        case = self.data[place]
        image = self.decode({"image": read_rgb(Path(case["image"]))})["image"]
        if isinstance(self.transform, Randomizable):
            state = np.random.SeedSequence([self.seed, self.epoch, int(index)]).generate_state(1)
            self.transform.set_random_state(seed=int(state[0]))
        return self.transform({**case, "image": image, **self.conditions[which].to_item()})


def read_rgb(path: Path) -> Tensor:
    """Read an image as red, green and blue.

    Returns:
        [3, X, Y] float32, 0 to 255.

    Raises:
        InputError: the file can't be read.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path}: can't be read as an image ({error}); unpack it again") from error
    return torch.from_numpy(pixels.transpose(2, 1, 0).copy())
