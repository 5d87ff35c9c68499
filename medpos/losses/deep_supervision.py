"""Compute the losses of networks with several heads: UNet++'s four, and the auxiliary head of MMSegmentation.

References:
    Z. Zhou et al., "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", DLMIA 2018, equation 2;
    https://github.com/MrGiovanni/UNetPlusPlus, ``helper_functions.py``.
    https://github.com/open-mmlab/mmsegmentation, ``fcn_unet_s5-d16`` and ``CrossEntropyLoss``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED
from medpos.losses.dense import summed_loss

AUXILIARY_WEIGHT = 0.4


class BCEDice(nn.Module):
    """Compute half the binary cross-entropy minus the soft Dice coefficient, for one foreground class.

    The authors' code, which is the default, and equation 2 differ: the code uses the full binary cross-entropy and one
    Dice for the flattened batch; the equation keeps only Y log Y' and uses one Dice per image, which is
    ``BCEDice(per_image=True, background=False)``. The cross-entropy is averaged over the pixels, as in the code; a sum
    would outweigh the Dice.

    Args:
        per_image: whether Dice is computed per image and averaged, instead of once for the batch.
        background: whether the background's term (1 - Y) log (1 - Y') counts.
        smooth: number added to numerator and denominator of Dice, which defines it for empty images; 1 in the authors'
            code.
    """

    def __init__(self, per_image: bool = False, background: bool = True, smooth: float = 1.0) -> None:
        super().__init__()
        self.per_image, self.background, self.smooth = per_image, background, smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of a batch; the lowest possible value is -1.

        Args:
            logits: logits of the foreground [N, 1, X, Y], any float type.
            target: ground truth [N, X, Y], integers: 0 background, 255 ignored, any other value foreground.

        Returns:
            The loss, a scalar, float32.

        Raises:
            InputError: the logits have several channels, or the target has another size.
        """
        if logits.shape[1] != 1 or logits[:, 0].shape != target.shape:
            raise InputError(
                "BCEDice: expected logits [N, 1, X, Y] and a target [N, X, Y], got "
                f"{tuple(logits.shape)} and {tuple(target.shape)}; use a cross-entropy for several classes"
            )
        scores, labels = logits.float().flatten(1), target.flatten(1)
        labeled = (labels != IGNORED).float()
        truth = (labels != 0).float() * labeled
        entropy = -truth * F.logsigmoid(scores)
        if self.background:
            entropy = entropy - (labeled - truth) * F.logsigmoid(-scores)
        found = scores.sigmoid() * labeled
        if not self.per_image:
            found, truth = found.flatten(), truth.flatten()
        dice = (2 * (found * truth).sum(-1) + self.smooth) / (found.sum(-1) + truth.sum(-1) + self.smooth)
        return 0.5 * entropy.sum() / labeled.sum().clamp(min=1) - dice.mean()


class DeepSupervision(nn.Module):
    """Apply one loss to every head of a network and sum the results.

    MONAI's ``DeepSupervisionLoss`` takes a list of maps of decreasing size and resizes the target; these heads have one
    size and are stacked in one tensor, which MONAI's engines and distributed training handle like any other.

    UNet++ adds its loss "to each" head; the authors' Keras code sums them, which is ``weights=(1, 1, 1, 1)``. With the
    mean, the learning rate and weight decay for one head stay valid.

    Args:
        loss: loss of one head, called with its logits [N, C, X, Y] and the target.
        weights: weights of the heads in the sum; None gives the mean.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.weights = None if weights is None else tuple(weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: logits [N, heads, C, X, Y], or [N, C, X, Y] of a single head, which get the loss without weights.
            target: ground truth as the loss expects it.

        Returns:
            The loss, a scalar.

        Raises:
            InputError: the number of weights isn't that of the heads.
        """
        if logits.ndim == 4:
            return self.loss(logits, target)
        heads = logits.shape[1]
        weights = (1 / heads,) * heads if self.weights is None else self.weights
        if len(weights) != heads:
            raise InputError(f"weights: expected {heads}, one for each head, got {len(weights)}")
        losses = [self.loss(head, target) * weight for head, weight in zip(logits.unbind(1), weights, strict=True)]
        return torch.stack(losses).sum()


class AllPixelCrossEntropy(nn.Module):
    """Sum the cross-entropy over the labeled pixels and divide by the number of all pixels.

    This is MMSegmentation's ``avg_non_ignore=False``: a crop that is half ignored counts half. PyTorch's cross-entropy
    divides by the number of labeled pixels.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss, float32, of logits [N, C, X, Y] and integer labels [N, X, Y], 255 ignored."""
        return summed_loss(logits.float(), target) / target.numel()


class AuxiliaryLoss(DeepSupervision):
    """Add 0.4 times the loss of the auxiliary head to that of the main head, each :class:`AllPixelCrossEntropy`.

    Args:
        weight: weight of the auxiliary head; the default is MMSegmentation's.
    """

    def __init__(self, weight: float = AUXILIARY_WEIGHT) -> None:
        super().__init__(AllPixelCrossEntropy(), (1.0, weight))
