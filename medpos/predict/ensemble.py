"""Average the predictions of several runs, of changed images, and of a network with dropout."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from medpos.core.errors import InputError
from medpos.core.labels import Label
from medpos.io.scan import Array
from medpos.predict.label_maps import resample, undo_centering
from medpos.predict.model import Model
from medpos.predict.views import make_views
from medpos.trust.evidence import Evidence, Floats
from medpos.trust.light import TrafficLight
from medpos.trust.quality import Fit
from medpos.trust.signs import Signs
from medpos.trust.temperature import KINDS, scale
from medpos.trust.uncertainty import entropy, mutual_information

_PARTS = 4  # predictions of an image that count as one copy of it


@dataclass(frozen=True, eq=False)
class Prediction:
    """Hold the prediction of an image, on the grid of the first model without its padding.

    Args:
        for_labels: mean probabilities [classes, x, y(, z)] from which the labels follow. They are those below, unless
            one temperature for all classes corrects these: it keeps the labels.
        probabilities: mean probabilities [classes, x, y(, z)], corrected by the temperatures if there are any.
        parts: the predictions that were averaged, each like the average.
    """

    for_labels: torch.Tensor
    probabilities: torch.Tensor
    parts: list[torch.Tensor]

    def cut(self, slices: slice) -> "Prediction":
        """Return some slices of a volume."""
        return Prediction(
            self.for_labels[..., slices], self.probabilities[..., slices], [part[..., slices] for part in self.parts]
        )

    def uncertainty(self) -> torch.Tensor:
        """Compute entropy and, of several predictions, mutual information [1 or 2, x, y(, z)], each 0 to 1."""
        whole = entropy(self.probabilities)
        return torch.stack([whole, mutual_information(whole, self.parts)] if len(self.parts) > 1 else [whole])


@dataclass(frozen=True)
class Ensemble:
    """Average the probabilities of one or several models.

    Args:
        models: models trained on the same classes.
        tta: kinds of test-time augmentation, of :data:`medpos.predict.views.KINDS`, whose predictions are averaged too.
        calibrated: temperatures that ``medpos calibrate`` has stored in the runs and that correct the probabilities of
            each model before the mean: ``one`` for all classes, ``class`` for one for each class; empty: none.
        dropout: number of passes with dropout that are averaged in place of one without; 0: none.

    Raises:
        InputError: a model classifies whole images; classes, orientation or images of the models differ; two have the
            same weights; a class of one side has no counterpart; or a network has no dropout.
    """

    models: Sequence[Model]
    tta: Sequence[str] = ()
    calibrated: str = ""
    dropout: int = 0

    def __post_init__(self) -> None:
        if self.calibrated not in ("", *KINDS):
            raise InputError(f"--calibrated: expected {' or '.join(KINDS)}, got {self.calibrated!r}; give one of these")
        first = self.models[0]
        for model in self.models:
            model.check_segments()
            if self.dropout:
                model.check_dropout()
        for other in self.models[1:]:
            for name in ("labels", "channels", "orientation", "nominal"):
                mine, theirs = getattr(first.data, name), getattr(other.data, name)
                if mine != theirs:
                    raise InputError(
                        f"--member {other.run}: expected {name} {_words(mine)}, as {first.run} has, got "
                        f"{_words(theirs)}; leave it out"
                    )
            if first.is_flat != other.is_flat or first.is_absolute != other.is_absolute:
                raise InputError(f"--member {other.run}: expected a run on images like {first.run}; leave it out")
        runs: dict[str, Any] = {}
        for model in self.models:
            if (same := runs.setdefault(model.identity, model.run)) is not model.run:
                raise InputError(
                    f"--member {model.run}: expected other weights than those of {same}, got the same, whose agreement "
                    "tells nothing; leave it out"
                )
        make_views(self.tta, self.labels)
        _ = self.temperatures, self.light, self.dice_fit  # which may be missing or damaged

    @property
    def light(self) -> TrafficLight | None:
        """Detectors of strange images of the first model; None if it has none."""
        return self.models[0].light

    @property
    def settings(self) -> dict[str, Any]:
        """What the label map depends on besides the first model: weights of the others, augmentation, dropout."""
        others = sorted(model.identity for model in self.models[1:])
        return {"members": others, "tta": ",".join(sorted(self.tta)), "dropout": self.dropout}

    @cached_property
    def dice_fit(self) -> Fit | None:
        """Curves for the predicted Dice of this ensemble; None if ``medpos calibrate`` hasn't fitted any to it.

        A temperature for each class changes label maps, for which there are none.
        """
        known = self.models[0].dice_predictor
        return None if known is None or self.calibrated == "class" else known.find(self.settings)

    def begin_signs(self) -> Signs:
        """Return an empty collection for the signs of quality of a case."""
        return Signs(len(self.labels) - 1, self.counts)

    def predict_dice(self, signs: Signs) -> Mapping[str, Floats]:
        """Predict the Dice of each organ, [organs], by ``all`` predictors together and by each; empty without a fit.

        Args:
            signs: signs of the case, complete.
        """
        known = self.models[0].dice_predictor
        if known is None or self.dice_fit is None:
            return {}
        return self.dice_fit.predict(known.measure(signs), known.organs)

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
    def counts(self) -> tuple[int, int, int]:
        """Numbers of models, of views of an image, and of passes, whose predictions are averaged."""
        return len(self.models), len(make_views(self.tta, self.labels)), max(1, self.dropout)

    @property
    def count(self) -> int:
        """Number of predictions of an image that are averaged."""
        return math.prod(self.counts)

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
        classes = len(self.labels) * -(-self.count // _PARTS)
        channels = classes + max(int(model.slices) * len(model.data.channels) for model in self.models)
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
        return self.segment(decoded, sizes).probabilities

    def segment(
        self,
        decoded: Sequence[torch.Tensor],
        sizes: Sequence[tuple[int, int] | None] = (),
        evidence: Evidence | None = None,
    ) -> Prediction:
        """Predict an image; the other arguments are those of :meth:`probabilities`.

        Args:
            evidence: collection that gets what the detectors of :attr:`light` look at.
        """
        parts: list[torch.Tensor] = []
        corrected: list[torch.Tensor] = []
        for n, (model, image, size) in enumerate(
            zip(self.models, decoded, sizes or [None] * len(decoded), strict=True)
        ):
            for found in self._of_model(model, image, None if n else evidence):
                part = found if size is None else undo_centering(found, size)
                parts.append(part)
                corrected += [scale(part, self.temperatures[n])] if self.calibrated else []
        parts = _on_one_grid(parts)
        mean = _mean(parts)
        if not self.calibrated:
            return Prediction(mean, mean, parts)
        corrected = _on_one_grid(corrected)
        calibrated = _mean(corrected)
        return Prediction(mean if self.calibrated == "one" else calibrated, calibrated, corrected)

    def _of_model(self, model: Model, image: torch.Tensor, evidence: Evidence | None) -> Iterator[torch.Tensor]:
        """Yield the probabilities of a model for each view of an image, and each pass with dropout."""
        if self.dropout and evidence is not None:
            model.probabilities(image, evidence)  # detectors know the network without dropout
        for n, view in enumerate(make_views(self.tta, self.labels)):
            seen = view.change(image)
            passes = (
                (model.sample(seen, number) for number in range(self.dropout))
                if self.dropout
                else (model.probabilities(seen, None if n else evidence),)  # the first view is the image as it is
            )
            yield from map(view.undo, passes)


def _on_one_grid(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Resample probabilities to the grid of the first."""
    plane = parts[0].shape[1:3]
    return [part if part.shape[1:3] == plane else resample(part, plane) for part in parts]


def _mean(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(list(parts)).mean(dim=0)


def _words(facts: Any) -> str:
    """Write facts of training data for a message: of classes their names."""
    if isinstance(facts, tuple) and all(isinstance(fact, Label) for fact in facts):
        return ", ".join(label.name for label in facts[1:])
    return str(facts)
