"""Doubt a prepared data set: organs on the wrong side, masks that don't fit their images, phases in the wrong order.

Each case is measured where it is read (:func:`measure`), and the measures of all cases are judged together
(:func:`find_doubts`, :func:`find_untaught`). A doubt is a warning, because an unusual patient can look like a mistake.
The thresholds were chosen so that 28 real chest X-rays, 80 real hearts, 598 real images of nuclei and all phantoms
raise none, but for the one true copy among the hearts.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medpos.core.memory import PART

Array = npt.NDArray[Any]
Json = dict[str, Any]
Measured = tuple[Json, Json]  # entry of a case in dataset.json, and its measures

_FEW_VALUES = 12  # an image with at most this many values is taken for a mask
_LEAST_PIXELS = 256
_MARGIN = 16  # pixels around the organs in which an outline should lie on the strongest edges
_BETTER = 0.015  # a mask that is turned or mirrored agrees at most this much better if it is right as it is
_BETTER_MOVED = 0.05
_MOVES = (8, 16, 32)  # pixels
_LEAST_OUTLINE = 100  # pixels
_SLICES = 16  # of a volume, evenly spaced, whose outlines are compared
_COVERED = 0.5  # share of the image's border that is foreground in an inverted mask
# Extent (mm) or volume (ml) of an organ: from far below to far above what is found in adults.
_EXTENT_MM = {"right_lung": (90, 450), "left_lung": (90, 450), "heart": (50, 350)}
_VOLUME_ML = {"lv_cavity": (1, 900), "rv_cavity": (1, 900), "myocardium": (10, 900)}


def measure(image: Array, label: Array, affine: Array, names: Mapping[int, str]) -> Json:
    """Measure what :func:`find_doubts` judges.

    Args:
        image: gray values (X, Y, Z) or (X, Y, Z, C).
        label: class indices (X, Y, Z).
        affine: (4, 4), voxel indices to RAS+ mm.
        names: names of the classes by index.
    """
    organs = {name: _Organ.find(label, index) for index, name in names.items() if index and name != "void"}
    organs = {name: organ for name, organ in organs.items() if organ.size}
    border = np.concatenate([label[0].ravel(), label[-1].ravel(), label[:, 0].ravel(), label[:, -1].ravel()])
    chosen = np.unravel_index(np.arange(0, image.size, 1 + image.size // 10_000), image.shape)
    sampled = np.unique(image[chosen])
    digest = hashlib.sha256()
    for plane in label:
        digest.update(plane.tobytes())
    return {
        "label_sha256": digest.hexdigest(),
        "few_values": bool(image.size > _LEAST_PIXELS and len(sampled) <= _FEW_VALUES),
        "border": float(np.mean(border > 0)),
        "is_oriented": not np.allclose(affine, np.eye(4)),
        "has_size": not np.allclose(np.abs(affine), np.eye(4)),  # pictures state none, and count as 1 mm a pixel
        "places_mm": {name: (affine @ [*organ.center, 1])[:3].tolist() for name, organ in organs.items()},
        "extents_mm": {name: organ.longest_side(affine) for name, organ in organs.items()},
        "volumes_ml": {n: o.size * abs(float(np.linalg.det(affine[:3, :3]))) / 1000 for n, o in organs.items()},
        "in_muscle": {name: _in_muscle(label, names, name) for name in ("lv_cavity", "rv_cavity") if name in organs},
        # In photographs other edges are stronger than those of the objects.
        "agreement": _agreement(image, label) if image.ndim == 3 else {},
    }


@dataclass(frozen=True, eq=False)
class _Organ:
    """Hold how many pixels of an organ lie at each place along each axis."""

    counts: tuple[Array, ...]

    @classmethod
    def find(cls, label: Array, index: int) -> "_Organ":
        """Count the pixels of a class."""
        inside = label == index
        others = [tuple(other for other in range(inside.ndim) if other != axis) for axis in range(inside.ndim)]
        return cls(tuple(np.count_nonzero(inside, axis=axes) for axes in others))

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(self.counts[0].sum())

    @property
    def center(self) -> list[float]:
        """Mean place along each axis."""
        return [float(np.arange(len(count)) @ count / self.size) for count in self.counts]

    def longest_side(self, affine: Array) -> float:
        """Return the longest side in mm of the bounding box."""
        filled = [np.flatnonzero(count) for count in self.counts]
        sides = np.array([places[-1] - places[0] + 1 for places in filled]) * np.linalg.norm(affine[:3, :3], axis=0)
        return float(sides.max())


def _in_muscle(label: Array, names: Mapping[int, str], cavity: str) -> float:
    """Return the share of a cavity's outline, in the slices, that touches the myocardium, 0 to 1."""
    index = {name: number for number, name in names.items()}
    muscle = index.get("myocardium", -1)
    touching = total = 0
    for plane in np.moveaxis(label, 2, 0):
        for one, other in ((plane[1:], plane[:-1]), (plane[:, 1:], plane[:, :-1])):
            for inner, outer in ((one, other), (other, one)):
                outline = (inner == index[cavity]) & (outer != index[cavity])
                touching += int(np.count_nonzero(outline & (outer == muscle)))
                total += int(np.count_nonzero(outline))
    return float(touching / total) if total else 0.0


def _agreement(image: Array, label: Array) -> Json:
    """Return how strong the edges are under the outlines of a label map, and of its mirrored, turned and moved copies.

    Returns:
        Mean rank, 0 to 1, of the gradient's magnitude among the pixels around the organs, by the name of the copy;
        empty where the outline is too short to tell.
    """
    filled = np.flatnonzero(label.any(axis=(0, 1)))
    chosen = filled[np.unique(np.linspace(0, len(filled) - 1, _SLICES).round().astype(int))] if len(filled) else filled
    label = label[..., chosen]
    outline = _outline(label)
    if np.count_nonzero(outline) < _LEAST_OUTLINE:
        return {}
    sides = [np.flatnonzero(label.any(axis=axes)) for axes in ((1, 2), (0, 2))]
    window = tuple(slice(max(int(side[0]) - _MARGIN, 0), int(side[-1]) + 1 + _MARGIN) for side in sides)
    inside = np.stack([_edges(image[..., z].astype(np.float32))[window] for z in chosen], axis=2)
    order = inside.ravel().argsort()
    found = np.empty(inside.size, np.float32)
    for first in range(0, inside.size, PART):
        found[order[first : first + PART]] = np.arange(first, min(first + PART, inside.size)) / inside.size
    ranks = np.full(label.shape, np.nan, np.float32)
    ranks[window] = found.reshape(inside.shape)
    return {name: _mean_rank(ranks, copy) for name, copy in _copies(outline)}


def _edges(plane: Array) -> Array:
    """Return the magnitude of the gradient of an image (X, Y)."""
    steps = [np.gradient(plane, axis=axis) for axis in (0, 1) if plane.shape[axis] > 1]
    return np.sqrt(sum((np.square(step) for step in steps), np.zeros_like(plane)))


def _outline(label: Array) -> Array:
    out = np.zeros(label.shape, bool)
    out[1:] |= label[1:] != label[:-1]
    out[:, 1:] |= label[:, 1:] != label[:, :-1]
    return out


def _copies(outline: Array) -> Iterator[tuple[str, Array]]:
    yield "as it is", outline
    yield "mirrored left to right", outline[::-1]
    yield "mirrored top to bottom", outline[:, ::-1]
    if outline.shape[0] == outline.shape[1]:
        yield "transposed", outline.swapaxes(0, 1)
    for pixels in _MOVES:
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            yield f"moved by {x * pixels}, {y * pixels} px", np.roll(outline, (x * pixels, y * pixels), axis=(0, 1))


def _mean_rank(ranks: Array, outline: Array) -> float:
    """Return the mean rank under an outline; pixels far from the organs count as the middle."""
    found = ranks[outline]
    return float(np.nan_to_num(found, nan=0.5).mean())


def find_doubts(cases: Sequence[Measured]) -> list[str]:
    """Find what is implausible in a data set.

    Args:
        cases: entry of each case in ``dataset.json``, and its measures.

    Returns:
        A line for each doubt, beginning with the case.
    """
    doubts = [f"{entry['case']}: {doubt}" for entry, found in cases for doubt in _doubt_case(found)]
    return [*doubts, *_doubt_outlines(cases), *_doubt_borders(cases), *_doubt_phases(cases), *_doubt_copies(cases)]


def find_untaught(training: Sequence[Json], names: Mapping[int, str]) -> list[str]:
    """Find the classes that no training case shows.

    Args:
        training: measures of the training cases.
        names: names of the classes by index.

    Returns:
        A line that names them; nothing if every class has a pixel somewhere.
    """
    seen = {name for found in training for name in found["volumes_ml"]}
    untaught = [name for index, name in names.items() if index and name not in {*seen, "void"}]
    return [f"no training case has a pixel of {', '.join(untaught)}; a network can't learn it"] if untaught else []


def _doubt_case(found: Json) -> Iterator[str]:
    if found["few_values"]:
        yield "the image has a dozen values at most, as a mask has; is it the mask?"
    places = found["places_mm"]
    for organ in ("lung", "clavicle"):
        right, left = places.get(f"right_{organ}"), places.get(f"left_{organ}")
        # The patient's right side has the higher values of RAS+ x; a picture without geometry is seen from the front.
        if right and left and (right[0] < left[0]) == found["is_oriented"]:
            yield f"right and left {organ} have changed sides; is the image mirrored, or are the names?"
    touching = found["in_muscle"]
    if len(touching) == 2 and touching["rv_cavity"] > touching["lv_cavity"]:
        yield "the RV cavity is enclosed by the myocardium, the LV cavity is not; are the two classes swapped?"
    for limits, key, unit in ((_EXTENT_MM, "extents_mm", "mm"), (_VOLUME_ML, "volumes_ml", "ml")):
        for organ, (low, high) in limits.items():
            value = found[key].get(organ)
            if value is not None and found["has_size"] and not low <= value <= high:
                yield f"{organ} measures {value:.3g} {unit}, expected {low} to {high}; is the pixel size right?"


def _doubt_outlines(cases: Sequence[Measured]) -> Iterator[str]:
    """Doubt masks whose mirrored, turned or moved copies fit the image better."""
    for entry, found in cases:
        agreement = dict(found["agreement"])
        own = agreement.pop("as it is", None)
        if own is None or not agreement:
            continue
        excess = {
            name: value - own - (_BETTER_MOVED if "moved" in name else _BETTER) for name, value in agreement.items()
        }
        name = max(excess, key=lambda key: excess[key])
        if excess[name] > 0:
            yield f"{entry['case']}: the mask fits the edges of the image better when it is {name}; is it out of place?"


def _doubt_borders(cases: Sequence[Measured]) -> Iterator[str]:
    """Doubt masks that cover the border of the image where most others don't."""
    shares = [found["border"] for _, found in cases]
    if len(shares) < 3 or np.median(shares) > _COVERED / 2:
        return
    for entry, found in cases:
        if found["border"] > _COVERED:
            yield f"{entry['case']}: the mask covers {found['border']:.0%} of the image's border; is it inverted?"


def _doubt_phases(cases: Sequence[Measured]) -> Iterator[str]:
    """Doubt an end-diastole whose LV cavity is smaller than at end-systole, or whose mask is the same."""
    phases: dict[str, dict[str, Measured]] = {}
    for entry, found in cases:
        if entry.get("phase") in ("ED", "ES"):
            phases.setdefault(str(entry["subject"]), {})[entry["phase"]] = (entry, found)
    for subject, both in phases.items():
        if len(both) < 2:
            continue
        (_, first), (_, last) = both["ED"], both["ES"]
        volumes = [found["volumes_ml"].get("lv_cavity", 0.0) for found in (first, last)]
        if first["label_sha256"] == last["label_sha256"]:
            yield f"{subject}: the masks of ED and ES are the same; is one of them a copy?"
        elif volumes[0] < volumes[1]:
            held = f"{volumes[0]:.3g} ml at ED and {volumes[1]:.3g} ml at ES"
            yield f"{subject}: the LV cavity holds {held}; are the phases swapped?"


def _doubt_copies(cases: Sequence[Measured]) -> Iterator[str]:
    """Doubt images that occur twice."""
    counts = Counter(entry["image_sha256"] for entry, _ in cases)
    for image, count in counts.items():
        if count > 1:
            same = [str(entry["case"]) for entry, _ in cases if entry["image_sha256"] == image]
            yield f"{same[0]}: the same image as {', '.join(same[1:])}; is it a copy?"
