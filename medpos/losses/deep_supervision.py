"""Losses of networks with several heads: UNet++'s four, and the auxiliary head of MMSegmentation.

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
    """Half the binary cross-entropy minus the soft Dice coefficient, for one foreground.

    The authors' code, which is the default, and equation 2 differ: the code takes the whole binary cross-entropy and
    one Dice over the flattened batch; the equation keeps only Y log Y' and takes one Dice an image, which is
    ``BCEDice(per_image=True, background=False)``. Of the equation's product the mean over the pixels is taken, as the
    code does; the sum would drown the Dice.

    Args:
        per_image: the mean of the images' Dice instead of the batch's.
        background: False leaves out the term of the background, (1 - Y) log (1 - Y').
        smooth: added to both parts of the Dice fraction, so that an empty image has one; 1 in the authors' code.
    """

    def __init__(self, per_image: bool = False, background: bool = True, smooth: float = 1.0) -> None:
        super().__init__()
        self.per_image, self.background, self.smooth = per_image, background, smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch, -1 at best.

        Args:
            logits: [N, 1, X, Y], any float type; their sigmoid is the foreground's probability.
            target: [N, X, Y], integers; 0 the background, 255 ignored, anything else the foreground.

        Returns:
            A scalar, float32.

        Raises:
            InputError: the logits have several channels, or the target another size.
        """
        if logits.shape[1] != 1 or logits[:, 0].shape != target.shape:
            raise InputError(
                f"logits {tuple(logits.shape)} for a target {tuple(target.shape)}: needed are [N, 1, X, Y] and "
                "[N, X, Y]; this loss knows one foreground, take a cross-entropy for several classes"
            )
        scores, labels = logits.float().flatten(1), target.flatten(1)
        labelled = (labels != IGNORED).float()
        truth = (labels != 0).float() * labelled
        entropy = -truth * F.logsigmoid(scores)
        if self.background:
            entropy = entropy - (labelled - truth) * F.logsigmoid(-scores)
        found = scores.sigmoid() * labelled
        if not self.per_image:
            found, truth = found.flatten(), truth.flatten()
        dice = (2 * (found * truth).sum(-1) + self.smooth) / (found.sum(-1) + truth.sum(-1) + self.smooth)
        return 0.5 * entropy.sum() / labelled.sum().clamp(min=1) - dice.mean()


class DeepSupervision(nn.Module):
    """One loss at every head of a network.

    MONAI's ``DeepSupervisionLoss`` takes a list of maps of falling size and resizes the target; these heads are all of
    one size, stacked in one tensor, which MONAI's engines and distributed training pass on as any other.

    UNet++ adds its loss "to each" head; the authors' Keras sums them, which is ``weights=(1, 1, 1, 1)``. The mean keeps
    learning rate and weight decay as they are for one head.

    Args:
        loss: called with the logits [N, C, X, Y] of each head and the target.
        weights: the sum with these weights, one for each head; None gives the mean.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.weights = None if weights is None else tuple(weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            logits: [N, heads, C, X, Y]; those of a single head, [N, C, X, Y], get the plain loss.
            target: as the loss takes it.

        Returns:
            A scalar.

        Raises:
            InputError: more or fewer weights than heads.
        """
        if logits.ndim == 4:
            return self.loss(logits, target)
        heads = logits.shape[1]
        weights = (1 / heads,) * heads if self.weights is None else self.weights
        if len(weights) != heads:
            raise InputError(f"{len(weights)} weights for {heads} heads; give one for each head")
        losses = [self.loss(head, target) * weight for head, weight in zip(logits.unbind(1), weights, strict=True)]
        return torch.stack(losses).sum()


class AllPixelCrossEntropy(nn.Module):
    """Cross-entropy, summed over the labelled pixels and divided by the number of all.

    That is MMSegmentation's ``avg_non_ignore=False``: a crop that is half ignored counts half. PyTorch's own divides by
    the labelled pixels.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, float32, of logits [N, C, X, Y] and a target [N, X, Y] of integers, 255 ignored."""
        return summed_loss(logits.float(), target) / target.numel()


class AuxiliaryLoss(DeepSupervision):
    """Loss of the head plus 0.4 times that of the auxiliary head, each :class:`AllPixelCrossEntropy`.

    Args:
        weight: of the auxiliary head; MMSegmentation's by default.
    """

    def __init__(self, weight: float = AUXILIARY_WEIGHT) -> None:
        super().__init__(AllPixelCrossEntropy(), (1.0, weight))
