"""Average the predictions of several runs, and of the mirrored image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from medpos.core.errors import InputError
from medpos.core.labels import Label
from medpos.io.scan import Array
from medpos.predict.label_maps import resample, undo_centering
from medpos.predict.model import Model
from medpos.trust.temperature import KINDS, scale

_SIDES = ("right_", "left_")


@dataclass(frozen=True)
class Ensemble:
    """Average the probabilities of one or several models.

    Args:
        models: models trained on the same classes.
        flip: whether to average with the prediction for the mirrored image, mirrored back and with sides exchanged.
        calibrated: temperatures that ``medpos calibrate`` has stored in the runs and that correct the probabilities of
            each model before the mean: ``one`` for all classes, ``class`` for one for each class; empty: none.

    Raises:
        InputError: a model classifies whole images; classes, orientation or images of the models differ; or a class of
            one side has no counterpart.
    """

    models: Sequence[Model]
    flip: bool = False
    calibrated: str = ""

    def __post_init__(self) -> None:
        if self.calibrated not in ("", *KINDS):
            raise InputError(f"--calibrated: expected {' or '.join(KINDS)}, got {self.calibrated!r}; give one of these")
        first = self.models[0]
        for model in self.models:
            model.check_segments()
        for other in self.models[1:]:
            for name in ("labels", "channels", "orientation", "nominal"):
                mine, theirs = getattr(first.data, name), getattr(other.data, name)
                if mine != theirs:
                    raise InputError(
                        f"--member {other.run}: expected {name} {mine}, as {first.run} has, got {theirs}; leave it out"
                    )
            if first.is_flat != other.is_flat or first.is_absolute != other.is_absolute:
                raise InputError(f"--member {other.run}: expected a run on images like {first.run}; leave it out")
        if self.flip:
            mirror_classes(self.labels)
        _ = self.temperatures  # which may be missing

    @cached_property
    def temperatures(self) -> list[list[float]]:
        """Temperatures of each model; empty where the probabilities aren't corrected."""
        return [model.find_temperatures(self.calibrated) for model in self.models] if self.calibrated else []

    @property
    def labels(self) -> tuple[Label, ...]:
        """Classes, background first."""
        return self.models[0].data.labels

    @property
    def phantom(self) -> bool:
        """Whether a model was trained on phantoms."""
        return any(model.data.phantom for model in self.models)

    @property
    def takes_slices(self) -> bool:
        """Whether every model gives each slice of a volume the same result in any part of it."""
        return all(model.takes_slices for model in self.models)

    @property
    def margin(self) -> int:
        """Number of neighbors on each side that a slice's result depends on."""
        return max(int(model.slices) // 2 for model in self.models)

    def find_sizes(self, plane: Sequence[int], spacing_mm: Sequence[float] | None) -> list[tuple[int, int] | None]:
        """Return for each model X and Y of an image at its pixel size; None for a model that resizes images.

        Args:
            plane: X and Y of the image in pixels.
            spacing_mm: spacing of the image along X and Y in mm; None: unknown.

        Raises:
            InputError: a model needs a pixel size, and that of the image is unknown or far larger.
        """
        return [model.find_size(plane, spacing_mm) for model in self.models]

    def find_cropped(self, sizes: Sequence[tuple[int, int] | None]) -> list[str]:
        """Describe which part of an image the networks see, a line for each that doesn't see all of it.

        Args:
            sizes: X and Y of the image at the pixel size of each model, of :meth:`find_sizes`.
        """
        lines = []
        for model, size in zip(self.models, sizes, strict=True):
            if size is not None and model.plane is not None and max(size) > min(model.plane):
                seen, all_of_it = (" x ".join(map(str, sides)) for sides in (model.plane, size))
                mm = " x ".join(f"{side:g}" for side in model.pixdim or ())
                lines.append(f"the network sees the middle {seen} of {all_of_it} px of {mm} mm; the rest is background")
        return list(dict.fromkeys(lines))

    def count_values(self, plane: Sequence[int], sizes: Sequence[tuple[int, int] | None] = ()) -> int:
        """Return how many values a slice of X and Y pixels takes at most, on its own or a network's grid.

        Args:
            plane: X and Y of the image in pixels.
            sizes: X and Y of the image at the pixel size of each model, of :meth:`find_sizes`.
        """
        grids = [*(model.plane or plane for model in self.models), *(size for size in sizes if size is not None)]
        channels = len(self.labels) + max(int(model.slices) * len(model.data.channels) for model in self.models)
        return channels * max(int(np.prod(grid)) for grid in [plane, *grids])

    def decode(self, values: Array, spacing_mm: Sequence[float] | None = None) -> list[torch.Tensor]:
        """Decode an image [X, Y, Z(, C)] with this spacing in mm for each model, on its own grid."""
        return [model.decode(values, spacing_mm) for model in self.models]

    def probabilities(
        self, decoded: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int] | None] = ()
    ) -> torch.Tensor:
        """Compute the mean probabilities, corrected by the temperatures if there are any.

        Args:
            decoded: decoded image of each model.
            sizes: X and Y of the image at the pixel size of each model, of :meth:`find_sizes`.

        Returns:
            Probabilities [classes, x, y(, z)] of the whole image, on the grid of the first model without its padding.
        """
        return self.segment(decoded, sizes)[1]

    def segment(
        self, decoded: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int] | None] = ()
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the mean probabilities from which the labels follow, and those of :meth:`probabilities`.

        They are the same tensor, unless one temperature for all classes corrects the latter: it keeps the labels.
        """
        parts: list[torch.Tensor] = []
        corrected: list[torch.Tensor] = []
        for n, (model, image, size) in enumerate(
            zip(self.models, decoded, sizes or [None] * len(decoded), strict=True)
        ):
            for found in self._of_model(model, image):
                part = found if size is None else undo_centering(found, size)
                parts.append(part)
                corrected += [scale(part, self.temperatures[n])] if self.calibrated else []
        mean = _mean(parts)
        if not self.calibrated:
            return mean, mean
        calibrated = _mean(corrected)
        return (mean if self.calibrated == "one" else calibrated), calibrated

    def _of_model(self, model: Model, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute the probabilities of a model for an image, and for the mirrored one."""
        found = [model.probabilities(image)]
        if self.flip:
            turned = model.probabilities(image.flip(1)).flip(1)
            found.append(turned[list(mirror_classes(self.labels))])
        return found


def _mean(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Average probabilities on the grid of the first."""
    plane = parts[0].shape[1:3]
    same = [part if part.shape[1:3] == plane else resample(part, plane) for part in parts]
    return same[0] if len(same) == 1 else torch.stack(same).mean(dim=0)


def mirror_classes(labels: Sequence[Label]) -> tuple[int, ...]:
    """Return the index of each class's counterpart on the other side; its own index for a class without side.

    Args:
        labels: classes, background first.

    Raises:
        InputError: a class of one side has no counterpart.
    """
    names = [label.name for label in labels]
    result = []
    for name in names:
        side = next((side for side in _SIDES if name.startswith(side)), None)
        other = name if side is None else _SIDES[1 - _SIDES.index(side)] + name[len(side) :]
        if other not in names:
            raise InputError(f"--tta flip: expected a class {other} opposite to {name}, got none; leave --tta out")
        result.append(names.index(other))
    return tuple(result)
