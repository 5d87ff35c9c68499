"""The fully connected CRF: pixels that lie near each other and look alike agree on a class.

References:
    P. Kraehenbuehl, V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011,
    equation 3 and algorithm 1, as in their code densecrf, version 2; https://arxiv.org/abs/1210.5644.
    L.-C. Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
    Connected CRFs", PAMI 2018, equation 3 and section 4; https://arxiv.org/abs/1606.00915.

Resolved where the papers are silent:
    - Each kernel K is normalized symmetrically, D^-1/2 K D^-1/2 with D its row sums; a pixel is among its own
      neighbours (densecrf).
    - A gray image counts as a colored one of three equal channels, so the same widths fit it.
    - Probabilities that are 0 are taken as the smallest of float32, so that a class can be unlikely, not impossible.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers import Inferer

from medpos.core.errors import InputError
from medpos.inferers.rotations import SMALLEST
from medpos.inferers.tiles import to_plain_images

GRAY_LEVELS = 255.0  # the papers' s_rgb are in such units

# The parameters of the authors' models on PASCAL VOC.
PAPERS = {
    "v1_large_fov": {"w_pos": 3.0, "s_pos": 3.0, "w_bi": 4.0, "s_xy": 49.0, "s_rgb": 5.0},
    "v2_vgg": {"w_pos": 2.0, "s_pos": 2.0, "w_bi": 4.0, "s_xy": 65.0, "s_rgb": 3.0},
    "v2_resnet": {"w_pos": 3.0, "s_pos": 1.0, "w_bi": 4.0, "s_xy": 67.0, "s_rgb": 3.0},
}


@dataclass(frozen=True)
class DenseCRF:
    """Mean-field inference in a fully connected CRF with two Gaussian kernels and a Potts model.

    Of two pixels with other classes, w_bi exp(-|p - p'|^2 / (2 s_xy^2) - |I - I'|^2 / (2 s_rgb^2)) and
    w_pos exp(-|p - p'|^2 / (2 s_pos^2)) are the penalties, before normalization. ``PAPERS`` has the papers' parameters:
    ``DenseCRF(**PAPERS["v2_vgg"])``.

    Args:
        w_pos: weight of the smoothness kernel, >= 0.
        s_pos: its width, px.
        w_bi: weight of the kernel of place and color, >= 0.
        s_xy: its width in the image, px.
        s_rgb: its width in color, 0 to 255.
        iterations: 10 in the papers; 0 leaves all as it is.

    Raises:
        InputError: a number out of range, or the library ``pydensecrf`` is missing.
    """

    w_pos: float
    s_pos: float
    w_bi: float
    s_xy: float
    s_rgb: float
    iterations: int = 10

    def __post_init__(self) -> None:
        widths, weights = (self.s_pos, self.s_xy, self.s_rgb), (self.w_pos, self.w_bi, self.iterations)
        if not (all(width > 0 for width in widths) and all(weight >= 0 for weight in weights)):
            raise InputError(
                f"{self}: needed are widths s_pos, s_xy, s_rgb above 0, weights w_pos, w_bi and iterations from 0 "
                f"upwards; such as {PAPERS['v2_vgg']}"
            )
        if self.iterations:
            library()

    @classmethod
    def of_paper(
        cls,
        name: str,
        iterations: int = 10,
        w_pos: float | None = None,
        s_pos: float | None = None,
        w_bi: float | None = None,
        s_xy: float | None = None,
        s_rgb: float | None = None,
    ) -> "DenseCRF":
        """With the parameters of one of ``PAPERS``; those that are given take their place.

        Raises:
            InputError: unknown name, or a number out of range.
        """
        if name not in PAPERS:
            raise InputError(f"CRF {name!r} is in no paper, needed is one of {', '.join(PAPERS)}")
        given = {"w_pos": w_pos, "s_pos": s_pos, "w_bi": w_bi, "s_xy": s_xy, "s_rgb": s_rgb}
        changed = {key: value for key, value in given.items() if value is not None}
        return cls(**{**PAPERS[name], **changed}, iterations=iterations)

    def __call__(self, probabilities: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Refines the probabilities of one image.

        Args:
            probabilities: [classes, X, Y], summing to 1.
            image: [1 or 3, X, Y], in [0, 1].

        Returns:
            [classes, X, Y], float32, on the CPU; they sum to 1.

        Raises:
            InputError: not two images of one size, or other channels.
        """
        shape = tuple(probabilities.shape)
        if len(shape) != 3 or image.shape[1:] != shape[1:] or image.shape[0] not in (1, 3):
            raise InputError(
                f"probabilities {list(shape)}, image {list(image.shape)}: needed are [classes, X, Y] and [1 or 3, X, "
                "Y] of one size"
            )
        unary = -probabilities.detach().float().cpu().clamp(min=SMALLEST).log().reshape(shape[0], -1)
        if not self.iterations:
            return (-unary).exp().reshape(shape)
        crf = library()
        model = crf.DenseCRF(shape[1] * shape[2], shape[0])
        model.setUnaryEnergy(np.ascontiguousarray(unary.numpy()))
        for weight, features in zip((self.w_pos, self.w_bi), self.features(image), strict=True):
            model.addPairwiseEnergy(
                features, compat=weight, kernel=crf.DIAG_KERNEL, normalization=crf.NORMALIZE_SYMMETRIC
            )
        refined = np.array(model.inference(self.iterations), np.float32)
        return torch.from_numpy(refined).reshape(shape)

    def features(self, image: torch.Tensor) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """What the two kernels compare by: place, and place with color, each over its width; [values, X Y].

        Args:
            image: [1 or 3, X, Y], in [0, 1].
        """
        places = np.indices(tuple(image.shape[1:]), np.float32).reshape(2, -1)
        # Of three equal channels the distance is that of one, times the root of 3.
        levels = GRAY_LEVELS * math.sqrt(3 / image.shape[0])
        colors = levels * image.detach().float().cpu().reshape(image.shape[0], -1).numpy()
        both = np.concatenate([places / self.s_xy, colors / self.s_rgb])
        return np.ascontiguousarray(places / self.s_pos, np.float32), np.ascontiguousarray(both, np.float32)


class CRFInferer(Inferer):
    """Refines what another inferer gives by a fully connected CRF, image by image, volumes slice by slice.

    It goes outermost, around :class:`medpos.inferers.BackgroundInferer` where the network has one channel, so that
    evaluation and prediction run it. Training validates faster with the inferer inside: ``$@inferer.inferer``. The
    overlay ``bundles/crf.json`` puts it around any bundle's.

    Args:
        inferer: gives logits of the classes, at the size of the input.
        crf: refines the probabilities.
        mean: what was subtracted from the image in [0, 1], a number or one a channel. None: not known; each image's
            darkest value becomes 0 and its brightest 1.
        std: what it was divided by then, in the same way.
        channels: 1 or 3, the first channels of the input, which are the image; position channels come behind.

    Raises:
        InputError: one of ``mean`` and ``std`` alone, or other channels; in the call, logits of one channel or of
            another size, or an input of fewer channels.
    """

    def __init__(
        self,
        inferer: Inferer,
        crf: DenseCRF,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if (mean is None) != (std is None) or channels not in (1, 3):
            raise InputError(
                f"mean is {mean}, std {std}, channels {channels}; needed are mean and std, or neither, and 1 or 3"
            )
        self.inferer, self.crf, self.channels = inferer, crf, channels
        self.mean, self.std = mean, std

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Logarithms of the refined probabilities [N, classes, X, Y(, Z)], float32, of ``inputs`` [N, C, X, Y(, Z)]."""
        logits: torch.Tensor = self.inferer(inputs, network, *args, **kwargs)
        if not self.crf.iterations:
            return logits
        images = to_plain_images(inputs, type(self).__name__, dims=(4, 5))
        if logits.shape[1] == 1 or logits.shape[2:] != images.shape[2:] or images.shape[1] < self.channels:
            raise InputError(
                f"CRFInferer: logits {list(logits.shape)} for an input {list(images.shape)}; needed are two classes at "
                f"least, of one size with the input, and {self.channels} channels; wrap a network of one channel in a "
                "BackgroundInferer, or set channels"
            )
        probabilities = logits.float().softmax(dim=1)
        refined = [self._refined(*pair) for pair in zip(probabilities, images[:, : self.channels], strict=True)]
        return torch.stack(refined).clamp(min=SMALLEST).log().to(logits.device)

    def _refined(self, probabilities: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """One image [C, X, Y], or one volume [C, X, Y, Z]."""
        if image.ndim == 3:
            return self.crf(probabilities, self.undo_standardization(image))
        slices = zip(probabilities.unbind(3), image.unbind(3), strict=True)
        return torch.stack([self._refined(*pair) for pair in slices], dim=3)

    def undo_standardization(self, image: torch.Tensor) -> torch.Tensor:
        """[C, X, Y] in [0, 1]."""
        values = image.float().cpu()
        if self.mean is None or self.std is None:
            values = values - values.min()
            return values / values.max().clamp(min=SMALLEST)
        mean, std = (torch.as_tensor(number, dtype=torch.float32).reshape(-1, 1, 1) for number in (self.mean, self.std))
        return values * std + mean


def library() -> Any:
    """The compiled CRF.

    Raises:
        InputError: it isn't installed.
    """
    try:
        import pydensecrf.densecrf as crf
    except ImportError:
        raise InputError(
            "the CRF needs pydensecrf; install it with pip install 'medpos[crf]', or do without it (iterations 0)"
        ) from None
    return crf
