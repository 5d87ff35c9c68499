"""The loss of DeepLab, at the resolution of its scores instead of the image's.

Reference:
    L.-C. Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
    Connected CRFs", PAMI 2018, sections 3.2 and 4.1; https://arxiv.org/abs/1606.00915.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED
from medpos.losses.dense import summed_loss


class ScoreCrossEntropy(nn.Module):
    """Cross-entropy between scores and the labels of the pixels that they stand for; over several outputs the sum.

    Enlarging the scores instead would let the loss see what bilinear interpolation made up. Each output's loss is the
    mean over its labelled scores.
    """

    def forward(self, logits: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            logits: [N, C, x, y], or a list of such of different x and y, as DeepLab gives them in training for several
                scales; any float type.
            target: [N, X, Y], integers, 255 ignored; see :func:`subsampled`.

        Returns:
            A scalar, float32.

        Raises:
            InputError: an output or the target has another number of dimensions.
        """
        outputs = [logits] if isinstance(logits, Tensor) else list(logits)
        if target.ndim != 3 or not outputs or any(output.ndim != 4 for output in outputs):
            shapes = ", ".join(str(list(output.shape)) for output in outputs)
            raise InputError(
                f"logits {shapes} for a target {list(target.shape)}: needed are [N, C, x, y] and [N, X, Y]"
            )
        losses = []
        for output in outputs:
            labels = subsampled(target, output.shape[2:])
            losses.append(summed_loss(output.float(), labels) / (labels != IGNORED).sum().clamp(min=1))
        return torch.stack(losses).sum()


def subsampled(labels: Tensor, size: Sequence[int]) -> Tensor:
    """The nearest label for each score of a map whose corners are the image's corners: every 8th pixel at stride 8.

    Args:
        labels: [N, X, Y].
        size: x and y of the scores.

    Returns:
        [N, x, y].
    """
    rows, columns = (_places(*sides).to(labels.device) for sides in zip(labels.shape[1:], size, strict=True))
    return labels[:, rows[:, None], columns]


def _places(length: int, count: int) -> Tensor:
    gaps = max(count - 1, 1)
    return (torch.arange(count) * (length - 1) + gaps // 2) // gaps
