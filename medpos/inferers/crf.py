"""Refine probabilities by a fully connected CRF, which favors one class for near pixels of similar color.

References:
    P. Kraehenbuehl, V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011,
    equation 3 and algorithm 1, as in their code densecrf, version 2; https://arxiv.org/abs/1210.5644.
    L.-C. Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
    Connected CRFs", PAMI 2018, equation 3 and section 4; https://arxiv.org/abs/1606.00915.

Resolved where the papers are silent:
    - Each kernel K is normalized symmetrically, D^-1/2 K D^-1/2 with D its row sums; a pixel is its own neighbor too
      (densecrf).
    - A gray image is treated as a color image with three equal channels, so that the same widths fit.
    - Probabilities of 0 are replaced by the smallest number of float32, so that no class is impossible.
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

GRAY_LEVELS = 255.0  # unit of the papers' s_rgb

# Parameters of the authors' models on PASCAL VOC.
PAPERS = {
    "v1_large_fov": {"w_pos": 3.0, "s_pos": 3.0, "w_bi": 4.0, "s_xy": 49.0, "s_rgb": 5.0},
    "v2_vgg": {"w_pos": 2.0, "s_pos": 2.0, "w_bi": 4.0, "s_xy": 65.0, "s_rgb": 3.0},
    "v2_resnet": {"w_pos": 3.0, "s_pos": 1.0, "w_bi": 4.0, "s_xy": 67.0, "s_rgb": 3.0},
}


@dataclass(frozen=True)
class DenseCRF:
    """Refine probabilities by mean-field inference in a dense CRF with two Gaussian kernels and a Potts model.

    The penalties for two pixels of different classes are w_bi exp(-|p - p'|^2 / (2 s_xy^2) - |I - I'|^2 / (2 s_rgb^2))
    and w_pos exp(-|p - p'|^2 / (2 s_pos^2)), before normalization. ``PAPERS`` holds the papers' parameters:
    ``DenseCRF(**PAPERS["v2_vgg"])``.

    Args:
        w_pos: weight of the smoothness kernel, at least 0.
        s_pos: width of the smoothness kernel in px, above 0.
        w_bi: weight of the kernel of position and color, at least 0.
        s_xy: width of this kernel in the image in px, above 0.
        s_rgb: width of this kernel in color, 0 to 255, above 0.
        iterations: number of mean-field iterations, 10 in the papers; 0 changes nothing.

    Raises:
        InputError: a number is out of range, or the library ``pydensecrf`` is missing.
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
                f"expected widths s_pos, s_xy, s_rgb above 0, weights w_pos, w_bi and iterations of 0 or more, such as "
                f"{PAPERS['v2_vgg']}, got {self}"
            )
        if self.iterations:
            import_pydensecrf()

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
        """Create a CRF with the parameters of a paper, except for the given ones.

        Args:
            name: name of the parameters, one of ``PAPERS``.
            iterations: number of mean-field iterations.
            w_pos: weight of the smoothness kernel; None for the paper's.
            s_pos: width of the smoothness kernel in px; None for the paper's.
            w_bi: weight of the kernel of position and color; None for the paper's.
            s_xy: width of this kernel in the image in px; None for the paper's.
            s_rgb: width of this kernel in color, 0 to 255; None for the paper's.

        Raises:
            InputError: the name is unknown, or a number is out of range.
        """
        if name not in PAPERS:
            raise InputError(f"crf_name: expected one of {', '.join(PAPERS)}, got {name!r}")
        given = {"w_pos": w_pos, "s_pos": s_pos, "w_bi": w_bi, "s_xy": s_xy, "s_rgb": s_rgb}
        changed = {key: value for key, value in given.items() if value is not None}
        return cls(**{**PAPERS[name], **changed}, iterations=iterations)

    def __call__(self, probabilities: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Refine the probabilities of one image.

        Args:
            probabilities: probabilities [classes, X, Y] with sum 1.
            image: image [1 or 3, X, Y] in [0, 1].

        Returns:
            Refined probabilities [classes, X, Y] with sum 1, float32, on the CPU.

        Raises:
            InputError: probabilities and image differ in size, or have other dimensions.
        """
        shape = tuple(probabilities.shape)
        if len(shape) != 3 or image.shape[1:] != shape[1:] or image.shape[0] not in (1, 3):
            raise InputError(
                "expected probabilities [classes, X, Y] and an image [1 or 3, X, Y] of one size, got "
                f"{list(shape)} and {list(image.shape)}"
            )
        unary = -probabilities.detach().float().cpu().clamp(min=SMALLEST).log().reshape(shape[0], -1)
        if not self.iterations:
            return (-unary).exp().reshape(shape)
        crf = import_pydensecrf()
        model = crf.DenseCRF(shape[1] * shape[2], shape[0])
        model.setUnaryEnergy(np.ascontiguousarray(unary.numpy()))
        for weight, features in zip((self.w_pos, self.w_bi), self.features(image), strict=True):
            model.addPairwiseEnergy(
                features, compat=weight, kernel=crf.DIAG_KERNEL, normalization=crf.NORMALIZE_SYMMETRIC
            )
        refined = np.array(model.inference(self.iterations), np.float32)
        return torch.from_numpy(refined).reshape(shape)

    def features(self, image: torch.Tensor) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Compute the features that the two kernels compare: position, and position with color, divided by the widths.

        Args:
            image: image [1 or 3, X, Y] in [0, 1].

        Returns:
            Features [2, X Y] of the smoothness kernel, and [3 or 5, X Y] of the kernel of position and color.
        """
        places = np.indices(tuple(image.shape[1:]), np.float32).reshape(2, -1)
        # The distance in three equal channels is that in one channel times the square root of 3.
        levels = GRAY_LEVELS * math.sqrt(3 / image.shape[0])
        colors = levels * image.detach().float().cpu().reshape(image.shape[0], -1).numpy()
        both = np.concatenate([places / self.s_xy, colors / self.s_rgb])
        return np.ascontiguousarray(places / self.s_pos, np.float32), np.ascontiguousarray(both, np.float32)


class CRFInferer(Inferer):
    """Refine the output of another inferer by a fully connected CRF, image by image, or slice by slice in volumes.

    It is the outermost inferer, around :class:`medpos.inferers.BackgroundInferer` for a network with one channel, so
    that evaluation and prediction use it. Validation during training is faster with the inner one:
    ``$@inferer.inferer``. The overlay ``bundles/crf.json`` adds it to any bundle.

    Args:
        inferer: inferer that computes logits of the classes at the size of the input.
        crf: CRF that refines the probabilities.
        mean: value subtracted from the image in [0, 1] by preprocessing, one or one for each channel. None if unknown:
            each image is then scaled from its minimum and maximum to [0, 1].
        std: value by which preprocessing divided the image, one or one for each channel; None if unknown.
        channels: number of image channels at the start of the input, 1 or 3; position channels follow.

    Raises:
        InputError: only one of ``mean`` and ``std`` is given, or ``channels`` isn't 1 or 3; in the call, logits of one
            channel or of another size, or an input with fewer channels.
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
                "CRFInferer: expected both mean and std, or neither, and 1 or 3 channels, got "
                f"mean {mean}, std {std}, channels {channels}"
            )
        self.inferer, self.crf, self.channels = inferer, crf, channels
        self.mean, self.std = mean, std

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute logarithms of the refined probabilities, [N, classes, X, Y(, Z)], float32, of ``inputs``."""
        logits: torch.Tensor = self.inferer(inputs, network, *args, **kwargs)
        if not self.crf.iterations:
            return logits
        images = to_plain_images(inputs, type(self).__name__, dims=(4, 5))
        if logits.shape[1] == 1 or logits.shape[2:] != images.shape[2:] or images.shape[1] < self.channels:
            raise InputError(
                "CRFInferer: expected logits of at least two classes at the size of the input, and "
                f"{self.channels} image channels, got logits {list(logits.shape)} for an input {list(images.shape)}; "
                "wrap a network with one channel in a BackgroundInferer, or set channels"
            )
        probabilities = logits.float().softmax(dim=1)
        refined = [self._refined(*pair) for pair in zip(probabilities, images[:, : self.channels], strict=True)]
        return torch.stack(refined).clamp(min=SMALLEST).log().to(logits.device)

    def _refined(self, probabilities: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Refine one image [C, X, Y] or one volume [C, X, Y, Z]."""
        if image.ndim == 3:
            return self.crf(probabilities, self.undo_standardization(image))
        slices = zip(probabilities.unbind(3), image.unbind(3), strict=True)
        return torch.stack([self._refined(*pair) for pair in slices], dim=3)

    def undo_standardization(self, image: torch.Tensor) -> torch.Tensor:
        """Restore an image [C, X, Y] in [0, 1] from a standardized one."""
        values = image.float().cpu()
        if self.mean is None or self.std is None:
            values = values - values.min()
            return values / values.max().clamp(min=SMALLEST)
        mean, std = (torch.as_tensor(number, dtype=torch.float32).reshape(-1, 1, 1) for number in (self.mean, self.std))
        return values * std + mean


def import_pydensecrf() -> Any:
    """Import the compiled CRF.

    Raises:
        InputError: ``pydensecrf`` isn't installed.
    """
    try:
        import pydensecrf.densecrf as crf
    except ImportError:
        raise InputError(
            "the CRF needs pydensecrf; install it by pip install 'medpos[crf]', or set its iterations to 0"
        ) from None
    return crf
