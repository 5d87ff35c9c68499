"""Store with a run the properties of the training data that its model needs, so that it can be used without them."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError

from medpos.core.errors import InputError
from medpos.core.files import decode_json, write_json
from medpos.core.labels import Label
from medpos.core.rules import is_finite
from medpos.data.folder import DataFolder
from medpos.data.names import find_name_faults

FILE = "data.json"


@dataclass(frozen=True)
class TrainingData:
    """Describe the properties of a training set that a prediction depends on.

    Args:
        name: name of the data set, such as ``jsrt``.
        phantom: True if the images were computed, not real.
        labels: classes, background first.
        intensity: gray values of the training set: ``low``, ``high`` in file units; ``mean``, ``std`` scaled to [0, 1].
        orientation: directions of the array axes x, y and z, in letters of R, L, A, P, S, I.
        nominal: True if the headers hold the identity, so that the letters don't refer to the patient; x and y then run
            as on a screen, to the right and down.
        channels: names of the image's channels; runs of earlier versions have one.
    """

    name: str
    phantom: bool
    labels: tuple[Label, ...]
    intensity: dict[str, float]
    orientation: str
    nominal: bool
    channels: tuple[str, ...] = ("image",)

    @classmethod
    def from_folder(cls, source: DataFolder) -> "TrainingData":
        """Describe a prepared data set; the orientation is that of the first training image.

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
        """Return the content of ``data.json``."""
        return {**asdict(self), "labels": [label.to_json() for label in self.labels]}

    @classmethod
    def of_json(cls, labels: Any, **content: Any) -> "TrainingData":
        """Reverse :meth:`to_json`; its keys are the keyword arguments.

        Colors may lack their ``#``, which MONAI would take for a separator in a configuration.

        Raises:
            TypeError: a key is missing or unknown.
            ValueError: a value can't be used; all of them may go into the configuration of an export.
        """
        if not (isinstance(labels, list | tuple) and all(isinstance(entry, dict) for entry in labels)):
            raise TypeError(f"expected a list of classes as labels, got {labels!r:.100}")
        channels = content.pop("channels", ["image"])
        if not isinstance(channels, list | tuple):
            raise TypeError(f"expected a list of names as channels, got {channels!r:.100}")
        named = tuple(Label.from_json(**{**e, "colour": f"#{str(e.get('colour')).lstrip('#')}"}) for e in labels)
        data = cls(labels=named, channels=tuple(channels), **content)
        if faults := data._find_faults():
            raise ValueError(faults[0])
        return data

    def _find_faults(self) -> list[str]:
        faults = find_name_faults({**self.to_json(), "channels": list(self.channels)})
        values: Any = self.intensity  # of any type, as it comes from a file
        if not isinstance(values, dict) or not set(values) == {"low", "high", "mean", "std"} == set(_numbers(values)):
            faults.append(f"expected the numbers low, high, mean and std as intensity, got {values!r:.100}")
        if not re.fullmatch("[RLAPSI]{3}", str(self.orientation)):
            faults.append(f"expected three letters of R, L, A, P, S, I as orientation, got {self.orientation!r:.100}")
        if {type(self.phantom), type(self.nominal)} != {bool}:
            faults.append(f"expected true or false as phantom and nominal, got {self.phantom!r}, {self.nominal!r:.100}")
        return faults

    def write(self, folder: Path) -> None:
        """Write ``data.json`` into a run's folder."""
        write_json(folder / FILE, self.to_json())

    @classmethod
    def read(cls, path: Path) -> "TrainingData":
        """Read what :meth:`write` wrote.

        Raises:
            InputError: the file is damaged.
        """
        try:
            content: dict[str, Any] = decode_json(path.read_text(encoding="utf-8"))
            return cls.of_json(**content)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path}: is damaged ({error}); copy it again, or give --dataset-dir") from error


def _numbers(values: dict[str, Any]) -> list[str]:
    return [key for key, value in values.items() if is_finite(value)]
