"""Training on whole images instead of patches.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "FCNN Training Options"; J. Long
    et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, sections 3.4 and 4.3.

Patches can be drawn at random, and drawn more often for a rare class. Whole images can't; in place of that, the loss is
masked at random and weighted by class: sum M(x) loss(x) and sum w(x) loss(x) of the slides.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.core.labels import IGNORED as IGNORED


def summed_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """The sum over all pixels of weight times cross-entropy.

    Args:
        logits: [N, C, H, W].
        labels: [N, H, W], integers 0 to C - 1; 255 is ignored.
        weights: [N, H, W], as :func:`random_mask` and :func:`class_weights` give them; they may be multiplied.

    Returns:
        A scalar.
    """
    losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED)
    return losses.sum() if weights is None else (weights * losses).sum()


def patch_loss(network: Callable[[Tensor], Tensor], image: Tensor, labels: Tensor, size: int) -> Tensor:
    """The summed loss of a patch around every pixel, each a sample of its own: slowly what whole images give at once.

    Args:
        network: maps patches [P, C, size, size] to [P, classes, 1, 1].
        image: [N, C, H, W].
        labels: [N, H - size + 1, W - size + 1], those of the patches' middle pixels.
        size: height and width of a patch, which the network sees as a whole, in px.

    Returns:
        A scalar, :func:`summed_loss` of the image if the network pads nothing.
    """
    patches = image.unfold(2, size, 1).unfold(3, size, 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    return summed_loss(network(patches), labels.reshape(-1, 1, 1))


class SummedCrossEntropy(nn.Module):
    """Cross-entropy, summed over the labelled pixels, of which a random part may be left out.

    FCN's loss, for which its learning rates of 1e-10 and less are made.

    Args:
        keep: probability with which each pixel counts, above 0, up to 1. Below 1, a batch takes 1 / keep times as many
            images, see :func:`masked_batch_size`.

    Raises:
        InputError: ``keep`` isn't such a probability.
    """

    def __init__(self, keep: float = 1.0) -> None:
        super().__init__()
        _check_keep(keep)
        self.keep = keep

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, float32, of logits [N, C, X, Y] and a target [N, X, Y] of integers, 255 ignored."""
        mask = None if self.keep == 1 else random_mask(target.shape, self.keep, device=target.device)
        return summed_loss(logits.float(), target, mask)


def random_mask(
    shape: tuple[int, ...],
    keep: float,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """M of the slides: 1 for each pixel with probability ``keep``, else 0.

    So that as many pixels count as before, a batch takes 1 / keep times as many images, see :func:`masked_batch_size`.

    Args:
        shape: of the labels, [N, H, W].
        keep: above 0, up to 1.
        generator: of the random numbers, on the device.
        device: of the mask; None for the CPU.

    Raises:
        InputError: ``keep`` isn't such a probability.
    """
    _check_keep(keep)
    return (torch.rand(shape, generator=generator, device=device) < keep).float()


def masked_batch_size(images: int, keep: float) -> int:
    """Images that, masked, have as many pixels as ``images`` have unmasked; errors as in :func:`random_mask`."""
    _check_keep(keep)
    return round(images / keep)


def class_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """w of the slides: the weight of each pixel's true class.

    Args:
        labels: [N, H, W], integers 0 to C - 1, or 255.
        weights: [C].

    Returns:
        [N, H, W], 0 where the label is ignored.
    """
    ignored = labels == IGNORED
    return weights[labels.masked_fill(ignored, 0)].masked_fill(ignored, 0)


def _check_keep(keep: float) -> None:
    if not 0 < keep <= 1:
        raise InputError(f"keep is {keep}, needed is a probability above 0, up to 1")
