"""Draw phantoms of chest CT and write them like LIDC-IDRI: DICOM slices, and an XML file of the readers' outlines.

Lengths are in mm, x toward the patient's left and y to the back. Vessels are as bright as nodules and, cut across, as
round; a nodule ends after a few slices.
"""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter

from data_prep.phantoms.shapes import Mask, case_generator
from medpos.core.files import write_bytes
from medpos.io.dicom.library import import_pydicom

KIND = 23
SIDE, SLICES = 128, 28
PIXEL, GAP = 1.5, 2.5  # mm
READERS = 4
NAMESPACE = "http://www.nih.gov"
AIR, LUNG, TISSUE, FAT, BONE = -1000.0, -850.0, 40.0, -90.0, 400.0
CT_STORAGE, EXPLICIT_LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


class Ball(NamedTuple):
    """Place a nodule: (x, y, z) of its middle and its radius in mm."""

    middle: tuple[float, float, float]
    radius: float


def make_uid(*parts: object) -> str:
    """Make a UID from what it stands for, the same in every run."""
    return f"2.25.{int(hashlib.sha256(repr(parts).encode()).hexdigest()[:24], 16)}"


def _grid() -> tuple[NDArray[Any], ...]:
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in ((SIDE, PIXEL), (SIDE, PIXEL), (SLICES, GAP))]
    return tuple(np.meshgrid(*axes, indexing="ij"))


def draw(rng: np.random.Generator) -> tuple[NDArray[np.int16], list[Ball]]:
    """Draw one patient.

    Returns:
        Hounsfield units (128, 128, 28), and the nodules, one or two.
    """
    x, y, z = _grid()
    image = np.full(x.shape, AIR)
    image[(x / 96) ** 2 + (y / 80) ** 2 < 1] = FAT
    image[(x / 90) ** 2 + (y / 73) ** 2 < 1] = TISSUE
    image[((np.abs(x) - 44) / 36) ** 2 + (y / 58) ** 2 < 1] = LUNG
    image[(x / 16) ** 2 + ((y - 58) / 16) ** 2 < 1] = BONE
    for _ in range(70):  # vessels that run through the slices
        at, way = rng.uniform((-75, -50), (75, 50)), rng.normal(0, 0.5, 2)
        near = np.hypot(x - at[0] - way[0] * z, y - at[1] - way[1] * z) < rng.uniform(1.2, 3.5)
        image[near & (image == LUNG)] = TISSUE - 20
    balls = []
    for side in rng.permutation((-1, 1))[: rng.integers(1, 3)]:
        middle = (float(side * rng.uniform(32, 58)), float(rng.uniform(-30, 30)), float(rng.uniform(-16, 16)))
        balls.append(Ball(middle, float(rng.uniform(4, 11))))
        image[ball_mask(balls[-1])] = TISSUE
    noisy = gaussian_filter(image, (0.7, 0.7, 0.3)) + rng.normal(0, 25, image.shape)
    return np.rint(noisy.clip(-1024, 2000)).astype(np.int16), balls


def ball_mask(ball: Ball) -> Mask:
    """Return the pixels of a nodule, (128, 128, 28)."""
    x, y, z = (p - m for p, m in zip(_grid(), ball.middle, strict=True))
    inside: Mask = x**2 + y**2 + z**2 < ball.radius**2
    return inside


def _slice_bytes(plane: NDArray[np.int16], number: int, seed: int, patient: str) -> bytes:
    """Encode a slice (X, Y) as DICOM."""
    pydicom = import_pydicom()
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CT_STORAGE, EXPLICIT_LITTLE
    meta.MediaStorageSOPInstanceUID = make_uid(seed, patient, number)
    content = pydicom.Dataset()
    content.file_meta = meta
    content.SOPClassUID, content.SOPInstanceUID, content.Modality = CT_STORAGE, meta.MediaStorageSOPInstanceUID, "CT"
    content.PatientID, content.PatientName = patient, ""
    content.StudyInstanceUID, content.SeriesInstanceUID = (make_uid(seed, patient, k) for k in ("study", "series"))
    content.FrameOfReferenceUID = make_uid(seed, patient, "frame")
    content.InstanceNumber, content.SliceThickness = number + 1, GAP
    content.ImagePositionPatient = [-PIXEL * (SIDE - 1) / 2] * 2 + [GAP * (number - (SLICES - 1) / 2)]
    content.ImageOrientationPatient, content.PixelSpacing = [1, 0, 0, 0, 1, 0], [PIXEL, PIXEL]
    content.Rows, content.Columns = plane.shape[1], plane.shape[0]
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.BitsAllocated, content.BitsStored, content.HighBit, content.PixelRepresentation = 16, 16, 15, 0
    content.RescaleIntercept, content.RescaleSlope = -1024, 1
    content.PixelData = (plane.T.astype(np.int32) + 1024).astype("<u2").tobytes()
    buffer = BytesIO()
    content.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _add(parent: ElementTree.Element, tag: str, text: object = None) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, tag)
    child.text = None if text is None else str(text)
    return child


def _outline(mask: Mask) -> list[tuple[int, int]]:
    """List the pixels just outside a convex mask (X, Y), in order around it."""
    ring = np.argwhere(binary_dilation(mask, np.ones((3, 3), bool)) & ~mask)
    middle = np.argwhere(mask).mean(axis=0)
    order = np.argsort(np.arctan2(*(ring - middle).T[::-1]))
    return [(int(column), int(row)) for column, row in ring[order]]


def write_outlines(rng: np.random.Generator, balls: list[Ball], seed: int, patient: str) -> bytes:
    """Encode the outlines of four readers, who differ by a tenth of the radius; the last one misses every second."""
    root = ElementTree.Element("LidcReadMessage", {"uid": make_uid(seed, patient, "xml"), "xmlns": NAMESPACE})
    header = _add(root, "ResponseHeader")
    _add(header, "SeriesInstanceUid", make_uid(seed, patient, "series"))
    for reader in range(READERS):
        session = _add(root, "readingSession")
        _add(session, "servicingRadiologistID", f"anon-{reader}")
        small = _add(session, "unblindedReadNodule")  # a nodule below 3 mm: its middle alone
        _add(small, "noduleID", "small")
        _add_region(small, make_uid(seed, patient, 3), 3, [(50, 60)])
        for number, ball in enumerate(balls):
            if reader == READERS - 1 and number % 2:
                continue
            nodule = _add(session, "unblindedReadNodule")
            _add(nodule, "noduleID", f"Nodule {number + 1:03d}")
            mask = ball_mask(ball._replace(radius=ball.radius * float(rng.normal(1, 0.1))))
            for k in np.flatnonzero(mask.any(axis=(0, 1))):
                _add_region(nodule, make_uid(seed, patient, int(k)), int(k), _outline(mask[:, :, k]))
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root)


def _add_region(nodule: ElementTree.Element, uid: str, number: int, points: list[tuple[int, int]]) -> None:
    region = _add(nodule, "roi")
    _add(region, "imageZposition", GAP * (number - (SLICES - 1) / 2))
    _add(region, "imageSOP_UID", uid)
    _add(region, "inclusion", "TRUE")
    for column, row in points:
        edge = _add(region, "edgeMap")
        _add(edge, "xCoord", column)
        _add(edge, "yCoord", row)


def write_case(out: Path, seed: int, index: int) -> None:
    """Write patient ``index`` (from 0): the slices of one series, and the XML file.

    Args:
        out: folder that gets the layout of the download.
        seed: random seed, >= 0.
        index: number of the case, from 0 to 1009.
    """
    rng = case_generator(seed, KIND, index)
    image, balls = draw(rng)
    patient = f"LIDC-IDRI-{index + 1:04d}"
    folder = out / "LIDC-IDRI" / patient / make_uid(seed, patient, "study") / make_uid(seed, patient, "series")
    for number in range(SLICES):
        write_bytes(folder / f"{number + 1:06d}.dcm", _slice_bytes(image[:, :, number], number, seed, patient))
    write_bytes(folder / f"{index + 1:03d}.xml", write_outlines(rng, balls, seed, patient))
