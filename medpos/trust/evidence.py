"""Collect what tells a strange image from a familiar one: gray values, noise, layout, the network's features, organs.

All of it is read off while a case is segmented, part by part, and adds little to the network's time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d
from torch.nn.modules.module import register_module_forward_hook

Floats = npt.NDArray[np.float64]
GRAY_BINS = 32
LAYOUT = 32  # side of the coarse image
_COARSE = 2.0  # standard deviation of the filter, in its pixels
_FADED = np.hanning(LAYOUT + 2)[1:-1]
_MOST_PLANES = 16  # slices of a part, spread over it, that noise and gray values are read from
_SMALLEST_NOISE = 1e-5  # of the range of gray values
_KERNEL_AXES = 3  # at least, of a convolution's weights; those of other layers have fewer


class FeatureTap:
    """Take the mean features of some convolutions while a network runs.

    Convolutions are counted in the order in which the network computes them, and their negative values count as 0, so
    that a copy of it with batch norms and ReLUs fused into them has the same features.

    Args:
        layers: numbers of the convolutions, from 0.

    Attributes:
        count: number of convolutions that the network has computed.
    """

    def __init__(self, layers: Sequence[int]) -> None:
        self.count = 0
        self._found: dict[int, list[Tensor]] = {layer: [] for layer in layers}
        self._place = 0
        self._first: nn.Module | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        """Take features inside this block."""
        self._first, self._place = None, 0
        handle = register_module_forward_hook(self._take)
        try:
            yield
        finally:
            handle.remove()

    def _take(self, module: nn.Module, given: Any, output: Any) -> None:
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim < _KERNEL_AXES:
            return
        if module is self._first or self._first is None:  # the next batch
            self._first, self._place = module, 0
        if self._place in self._found:
            self._found[self._place].append(output.detach().relu().flatten(2).mean(2, dtype=torch.float32))
        self._place += 1
        self.count = max(self.count, self._place)

    def mean(self) -> list[Floats]:
        """Return the features [C] of each layer, over all batches, slices and windows."""
        parts = (torch.cat(found).mean(0).double().cpu().numpy() for found in self._found.values() if found)
        return list(parts)


class Evidence:
    """Collect the evidence of one case.

    Args:
        layers: numbers of the convolutions whose features are kept; see :class:`FeatureTap`.
        organs: number of classes besides the background.

    Attributes:
        tap: takes the features.
    """

    def __init__(self, layers: Sequence[int], organs: int) -> None:
        self.tap = FeatureTap(layers)
        self._organs = organs
        self._counts: Tensor | None = None
        self._slices = 0
        self._noise: list[float] = []
        self._gray = np.zeros(GRAY_BINS)
        self._layout = np.zeros((LAYOUT, LAYOUT))

    def add(self, decoded: Tensor, probabilities: Tensor) -> None:
        """Add a part of the case.

        Args:
            decoded: image [C, x, y] or [C, x, y, z] in [0, 1].
            probabilities: probabilities [classes, x, y] or [classes, x, y, z] of the network.
        """
        planes = decoded[..., None] if decoded.ndim == 3 else decoded
        step = -(-planes.shape[3] // _MOST_PLANES)
        chosen = planes[..., ::step].float().permute(3, 0, 1, 2).flatten(0, 1).contiguous()
        self._noise += noise_levels(chosen)
        self._gray += torch.histc(chosen, GRAY_BINS, 0.0, 1.0).double().numpy()
        self._layout += adaptive_avg_pool2d(chosen[:, None], LAYOUT).sum((0, 1)).double().cpu().numpy()
        counts = count_planes(probabilities >= probabilities.amax(0, keepdim=True))
        self._counts = counts if self._counts is None else self._counts + counts
        self._slices += planes.shape[3]

    @property
    def planes(self) -> Tensor | None:
        """Share of the slices that have each organ at each pixel, [organs, x, y]; None before a part was added."""
        return None if self._counts is None else self._counts / self._slices

    @property
    def layout(self) -> Floats:
        """Local contrast of the mean of the slices, faded out toward the frame, [LAYOUT, LAYOUT]; its mean is 0.

        A Gaussian blur of a sixteenth of the side is subtracted, because slow changes of brightness differ between
        images of the same place. The frame is faded out because it doesn't move with what it shows.
        """
        local: Floats = self._layout - gaussian_filter(self._layout, _COARSE, mode="nearest")
        local /= max(float(local.std()), 1e-12)
        local *= np.outer(_FADED, _FADED)
        local -= local.mean()
        return local

    @property
    def noise(self) -> float:
        """Decimal logarithm of the noise, in shares of the range of gray values."""
        return float(np.mean(self._noise))

    @property
    def gray(self) -> Floats:
        """Shares of the pixels up to each gray value, [GRAY_BINS]."""
        found: Floats = np.cumsum(self._gray) / max(self._gray.sum(), 1.0)
        return found


def noise_levels(planes: Tensor) -> list[float]:
    """Estimate the noise of images by a filter that hardly responds to edges and ramps.

    Args:
        planes: images [N, x, y] in [0, 1].

    Returns:
        Decimal logarithm of the standard deviation of each image's noise.

    Reference:
        J. Immerkaer, "Fast Noise Variance Estimation", Computer Vision and Image Understanding 64(2), 1996.
    """
    line = torch.tensor([1.0, -2.0, 1.0], device=planes.device)
    kernel = torch.outer(line, line)[None, None]
    found = conv2d(planes[:, None], kernel).abs().flatten(1).mean(1) * (np.pi / 2) ** 0.5 / 6
    return [float(value) for value in found.clamp_min(_SMALLEST_NOISE).log10()]


def count_planes(masks: Tensor) -> Tensor:
    """Count the pixels of each organ along the slices.

    Args:
        masks: masks of the classes, background first, [classes, x, y] or [classes, x, y, z].

    Returns:
        Numbers of pixels [organs, x, y], float32.
    """
    organs = masks[1:].float()
    return (organs if organs.ndim == 3 else organs.sum(3)).cpu()


def find_center(plane: Tensor) -> tuple[float, float]:
    """Return the center of mass of an organ as shares of the image's sides; NaN where it has no pixel.

    Args:
        plane: numbers of pixels [x, y].
    """
    total = float(plane.sum())
    if not total:
        return float("nan"), float("nan")
    along = [plane.sum(1 - axis) @ (torch.arange(side) + 0.5) / (total * side) for axis, side in enumerate(plane.shape)]
    return float(along[0]), float(along[1])


def find_offset(image: Floats, reference: Floats) -> Floats:
    """Return how far a coarse image must be moved back to fit another one best, by their cross-correlation.

    Outside, both count as 0.

    Args:
        image: image of mean 0, [LAYOUT, LAYOUT].
        reference: the other one.

    Returns:
        Offset along x and y as shares of the sides, -1 to 1, [2].
    """
    shape = (2 * LAYOUT, 2 * LAYOUT)  # so that what leaves the frame doesn't come in again at the other side
    product = np.fft.rfft2(image, shape) * np.fft.rfft2(reference, shape).conj()
    surface = np.fft.irfft2(product, shape)
    peak = np.unravel_index(int(surface.argmax()), shape)
    return np.array([_vertex(line, at) for line, at in zip((surface[:, peak[1]], surface[peak[0]]), peak, strict=True)])


def _vertex(line: Floats, at: np.intp) -> float:
    """Return where a parabola through the greatest value of a line and its neighbors is greatest, in shares."""
    before, highest, after = (float(line[(int(at) + step) % len(line)]) for step in (-1, 0, 1))
    bend = before - 2 * highest + after
    place = int(at) + (0.5 * (before - after) / bend if bend < 0 else 0.0)
    return ((place + LAYOUT) % (2 * LAYOUT) - LAYOUT) / LAYOUT
