"""Measure how well single objects, such as cells, are found and separated.

An instance map holds 0 for the background and one number for each object, in any order and with any gaps.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medpos.core.errors import InputError
from medpos.metrics.confusion import same_shape

InstanceMap = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def components(mask: npt.ArrayLike, connectivity: int = 1) -> npt.NDArray[np.int32]:
    """Number the connected components of a mask.

    Args:
        mask: mask [X, Y] or [X, Y, Z], not 0 inside.
        connectivity: greatest number of axes along which neighbors differ: with 1, pixels touch by their sides, with 2
            also by their edges (in an image: corners), with 3 also by the corners of voxels.

    Returns:
        Instance map of the same shape, with the numbers 1, 2 and so on.

    Raises:
        InputError: a connectivity below 1 or above the number of axes.
    """
    inside = np.asarray(mask) != 0
    if not 1 <= connectivity <= inside.ndim:
        raise InputError(
            f"connectivity: expected 1 to {inside.ndim} for a mask of shape {inside.shape}, got "
            f"{connectivity}; choose one of these"
        )
    numbers = np.empty(inside.shape, np.int32)
    ndimage.label(inside, ndimage.generate_binary_structure(inside.ndim, connectivity), output=numbers)
    return numbers


def seg_measure(prediction: InstanceMap, truth: InstanceMap) -> float:
    """Compute SEG of the Cell Tracking Challenge: the mean Jaccard index of the true objects with their matches.

    A true object's match is the predicted object that covers more than half of it, of which there is one at most; an
    object without a match counts as 0. A predicted object without a match has no influence.

    Args:
        prediction: predicted instance map of any shape.
        truth: true instance map of the same shape.

    Returns:
        SEG, 0 to 1, 1 is best; NaN without true objects.

    Raises:
        InputError: the shapes differ, or an array isn't an instance map.

    Reference:
        M. Maska et al., "A benchmark for comparison of cell tracking algorithms", Bioinformatics 30(11), 2014.
    """
    true, predicted, common = _overlaps(prediction, truth)
    true_size, predicted_size = (sizes[which] for sizes, which in (_sizes(true, common), _sizes(predicted, common)))
    matched = (true > 0) & (predicted > 0) & (2 * common > true_size)
    jaccard = common[matched] / (true_size + predicted_size - common)[matched]
    objects = np.unique(true[true > 0]).size
    return float(jaccard.sum() / objects) if objects else float("nan")


def pixel_error(prediction: InstanceMap, truth: InstanceMap) -> float:
    """Compute the share of pixels that are object in one map and background in the other.

    Args:
        prediction: predicted instance map (or mask) of any shape.
        truth: true instance map (or mask) of the same shape.

    Returns:
        Pixel error, 0 to 1, 0 is best; NaN without pixels.

    Raises:
        InputError: different shapes.

    Reference:
        I. Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for connectomics",
        Front. Neuroanat. 9:142, 2015 (the pixel error of the EM segmentation challenge).
    """
    predicted, true = same_shape(prediction, truth)
    return float(np.mean((predicted != 0) != (true != 0))) if true.size else float("nan")


def adapted_rand_error(prediction: InstanceMap, truth: InstanceMap) -> float:
    """Compute 1 - F of the pairs of pixels that belong to one object: low where no object is split or merged.

    Pixels of the true background are left out. The predicted background within true objects counts as one more object.
    So a single object that was missed completely gives no error: read this score together with SEG.

    Args:
        prediction: predicted instance map of any shape.
        truth: true instance map of the same shape.

    Returns:
        Error, 0 to 1, 0 is best; NaN without a pair, and so without true objects.

    Raises:
        InputError: the shapes differ, or an array isn't an instance map.

    Reference:
        As :func:`pixel_error`. Pairs are of two different pixels, as in ``skimage.metrics.adapted_rand_error``; the
        CREMI challenge's own script instead counts each pixel of the predicted background as an object of its own.
    """
    true, predicted, common = _overlaps(prediction, truth)
    inside = true > 0
    true, predicted, common = true[inside], predicted[inside], common[inside]
    either = _pairs(_sizes(true, common)[0]) + _pairs(_sizes(predicted, common)[0])
    return 1 - 2 * _pairs(common) / either if either else float("nan")


def match_boxes(prediction: InstanceMap, truth: InstanceMap, threshold: float = 0.5) -> Floats:
    """Match the bounding boxes of predicted and true objects by their intersection over union (IoU).

    Pairs are matched in the order of their IoU, the greatest first, each box once, because boxes may overlap.

    Args:
        prediction: predicted instance map [X, Y] or [X, Y, Z].
        truth: true instance map of the same shape.
        threshold: IoU above which a predicted box is right, above 0, below 1.

    Returns:
        IoU of each matched pair, in pixels of the boxes, the greatest first.

    Raises:
        InputError: the shapes differ, or an array isn't an instance map.

    Reference:
        M. Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 88(2), 2010, section 4.2 (more
        than half; VOC takes the predictions in the order of their confidence, which label maps lack).
    """
    predicted, true = (_boxes(values) for values in _instance_maps(prediction, truth))
    predicted = predicted[np.argsort(predicted[:, 0, 0], kind="stable")]
    pairs = [(iou, n, m) for n, box in enumerate(true) for m, iou in _near(box, predicted, threshold)]
    taken_true, taken_predicted, matched = set[int](), set[int](), []
    for iou, n, m in sorted(pairs, reverse=True):
        if n not in taken_true and m not in taken_predicted:
            taken_true.add(n)
            taken_predicted.add(m)
            matched.append(iou)
    return np.array(matched, np.float64)


def _boxes(instances: InstanceMap) -> Counts:
    """Find the bounding box of every object, as first pixel and last pixel + 1 along each axis [objects, 2, axes]."""
    if instances.max(initial=0) > instances.size:  # a list of as many boxes would be too long
        instances = np.unique(np.append(instances, 0), return_inverse=True)[1][:-1].reshape(instances.shape)
    found = [box for box in ndimage.find_objects(instances) if box is not None]
    ends = [[[side.start for side in box], [side.stop for side in box]] for box in found]
    return np.array(ends, np.int64).reshape(-1, 2, instances.ndim)


def _near(box: Counts, others: Counts, threshold: float) -> list[tuple[int, float]]:
    """Return index and IoU of each box whose IoU with the first is above the threshold; sorted by their first rows."""
    # The IoU along an axis is at least that of the boxes, which limits where the others begin.
    begin, side = box[0, 0], box[1, 0] - box[0, 0]
    starts = others[:, 0, 0]
    first = int(np.searchsorted(starts, begin + side - side / threshold, "left"))
    last = int(np.searchsorted(starts, begin + side - side * threshold, "right"))
    others = others[first:last]
    common = np.minimum(box[1], others[:, 1]) - np.maximum(box[0], others[:, 0])
    both = np.maximum(common, 0).prod(axis=1)
    iou = both / ((box[1] - box[0]).prod() + (others[:, 1] - others[:, 0]).prod(axis=1) - both)
    return [(first + int(m), float(iou[m])) for m in np.flatnonzero(iou > threshold)]


def _overlaps(prediction: InstanceMap, truth: InstanceMap) -> tuple[Counts, Counts, Counts]:
    """Return true object (0: background), predicted object and common pixels of all pairs that share a pixel."""
    predicted, true = _instance_maps(prediction, truth)
    width = int(predicted.max(initial=0)) + 1
    pairs, common = np.unique(true.ravel().astype(np.int64) * width + predicted.ravel(), return_counts=True)
    return pairs // width, pairs % width, common


def _instance_maps(prediction: InstanceMap, truth: InstanceMap) -> tuple[InstanceMap, InstanceMap]:
    """Check two instance maps."""
    predicted, true = same_shape(prediction, truth)
    for name, values in (("prediction", predicted), ("truth", true)):
        if values.dtype.kind not in "iub" or (values.size and values.min() < 0):
            raise InputError(
                f"{name}: expected integers from 0 (background) upward, got {values.dtype} from "
                f"{values.min() if values.size else 'no pixel'}; give an instance map"
            )
    return predicted, true


def _sizes(objects: Counts, common: Counts) -> tuple[Counts, Counts]:
    """Return the pixels of each object, and the index of each pair's object."""
    _, which = np.unique(objects, return_inverse=True)
    return np.bincount(which, common).astype(np.int64), which


def _pairs(sizes: Counts) -> float:
    """Count the pairs of pixels within groups of these sizes, each in both orders."""
    return float((sizes * (sizes - 1.0)).sum())
