"""Train on patches, and get the same loss from whole images.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture), "FCNN Training Options"; J. Long
    et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, sections 3.4 and 4.3.
"""

from collections.abc import Callable

from torch import Tensor

from medpos.losses.dense import check_keep, summed_loss


def patch_loss(network: Callable[[Tensor], Tensor], image: Tensor, labels: Tensor, size: int) -> Tensor:
    """Compute the summed loss of the patches around all pixels, each patch as a sample of its own.

    This is slow; :func:`medpos.losses.dense.summed_loss` of the whole image gives the same value at once if the network
    has no padding.

    Args:
        network: function from patches [P, C, size, size] to logits [P, classes, 1, 1].
        image: images [N, C, H, W].
        labels: label of the middle pixel of each patch, [N, H - size + 1, W - size + 1].
        size: height and width of a patch in px, equal to the receptive field of the network.

    Returns:
        The loss, a scalar.
    """
    patches = image.unfold(2, size, 1).unfold(3, size, 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    return summed_loss(network(patches), labels.reshape(-1, 1, 1))


def masked_batch_size(images: int, keep: float) -> int:
    """Compute the batch size that has as many pixels under a random mask as ``images`` images have without one.

    Args:
        images: batch size without a mask.
        keep: probability of keeping a pixel, above 0, at most 1; see :func:`medpos.losses.dense.random_mask`.

    Returns:
        The batch size, rounded.

    Raises:
        InputError: ``keep`` is out of range.
    """
    check_keep(keep)
    return round(images / keep)
