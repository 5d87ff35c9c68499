"""What a model must know of the data it was trained on, kept with its run so that it can be used without them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError

from medpos.core.errors import InputError
from medpos.core.files import write_json
from medpos.core.labels import Label
from medpos.data.folder import DataFolder

FILE = "data.json"


@dataclass(frozen=True)
class TrainingData:
    """The part of a prepared data set that a prediction rests on.

    Args:
        name: of the data set, such as ``jsrt``.
        phantom: the images were computed, not real.
        labels: the classes, background first.
        intensity: grey values of the training set: ``low``, ``high`` in file units; ``mean``, ``std`` scaled to [0, 1].
        orientation: where the axes x, y and z of the arrays lead, in letters of R, L, A, P, S, I.
        nominal: the headers hold the identity, so the letters are none of the patient's; x and y then run as on a
            screen, to the right and down.
        channels: names of the image's channels; runs of earlier versions know of one alone.
    """

    name: str
    phantom: bool
    labels: tuple[Label, ...]
    intensity: dict[str, float]
    orientation: str
    nominal: bool
    channels: tuple[str, ...] = ("image",)

    @classmethod
    def of(cls, source: DataFolder) -> "TrainingData":
        """Describe a prepared data set; the first training image stands for the orientation of all.

        Raises:
            InputError: the image can't be read.
        """
        path = source.cases("training")[0]["image"]
        try:
            affine = nibabel.load(path).affine
        except (OSError, ImageFileError) as error:
            raise InputError(f"{path}: can't be read ({error}); prepare the data again") from error
        directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        nominal = bool(np.allclose(directions, np.eye(3)) and not affine[:3, 3].any())
        letters = "".join(nibabel.aff2axcodes(affine))
        return cls(
            source.name, source.phantom, source.labels, source.intensity, letters, nominal, tuple(source.channels)
        )

    def to_json(self) -> dict[str, Any]:
        """What ``data.json`` holds."""
        return {**asdict(self), "labels": [label.to_json() for label in self.labels]}

    @classmethod
    def of_json(cls, labels: Sequence[dict[str, Any]], **content: Any) -> "TrainingData":
        """The reverse of :meth:`to_json`, whose content are the keywords; colours also without their ``#``, which MONAI
        takes for a separator in any text of a configuration.

        Raises:
            TypeError: a key is missing or unknown.
        """
        named = tuple(Label.from_json(**{**e, "colour": f"#{e['colour'].lstrip('#')}"}) for e in labels)
        channels = tuple(str(name) for name in content.pop("channels", ["image"]))
        return cls(labels=named, channels=channels, **content)

    def write(self, folder: Path) -> None:
        """Write ``data.json`` into a run's folder."""
        write_json(folder / FILE, self.to_json())

    @classmethod
    def read(cls, path: Path) -> "TrainingData":
        """Read what :meth:`write` wrote.

        Raises:
            InputError: it is damaged.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls.of_json(**content)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path}: is damaged ({error}); copy it again, or give --dataset-dir") from error
