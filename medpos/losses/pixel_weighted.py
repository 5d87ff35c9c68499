"""Compute the loss of U-Net 2015: cross-entropy, weighted pixel by pixel.

Reference:
    O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
    equations 1 and 2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED
from medpos.losses.dense import class_weights


class PixelWeightedCrossEntropy(nn.Module):
    """Average (w_c + border weight) times cross-entropy over the pixels.

    Equation 1, sum w log p, lacks a minus sign; it is added here, because a loss is minimized. The sum is divided by
    the number of labeled pixels, not by the sum of the weights, as in Caffe, in which the authors trained. So the
    paper's learning rate doesn't depend on the size of the tile, while a tile with many borders still counts more.

    Args:
        class_weights: weights w_c [classes], such as those of :func:`medpos.losses.balance.inverse_frequency`; all 1 by
            default.
    """

    def __init__(self, class_weights: Sequence[float] | Tensor | None = None) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: logits [N, classes, X, Y], any float type.
            target: class (255 ignored) and border weight (:func:`medpos.transforms.border_weight`) of each pixel,
                [N, 2, X', Y'], float. If it is larger than the logits, as for a network without padding, its middle is
                used.

        Returns:
            The loss, a scalar, float32.

        Raises:
            InputError: the target is smaller than the logits, its margins are unequal, or it doesn't have two channels;
                the number of class weights isn't that of the classes.
        """
        logits = logits.float()
        labels, border = _middle(target, logits.shape).unbind(1)
        labels = labels.long()
        weights = torch.ones(logits.shape[1]) if self.class_weights is None else self.class_weights
        if len(weights) != logits.shape[1]:
            raise InputError(f"class_weights: expected {logits.shape[1]}, one for each class, got {len(weights)}")
        losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED)
        weighted = (class_weights(labels, weights.to(logits.device)) + border.float()) * losses
        return weighted.sum() / (labels != IGNORED).sum().clamp(min=1)


def _middle(target: Tensor, shape: torch.Size) -> Tensor:
    """Cut out the middle of the target [N, 2, X', Y'] that logits of this shape cover."""
    margins = [outer - inner for outer, inner in zip(target.shape[2:], shape[2:], strict=False)]
    sound = target.ndim == 4 and target.shape[:2] == (shape[0], 2) and all(m >= 0 and m % 2 == 0 for m in margins)
    if not sound:
        raise InputError(
            "PixelWeightedCrossEntropy: expected a target [N, 2, X, Y] (class, weight) of the logits' size, or larger "
            f"by the same on both sides, got {tuple(target.shape)} for logits {tuple(shape)}; build it by "
            "ConcatItemsd(['label', 'weight'])"
        )
    x, y = (margin // 2 for margin in margins)
    return target[:, :, x : x + shape[2], y : y + shape[3]]
