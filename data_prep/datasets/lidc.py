"""Prepare lung nodules in CT: LIDC-IDRI (Armato et al., Medical Physics 38(2), 2011), one cube a nodule.

A series is a folder of DICOM files with one XML file: ``LIDC-IDRI-0001/STUDY/SERIES/000001.dcm`` and ``069.xml``. In
the XML up to four readers outline nodules of 3 mm and more, slice by slice; the pixels of an outline lie just outside
the nodule. XML files of X-rays, and marks of smaller nodules, are left out.

Outlines that overlap in a slice are one nodule; it is taken if at least two readers outlined it, and a pixel is part of
it where at least half of these readers say so. As in the UNet++ paper each nodule becomes a cube of 64 pixels, around
its middle, at 1 mm; what lies outside of the scan is air.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, cast
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import affine_transform

from data_prep.files import Array
from data_prep.layout import Case, Dataset, Volume, prepare_dataset
from data_prep.published import describe_shortfall
from medpos.core import labels
from medpos.core.errors import InputError
from medpos.core.files import read_bytes
from medpos.data.schema import is_phantom
from medpos.io.dicom import read_dicom
from medpos.io.dicom.segmentation import SegTarget
from medpos.io.scan import Scan

WEIGHTS = (8, 1, 1)  # a choice of this project, of patients: the UNet++ paper states none
PATIENTS = 1010
SIDE = 64  # pixels of 1 mm
READERS = 2
AIR = -1000.0
DESCRIPTION = "Lung nodules in chest CT (LIDC-IDRI) in Hounsfield units, a cube of 64 mm around each."
_PATIENT = re.compile(r"LIDC-IDRI-\d{4}")


class Outline(NamedTuple):
    """Hold the outline of a nodule in one slice.

    Args:
        reader: number of the reader, from 0.
        mark: number of the nodule among those of the reader, from 0.
        slice_uid: SOP Instance UID of the slice.
        points: (column, row) of each pixel of the outline, in order.
        included: False where the outline encloses a hole in the nodule.
    """

    reader: int
    mark: int
    slice_uid: str
    points: tuple[tuple[int, int], ...]
    included: bool


def prepare(source: Path, out: Path, seed: int = 0, workers: int = 1, strict: bool = False) -> str:
    """Prepare LIDC-IDRI with the arguments of ``python -m data_prep lidc``, and return one line about it."""
    dataset = Dataset("lidc", DESCRIPTION, labels.NODULE, WEIGHTS, None, is_phantom(source), ("CT",))
    cases = find_cases(source)
    done = prepare_dataset(dataset, cases, out, seed, workers, strict)
    return done + describe_shortfall({"patients": len({case.subject for case in cases})}, {"patients": PATIENTS})


def find_cases(source: Path) -> list[Case]:
    """List the nodules of all series below ``source``.

    Raises:
        InputError: there is no series with an XML file, one can't be read, or none has a nodule.
    """
    cases = []
    files = sorted(source.rglob("*.xml"))
    for path in files:
        slices = sorted(path.parent.glob("*.dcm"))
        nodules = group_nodules(read_outlines(path))
        if not slices or not nodules:
            continue
        patient = next((part for part in reversed(path.parts) if _PATIENT.fullmatch(part)), path.parent.name)
        sources = {"outlines": path, **{f"slice_{number:04d}": file for number, file in enumerate(slices, 1)}}
        series = f"{patient}_{path.stem}"
        cases += [
            Case(f"{series}_{number + 1}", patient, sources, read_case, {"nodule": number})
            for number in range(len(nodules))
        ]
    if not cases:
        raise InputError(
            f"{source}: expected folders of DICOM files with the XML file of their nodules, found {len(files)} XML "
            "files and no nodule of two readers; check the path."
        )
    return cases


def read_outlines(path: Path) -> list[Outline]:
    """Read the outlines in an XML file; none of an X-ray's.

    Raises:
        InputError: the file is damaged.
    """
    try:
        root = ElementTree.fromstring(read_bytes(path))
        if not root.tag.endswith("LidcReadMessage"):
            return []
        return [
            Outline(
                reader,
                mark,
                (region.findtext("{*}imageSOP_UID") or "").strip(),
                tuple((int(p.findtext("{*}xCoord") or ""), int(p.findtext("{*}yCoord") or "")) for p in points),
                (region.findtext("{*}inclusion") or "").strip().upper() != "FALSE",
            )
            for reader, session in enumerate(root.iterfind("{*}readingSession"))
            for mark, nodule in enumerate(session.iterfind("{*}unblindedReadNodule"))
            for region in nodule.iterfind("{*}roi")
            if len(points := region.findall("{*}edgeMap")) > 2  # a smaller nodule has a point
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path}: expected the XML file of a series ({error}); download it again.") from error


def group_nodules(outlines: Sequence[Outline]) -> list[list[Outline]]:
    """Group outlines to nodules, in the order of the file, and leave out those of a single reader.

    Outlines of different readers are of one nodule if their bounding boxes overlap in a slice.
    """
    groups: list[list[Outline]] = []
    for outline in outlines:
        touching = [n for n, group in enumerate(groups) if any(_belong(outline, other) for other in group)]
        merged = [*(other for n in touching for other in groups[n]), outline]
        place = touching[0] if touching else len(groups)
        groups = [*groups[:place], merged, *(groups[n] for n in range(place, len(groups)) if n not in touching)]
    return [group for group in groups if len({outline.reader for outline in group}) >= READERS]


def _belong(one: Outline, other: Outline) -> bool:
    if one.reader == other.reader:
        return one.mark == other.mark
    if one.slice_uid != other.slice_uid:
        return False
    boxes = [np.array([np.min(outline.points, axis=0), np.max(outline.points, axis=0)]) for outline in (one, other)]
    return bool((boxes[0][0] <= boxes[1][1]).all() and (boxes[1][0] <= boxes[0][1]).all())


def read_case(case: Case) -> Volume:
    """Read one nodule.

    Returns:
        Image (64, 64, 64) float32 in Hounsfield units, pixels of 1 mm; label likewise: 1 nodule.

    Raises:
        InputError: a slice or the XML file is damaged, the slices form no volume, or an outlined slice is missing.
    """
    path = case.sources["outlines"]
    scan = read_dicom([file for role, file in case.sources.items() if role.startswith("slice")], modalities=("CT",))
    nodule = group_nodules(read_outlines(path))[case.options["nodule"]]
    if scan.spacing_mm is None:
        raise InputError(f"{path}: expected a pixel spacing in the slices beside it, got none; download them again.")
    mask = draw_nodule(nodule, _slice_numbers(scan), scan.values.shape, path)
    spacing = np.array(scan.spacing_mm)
    middle = np.array([(np.min(part) + np.max(part)) / 2 for part in np.nonzero(mask)])
    start = middle - (SIDE - 1) / 2 / spacing
    image: Array = affine_transform(scan.values, 1 / spacing, start, (SIDE,) * 3, order=1, cval=AIR)
    label: Array = affine_transform(mask.astype(np.uint8), 1 / spacing, start, (SIDE,) * 3, order=0)
    affine = np.array(scan.target.affine, dtype=float)
    affine[:3, 3] += affine[:3, :3] @ start
    affine[:3, :3] /= spacing
    affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])  # a cube, even if the slices are shifted
    details = {"readers": len({outline.reader for outline in nodule})}
    return Volume(image, label, affine, (1.0, 1.0, 1.0), details)


def _slice_numbers(scan: Scan) -> dict[str, int]:
    headers = cast(SegTarget, scan.target).headers
    return {str(header.SOPInstanceUID): number for number, header in enumerate(headers)}


def draw_nodule(nodule: Iterable[Outline], numbers: dict[str, int], shape: tuple[int, ...], path: Path) -> Array:
    """Draw the pixels that at least half of the readers of a nodule include.

    Args:
        nodule: outlines of the nodule.
        numbers: number of each slice by its SOP Instance UID.
        shape: (X, Y, Z) of the scan.
        path: XML file, for messages.

    Raises:
        InputError: a slice is missing.
    """
    drawn: dict[int, Array] = {}
    for outline in sorted(nodule, key=lambda outline: not outline.included):  # holes last
        if outline.slice_uid not in numbers:
            raise InputError(
                f"{path}: expected its slice {outline.slice_uid} beside it, found none; download it again."
            )
        mask = drawn.setdefault(outline.reader, np.zeros(shape, bool))
        inside = fill(outline.points, shape[0], shape[1])
        plane = mask[:, :, numbers[outline.slice_uid]]
        plane[inside] = outline.included
    agreed: Array = 2 * np.sum(list(drawn.values()), axis=0) >= len(drawn)
    return agreed


def fill(points: Sequence[tuple[int, int]], columns: int, rows: int) -> Array:
    """Fill an outline, (columns, rows) bool; its own pixels don't count unless it encloses nothing."""
    picture = Image.new("L", (columns, rows))
    ImageDraw.Draw(picture).polygon(list(points), fill=1, outline=1)
    whole = np.array(picture).T > 0
    inside = whole.copy()
    for column, row in points:
        if 0 <= column < columns and 0 <= row < rows:
            inside[column, row] = False
    return inside if inside.any() else whole
