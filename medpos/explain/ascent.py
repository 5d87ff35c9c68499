"""The image that a unit of a network answers to most, by gradient ascent from noise.

References:
    K. Simonyan, A. Vedaldi, A. Zisserman, "Deep Inside Convolutional Networks", ICLR workshop 2014, section 2: ascent
    with an L2 penalty on the image.
    J. Yosinski et al., "Understanding Neural Networks Through Deep Visualization", ICML workshop 2015, section 3.1: L2
    decay and Gaussian blur between the steps.
    A. Mordvintsev, C. Olah, M. Tyka, "Inceptionism", 2015: jitter, the image shifted at random before every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from medpos.explain.layers import features_of

SLOPE = 0.1  # of the rectifications' gradient below 0, while a unit is silent
RECTIFICATIONS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
GOALS = {"mean": "mean of the channel", "centre": "its centre pixel"}


@dataclass(frozen=True)
class Settings:
    """How to climb.

    Args:
        steps: of the ascent.
        rate: how far a step moves the pixels, root mean square, in standard deviations of an image.
        decay: part of the image that each step takes away.
        blur: standard deviation of the Gaussian, px; 0 for none.
        blur_every: steps from one blur to the next.
        jitter: the image is shifted by up to so many px before each step, and back behind it.
        noise: standard deviation of what the ascent begins with, in those of an image.
        seed: of noise and jitter.
    """

    steps: int = 100
    rate: float = 0.1
    decay: float = 0.02
    blur: float = 0.5
    blur_every: int = 4
    jitter: int = 4
    noise: float = 0.1
    seed: int = 0

    def unregularised(self) -> "Settings":
        """The same without decay, blur and jitter."""
        return Settings(self.steps, self.rate, 0.0, 0.0, self.blur_every, 0, self.noise, self.seed)


@dataclass(frozen=True, eq=False)
class Climbed:
    """What an ascent found.

    Args:
        image: [C, X, Y], as the network sees it.
        rise: the unit's activation before each step, of the image as the jitter shifted it, and at the end, where it
            lies as it is; the first step has no jitter.
    """

    image: Tensor
    rise: list[float]


def ascend(
    network: nn.Module,
    layer: str,
    unit: int,
    start: Tensor,
    free: Tensor,
    goal: str = "mean",
    settings: Settings | None = None,
    scale: float = 1.0,
) -> Climbed:
    """Changes an image until a unit answers strongly.

    A unit that is silent has no gradient; until it wakes, the rectifications let a tenth of what is below 0 pass.

    Args:
        network: in evaluation mode.
        layer: a name of :func:`medpos.explain.layers.layers_of`.
        unit: channel of the layer, from 0.
        start: [C, X, Y]; gives the channels that aren't free, such as the position.
        free: [C], bool: the channels that begin as noise and change.
        goal: what is maximised: ``"mean"`` or ``"centre"``, of the channel.
        settings: how to climb.
        scale: standard deviation of an image as the network gets it; 1 where it is standardised.

    Raises:
        InputError: there is no such layer.
    """
    settings = settings or Settings()
    generator = torch.Generator().manual_seed(settings.seed)
    image, rise = start.clone(), []
    image[free] = settings.noise * scale * torch.randn(start[free].shape, generator=generator).to(image)
    for step in range(settings.steps):
        most = settings.jitter if step else 0  # the rise begins with the noise itself
        shift = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
        value, gradient = _gradient(network, layer, unit, _shifted(image, free, shift), goal)
        rise.append(value)
        back = gradient[free].roll((-shift[0], -shift[1]), (1, 2))
        moved = image[free] + settings.rate * scale * back / back.square().mean().sqrt().clamp(min=1e-12)
        moved = moved * (1 - settings.decay)
        blurs = settings.blur and (step + 1) % settings.blur_every == 0
        image[free] = _blurred(moved, settings.blur) if blurs else moved
    with torch.no_grad():
        end = _of_unit(features_of(network, layer, image[None]), unit, goal)
    return Climbed(image, [*rise, float(end)])


def _gradient(network: nn.Module, layer: str, unit: int, image: Tensor, goal: str) -> tuple[float, Tensor]:
    given = image[None].clone().requires_grad_()
    with torch.enable_grad():
        value = _of_unit(features_of(network, layer, given), unit, goal)
        (gradient,) = torch.autograd.grad(value, given)
        if not gradient.any():
            with _Leaky():
                (gradient,) = torch.autograd.grad(_of_unit(features_of(network, layer, given), unit, goal), given)
    return float(value.detach()), gradient[0]


class _Leaky(TorchFunctionMode):
    """Lets a part of what is below 0 pass every rectification inside."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in RECTIFICATIONS:
            return F.leaky_relu(args[0], SLOPE)
        return func(*args, **(kwargs or {}))


def _of_unit(features: Tensor, unit: int, goal: str) -> Tensor:
    channel = features[0, unit]
    return channel.mean() if goal == "mean" else channel[channel.shape[0] // 2, channel.shape[1] // 2]


def _shifted(image: Tensor, free: Tensor, shift: list[int]) -> Tensor:
    """Only the free channels: the position stays where it is."""
    moved = image.clone()
    moved[free] = image[free].roll((shift[0], shift[1]), (1, 2))
    return moved


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Of [C, X, Y], the edge pixels repeated outwards."""
    done = ndimage.gaussian_filter(image.cpu().numpy(), (0, sigma, sigma), mode="nearest")
    return torch.from_numpy(done).to(image)
