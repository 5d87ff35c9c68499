"""Change an image in ways that leave its content, and undo them on the prediction: test-time augmentation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from medpos.core.errors import InputError
from medpos.core.labels import Label

KINDS = ("flip", "shift", "noise")
SHIFT = 4  # pixels of the network's grid, in the four directions
NOISE = 0.02  # standard deviation, as a share of the gray range
_NOISES = 2  # images with noise
_SIDES = ("right_", "left_")
Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class View:
    """Hold one way of looking at an image.

    Args:
        change: function from a decoded image [C, x, y(, z)] in [0, 1] to that which the network sees.
        undo: function from the probabilities [classes, x, y(, z)] for it to those for the image.
    """

    change: Change
    undo: Change


def parse_kinds(text: str) -> tuple[str, ...]:
    """Return the kinds of augmentation in a list with commas.

    Args:
        text: kinds of ``KINDS`` with commas between; empty: none.

    Raises:
        InputError: a kind is unknown, or named twice.
    """
    kinds = tuple(text.split(",")) if text else ()
    if not set(kinds) <= set(KINDS) or len(set(kinds)) < len(kinds):
        raise InputError(
            f"--tta: expected flip, shift or noise, or several with commas between, got {text!r}; give such as "
            "flip,noise, or leave it out"
        )
    return kinds


def make_views(kinds: Sequence[str], labels: Sequence[Label]) -> list[View]:
    """Make the views of test-time augmentation, the image as it is first.

    ``flip`` mirrors left and right, and exchanges the classes of the two sides; ``shift`` moves the image by 4 pixels
    of the network's grid in each of four directions, and repeats its border; ``noise`` adds Gaussian noise of 0.02 of
    the gray range, twice, the same in every slice and for every image of a size.

    Args:
        kinds: some of ``KINDS``.
        labels: classes, background first.

    Raises:
        InputError: a class of one side has no counterpart.
    """
    views = [View(_same, _same)]
    if "flip" in kinds:
        order = list(mirror_classes(labels))
        views.append(View(partial(torch.flip, dims=(1,)), lambda found: found.flip(1)[order]))
    if "shift" in kinds:
        for x, y in ((SHIFT, 0), (-SHIFT, 0), (0, SHIFT), (0, -SHIFT)):
            views.append(View(partial(_move, x=x, y=y), partial(_move, x=-x, y=-y)))
    if "noise" in kinds:
        views += [View(partial(_add_noise, seed=seed), _same) for seed in range(_NOISES)]
    return views


def _same(values: torch.Tensor) -> torch.Tensor:
    return values


def _move(values: torch.Tensor, x: int, y: int) -> torch.Tensor:
    """Move an image [C, x, y(, z)] by some pixels; what comes into the frame repeats its border."""
    planes = values[..., None] if values.ndim == 3 else values
    planes = planes.permute(3, 0, 1, 2)
    padded = functional.pad(planes, (max(y, 0), max(-y, 0), max(x, 0), max(-x, 0)), mode="replicate")
    rows, columns = planes.shape[2:]
    moved = padded[:, :, max(-x, 0) :, max(-y, 0) :][:, :, :rows, :columns].permute(1, 2, 3, 0)
    return (moved[..., 0] if values.ndim == 3 else moved).contiguous()


def _add_noise(image: torch.Tensor, seed: int) -> torch.Tensor:
    """Add noise that depends on the size of the image alone, so that parts of a volume get the same."""
    generator = torch.Generator().manual_seed(seed)
    noise = NOISE * torch.randn(image.shape[:3], generator=generator)
    return image + (noise if image.ndim == 3 else noise[..., None]).to(image)


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
            raise InputError(f"--tta flip: expected a class {other} opposite to {name}, got none; leave flip out")
        result.append(names.index(other))
    return tuple(result)
