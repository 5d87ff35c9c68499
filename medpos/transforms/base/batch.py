"""Transform a whole batch of images at once by the transforms of single items.

A batch [N, C, X, Y] is transformed as one volume [C, X, Y, N] with its images as the slices, because most transforms
treat the slices of a volume apart. So there is one definition of each transform, for images, volumes and batches.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.transforms import CastToTyped, NormalizeIntensityd, ScaleIntensityRanged, SqueezeDimd
from torch import Tensor

from medpos.transforms.base.lift import Lifted

Step = Callable[[Any], Any]


def is_by_slice(step: Step) -> bool:
    """Tell whether a transform treats the slices of a volume apart, so that it may transform a batch."""
    if isinstance(step, Lifted):
        return step.by_slice
    if isinstance(step, NormalizeIntensityd):
        how = step.normalizer
        return how.subtrahend is not None and how.divisor is not None and not how.nonzero
    if isinstance(step, SqueezeDimd):
        return bool(step.converter.dim == 0)
    return isinstance(step, CastToTyped | ScaleIntensityRanged)


def transform_batch(
    steps: Sequence[Step], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Transform a batch by steps that treat the slices of a volume apart.

    Args:
        steps: transforms of items, each of which :func:`is_by_slice`.
        tensors: entries of the batch, such as ``image`` [N, C, X, Y].
        about: other entries that a transform may read: the test condition, the same for all images, and ``case``, the
            list of their names.

    Returns:
        The transformed entries, [N, ...], contiguous.
    """
    item: Any = {**about, **{key: tensor.movedim(0, -1) for key, tensor in tensors.items()}}
    for step in steps:
        item = step(item)
    return {key: value.movedim(-1, 0).contiguous() for key, value in item.items() if isinstance(value, Tensor)}
