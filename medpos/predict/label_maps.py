"""Bring probabilities from the network's grid to label maps on the image's grid."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from medpos.io.scan import Array, Pixels
from medpos.transforms.spatial.resampled import find_borders


def resample(volume: torch.Tensor, plane: Sequence[int]) -> torch.Tensor:
    """Resample a volume to other X and Y, bilinearly and with antialiasing.

    Args:
        volume: values [C, x, y] or [C, x, y, z].
        plane: new X and Y in pixels.

    Returns:
        Values [C, X, Y] or [C, X, Y, z].
    """
    images = volume[..., None] if volume.ndim == 3 else volume
    planes = images.permute(3, 0, 1, 2).contiguous()
    resized = functional.interpolate(planes, size=tuple(plane), mode="bilinear", antialias=True).permute(1, 2, 3, 0)
    return resized[..., 0] if volume.ndim == 3 else resized


def undo_centering(probabilities: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Cut the padding of a square off, and add the borders that were cut away, as background.

    Args:
        probabilities: probabilities [classes, x, y] or [classes, x, y, z] on the square.
        size: X and Y of the image before :class:`medpos.transforms.Resampled` padded and cropped it, in pixels.

    Returns:
        Probabilities [classes, X, Y] or [classes, X, Y, z].
    """
    (left, right), (top, bottom) = find_borders(size, probabilities.shape[1:3])
    amounts = [*[0, 0] * (probabilities.ndim - 3), -top, -bottom, -left, -right]
    background, others = probabilities[:1], probabilities[1:]
    return torch.cat([functional.pad(background, amounts, value=1.0), functional.pad(others, amounts)])


def compute_label_map(probabilities: torch.Tensor, shape: Sequence[int]) -> Pixels:
    """Compute the most probable class of each pixel of an image.

    Args:
        probabilities: probabilities [classes, x, y] or [classes, x, y, z] on the network's grid.
        shape: shape X, Y, Z of the image.

    Returns:
        Label map [X, Y, Z], uint8; the lower class where probabilities are equal.
    """
    result = np.empty(tuple(shape), np.uint8)
    for z in range(shape[2]):
        best: torch.Tensor | None = None
        # One class at a time: all classes of a large image would fill the memory.
        for index in range(len(probabilities)):
            values = resample_plane(probabilities, index, z, shape[:2])
            if best is None:
                best, chosen = values, torch.zeros(values.shape, dtype=torch.uint8)
            else:
                chosen[values > best] = index
                best = torch.maximum(best, values)
        result[..., z] = chosen.numpy()
    return result


def resample_plane(probabilities: torch.Tensor, index: int, z: int, plane: Sequence[int]) -> torch.Tensor:
    """Resample the probabilities of one class in one slice.

    Args:
        probabilities: probabilities [classes, x, y] or [classes, x, y, z] on the network's grid.
        index: index of the class.
        z: index of the slice.
        plane: X and Y of the image in pixels.

    Returns:
        Probabilities [X, Y].
    """
    values = probabilities[index] if probabilities.ndim == 3 else probabilities[index, ..., z]
    return values if values.shape == tuple(plane) else resample(values[None], plane)[0]


def compute_probability_map(probabilities: torch.Tensor, shape: Sequence[int]) -> Array:
    """Resample all probabilities to the image's grid.

    Args:
        probabilities: probabilities [classes, x, y] or [classes, x, y, z] on the network's grid.
        shape: shape X, Y, Z of the image.

    Returns:
        Probabilities [X, Y, Z, classes], float32.
    """
    result = np.empty((*shape, len(probabilities)), np.float32)
    for z in range(shape[2]):
        for index in range(len(probabilities)):
            result[:, :, z, index] = resample_plane(probabilities, index, z, shape[:2]).numpy()
    return result
