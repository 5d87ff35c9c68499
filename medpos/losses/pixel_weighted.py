"""The loss of U-Net 2015: cross-entropy, weighted pixel by pixel.

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
    """Mean over the pixels of (w_c + border weight) times cross-entropy.

    Equation 1, sum w log p, lacks a minus sign, which this has: it is a loss to be minimised. The sum is divided by the
    number of labelled pixels, not by the sum of the weights: so does Caffe, in which the authors trained, and so the
    paper's learning rate does not depend on the size of the tile, while a tile full of borders still counts more.

    Args:
        class_weights: w_c [classes], as :func:`medpos.losses.balance.inverse_frequency` gives them; all 1 by default.
    """

    def __init__(self, class_weights: Sequence[float] | Tensor | None = None) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            logits: [N, classes, X, Y], any float type.
            target: [N, 2, X', Y'], float: the class (255 is ignored) and the border weight of
                :func:`medpos.transforms.border_weight`. Where it is larger than the logits, as for a network without
                padding, its middle counts.

        Returns:
            A scalar, float32.

        Raises:
            InputError: the target is smaller, or not larger by the same on both sides, or has no two channels; the
                number of class weights isn't that of the classes.
        """
        logits = logits.float()
        labels, border = _middle(target, logits.shape).unbind(1)
        labels = labels.long()
        weights = torch.ones(logits.shape[1]) if self.class_weights is None else self.class_weights
        if len(weights) != logits.shape[1]:
            raise InputError(f"{len(weights)} class weights for {logits.shape[1]} classes; give one for each class")
        losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED)
        weighted = (class_weights(labels, weights.to(logits.device)) + border.float()) * losses
        return weighted.sum() / (labels != IGNORED).sum().clamp(min=1)


def _middle(target: Tensor, shape: torch.Size) -> Tensor:
    """The part of the target [N, 2, X', Y'] that logits of this shape cover."""
    margins = [outer - inner for outer, inner in zip(target.shape[2:], shape[2:], strict=False)]
    sound = target.ndim == 4 and target.shape[:2] == (shape[0], 2) and all(m >= 0 and m % 2 == 0 for m in margins)
    if not sound:
        raise InputError(
            f"target {tuple(target.shape)} for logits {tuple(shape)}: needed is [N, 2, X, Y] (class, weight), equal in "
            "size or larger by the same on both sides; make it by ConcatItemsd(['label', 'weight'])"
        )
    x, y = (margin // 2 for margin in margins)
    return target[:, :, x : x + shape[2], y : y + shape[3]]
