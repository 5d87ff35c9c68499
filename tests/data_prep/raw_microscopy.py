"""Write tiny raw downloads with numbered objects in their genuine formats."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

NUCLEI = {
    "a.png": (slice(1, 5), slice(2, 6)),
    "b.png": (slice(4, 9), slice(5, 9)),
    "c.png": (slice(0, 2), slice(9, 12)),
}
SIZE = (10, 12)  # rows, columns


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def box(where: tuple[slice, slice], size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[where] = 255
    return mask


def nucleus_image(root: Path, name: str, seed: int = 0, color: bool = False, size: tuple[int, int] = SIZE) -> Path:
    """Write one image with three nuclei, of which a and b share one pixel."""
    rgb = np.random.default_rng(seed).integers(0, 256, (*size, 3 if color else 1), np.uint8) + np.zeros(3, np.uint8)
    save(root / name / "images" / f"{name}.png", np.dstack([rgb, np.full(size, 255, np.uint8)]))
    for mask, where in NUCLEI.items():
        save(root / name / "masks" / mask, box(where, size))
    return root / name


def nuclei(root: Path, images: int = 10) -> Path:
    for number in range(images):
        nucleus_image(root, f"id{number:02d}", number, color=number % 2 == 1)
    return root


def cell_frame(root: Path, sequence: str, time: str, gold: bool = True, seed: int = 0) -> None:
    """Write a frame with cells 3 and 300; the gold truth lacks the tracked cell 7, the silver truth has it."""
    home = root / sequence
    save(home / f"t{time}.tif", np.random.default_rng(seed).integers(0, 200, SIZE, np.uint8))
    numbers = np.zeros(SIZE, np.uint16)
    numbers[1:4, 1:5], numbers[4:8, 1:5] = 3, 300
    if gold:
        save(root / f"{sequence}_GT/SEG/man_seg{time}.tif", numbers)
    numbers[1:4, 8:11] = 7
    save(root / f"{sequence}_ST/SEG/man_seg{time}.tif", numbers)
    marks = np.zeros(SIZE, np.uint16)
    marks[2, 2], marks[5, 2], marks[2, 9] = 1, 2, 5
    save(root / f"{sequence}_GT/TRA/man_track{time}.tif", marks)


def cells(root: Path, frames: int = 10, digits: int = 3) -> Path:
    """Write two sequences with a gold truth of even frames."""
    for sequence in ("01", "02"):
        for time in range(frames):
            cell_frame(root, sequence, f"{time:0{digits}d}", time % 2 == 0, 10 * int(sequence) + time)
    return root


def zipped(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, Path(folder.name) / path.relative_to(folder))
    return archive
