"""Sum the cross-entropy over whole images, weighted by class or masked at random.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "FCNN Training Options"; J. Long
    et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, sections 3.4 and 4.3.

Patches can be drawn at random, and more often for a rare class. Whole images can't; instead, the loss is masked at
random and weighted by class: sum M(x) loss(x) and sum w(x) loss(x) on the slides.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED


def summed_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum weight times cross-entropy over all pixels.

    Args:
        logits: logits [N, C, H, W].
        labels: ground truth [N, H, W], integers 0 to C - 1, 255 ignored.
        weights: weight of each pixel, [N, H, W], from :func:`random_mask`, :func:`class_weights` or their product.

    Returns:
        The loss, a scalar.
    """
    losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED)
    return losses.sum() if weights is None else (weights * losses).sum()


class SummedCrossEntropy(nn.Module):
    """Sum the cross-entropy over the labeled pixels, or over a random part of them.

    This is FCN's loss; its learning rates of 1e-10 and less are meant for it.

    Args:
        keep: probability of keeping a pixel, above 0, at most 1. Below 1, use batches of 1 / keep times as many images
            for the same number of pixels.

    Raises:
        InputError: ``keep`` is out of range.
    """

    reduction = "sum"  # as in PyTorch's losses

    def __init__(self, keep: float = 1.0) -> None:
        super().__init__()
        check_keep(keep)
        self.keep = keep

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss, float32, of logits [N, C, X, Y] and integer labels [N, X, Y], 255 ignored."""
        mask = None if self.keep == 1 else random_mask(target.shape, self.keep, device=target.device)
        return summed_loss(logits.float(), target, mask)


def random_mask(
    shape: tuple[int, ...],
    keep: float,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw the mask M of the slides: 1 for each pixel with probability ``keep``, else 0.

    Args:
        shape: shape of the labels, [N, H, W].
        keep: probability of keeping a pixel, above 0, at most 1.
        generator: random number generator on the same device; None uses PyTorch's global one.
        device: device of the mask; None for the CPU.

    Returns:
        The mask, float32, of the given shape.

    Raises:
        InputError: ``keep`` is out of range.
    """
    check_keep(keep)
    return (torch.rand(shape, generator=generator, device=device) < keep).float()


def class_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """Look up the weight w of the slides: that of each pixel's true class.

    Args:
        labels: ground truth [N, H, W], integers 0 to C - 1, or 255.
        weights: weights of the classes, [C].

    Returns:
        Weights of the pixels, [N, H, W]; 0 where the label is 255.
    """
    ignored = labels == IGNORED
    return weights[labels.masked_fill(ignored, 0)].masked_fill(ignored, 0)


def check_keep(keep: float) -> None:
    """Refuse a probability of keeping a pixel that isn't above 0 and at most 1.

    Raises:
        InputError: ``keep`` is out of range.
    """
    if not 0 < keep <= 1:
        raise InputError(f"keep: expected a probability above 0, at most 1, got {keep}")
