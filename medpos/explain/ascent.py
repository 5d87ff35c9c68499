"""Find an image that maximizes the activation of a unit of a network, by gradient ascent from noise.

References:
    K. Simonyan, A. Vedaldi, A. Zisserman, "Deep Inside Convolutional Networks", ICLR workshop 2014, section 2: ascent
    with an L2 penalty on the image.
    J. Yosinski et al., "Understanding Neural Networks Through Deep Visualization", ICML workshop 2015, section 3.1: L2
    decay and Gaussian blur between the steps.
    A. Mordvintsev, C. Olah, M. Tyka, "Inceptionism", 2015: jitter, a random shift of the image before every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from medpos.explain.layers import compute_features

SLOPE = 0.1  # gradient of a ReLU below 0 while the unit is silent
RECTIFICATIONS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
GOALS = {"mean": "mean of the channel", "center": "its center pixel"}


@dataclass(frozen=True)
class AscentSettings:
    """Hold the settings of a gradient ascent.

    Args:
        steps: number of steps.
        rate: root mean square change of the pixels in a step, in standard deviations of an image.
        decay: share of the image that each step removes (L2 decay), in [0, 1].
        blur: standard deviation of the Gaussian blur in pixels; 0 for no blur.
        blur_every: number of steps from one blur to the next.
        jitter: largest shift of the image before each step in pixels; it is undone after the step.
        noise: standard deviation of the initial noise, in standard deviations of an image.
        seed: random seed of noise and jitter.
    """

    steps: int = 100
    rate: float = 0.1
    decay: float = 0.02
    blur: float = 0.5
    blur_every: int = 4
    jitter: int = 4
    noise: float = 0.1
    seed: int = 0

    def unregularized(self) -> "AscentSettings":
        """Return the same settings without decay, blur and jitter."""
        return AscentSettings(self.steps, self.rate, 0.0, 0.0, self.blur_every, 0, self.noise, self.seed)


@dataclass(frozen=True, eq=False)
class AscentResult:
    """Hold the result of a gradient ascent.

    Args:
        image: image [C, X, Y] in the network's units.
        activations: the unit's activation before each step, for the image as jitter shifted it, and after the last
            step, for the image itself; the first step has no jitter.
    """

    image: Tensor
    activations: list[float]


def ascend(
    network: nn.Module,
    layer: str,
    unit: int,
    start: Tensor,
    free: Tensor,
    goal: str = "mean",
    settings: AscentSettings | None = None,
    scale: float = 1.0,
) -> AscentResult:
    """Maximize the activation of a unit by gradient ascent on the image.

    A silent unit has no gradient, so every ReLU leaks a tenth of the values below 0 until the unit is active.

    Args:
        network: network in evaluation mode.
        layer: name of the layer, as :func:`medpos.explain.layers.trace_layers` gives it.
        unit: channel of the layer, from 0.
        start: image [C, X, Y]; its values are kept in the channels that aren't free, such as the position.
        free: channels that begin as noise and change, bool [C].
        goal: quantity to maximize: ``"mean"`` of the channel, or its pixel in the ``"center"``.
        settings: settings of the ascent; the defaults of :class:`AscentSettings` if omitted.
        scale: standard deviation of an image in the network's units; 1 where images are standardized.

    Returns:
        The final image and the activations on the way to it.

    Raises:
        InputError: there is no such layer.
    """
    settings = settings or AscentSettings()
    generator = torch.Generator().manual_seed(settings.seed)
    image, activations = start.clone(), []
    image[free] = settings.noise * scale * torch.randn(start[free].shape, generator=generator).to(image)
    for step in range(settings.steps):
        most = settings.jitter if step else 0  # the first activation is that of the noise itself
        shift = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
        value, gradient = _gradient(network, layer, unit, _shifted(image, free, shift), goal)
        activations.append(value)
        back = gradient[free].roll((-shift[0], -shift[1]), (1, 2))
        moved = image[free] + settings.rate * scale * back / back.square().mean().sqrt().clamp(min=1e-12)
        moved = moved * (1 - settings.decay)
        blurs = settings.blur and (step + 1) % settings.blur_every == 0
        image[free] = _blurred(moved, settings.blur) if blurs else moved
    with torch.no_grad():
        end = _of_unit(compute_features(network, layer, image[None]), unit, goal)
    return AscentResult(image, [*activations, float(end)])


def _gradient(network: nn.Module, layer: str, unit: int, image: Tensor, goal: str) -> tuple[float, Tensor]:
    given = image[None].clone().requires_grad_()
    with torch.enable_grad():
        value = _of_unit(compute_features(network, layer, given), unit, goal)
        (gradient,) = torch.autograd.grad(value, given)
        if not gradient.any():
            with _Leaky():
                (gradient,) = torch.autograd.grad(_of_unit(compute_features(network, layer, given), unit, goal), given)
    return float(value.detach()), gradient[0]


class _Leaky(TorchFunctionMode):
    """Replace every ReLU by a leaky one."""

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
    """Shift the free channels only; the position stays in place."""
    moved = image.clone()
    moved[free] = image[free].roll((shift[0], shift[1]), (1, 2))
    return moved


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Blur an image [C, X, Y], with the edge pixels repeated outwards."""
    done = ndimage.gaussian_filter(image.cpu().numpy(), (0, sigma, sigma), mode="nearest")
    return torch.from_numpy(done).to(image)
