"""Compute the loss of DeepLab at the resolution of its scores instead of the image's.

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
    """Compare scores with the labels of the pixels at their positions, by cross-entropy, and sum over several outputs.

    The scores aren't enlarged, because interpolated values would then enter the loss. Each output's loss is the mean
    over its labeled scores.
    """

    def forward(self, logits: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: scores [N, C, x, y], any float type, or a list of such scores of different x and y, which DeepLab
                returns in training with several scales.
            target: ground truth [N, X, Y], integers, 255 ignored; see :func:`subsample`.

        Returns:
            The loss, a scalar, float32.

        Raises:
            InputError: an output or the target has another number of dimensions.
        """
        outputs = [logits] if isinstance(logits, Tensor) else list(logits)
        if target.ndim != 3 or not outputs or any(output.ndim != 4 for output in outputs):
            shapes = ", ".join(str(list(output.shape)) for output in outputs)
            raise InputError(
                f"ScoreCrossEntropy: expected logits [N, C, x, y] and a target [N, X, Y], got {shapes} and "
                f"{list(target.shape)}"
            )
        losses = []
        for output in outputs:
            labels = subsample(target, output.shape[2:])
            losses.append(summed_loss(output.float(), labels) / (labels != IGNORED).sum().clamp(min=1))
        return torch.stack(losses).sum()


def subsample(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Pick the nearest label for each score of a map with the same corners: every 8th pixel at stride 8.

    Args:
        labels: label maps [N, X, Y].
        size: size x, y of the scores.

    Returns:
        Labels at the scores' positions, [N, x, y].
    """
    rows, columns = (_positions(*sides).to(labels.device) for sides in zip(labels.shape[1:], size, strict=True))
    return labels[:, rows[:, None], columns]


def _positions(length: int, count: int) -> Tensor:
    gaps = max(count - 1, 1)
    return (torch.arange(count) * (length - 1) + gaps // 2) // gaps
