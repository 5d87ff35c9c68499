"""Write tiny raw downloads in their genuine formats."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

BOXES = {  # rows, columns in SCR's 1024 x 1024 pixels; the heart overlaps both lungs
    "right lung": (slice(200, 700), slice(100, 400)),
    "left lung": (slice(200, 640), slice(600, 900)),
    "heart": (slice(500, 700), slice(380, 640)),
    "right clavicle": (slice(180, 220), slice(150, 350)),
    "left clavicle": (slice(180, 220), slice(650, 850)),
}
GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
SHAPE = (12, 10, 4)


def img(path: Path, gray: int = 1000) -> Path:
    """Make an X-ray of one gray value with a dense spot at the image's top left (upper right of the patient)."""
    dense = np.full((2048, 2048), gray, ">u2")
    dense[:16, :32] = 4000
    path.parent.mkdir(parents=True, exist_ok=True)
    (4095 - dense).astype(">u2").tofile(path)
    return path


def gif(path: Path, organ: str, side: int = 1024) -> Path:
    mask = np.zeros((side, side), np.uint8)
    mask[BOXES[organ]] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path


def jsrt(root: Path, cases: int = 1, clavicles: bool = False) -> tuple[Path, Path]:
    """Write JSRT and SCR in their download layouts and return the two folders."""
    for number in range(1, cases + 1):
        img(root / "All247images" / f"JPCLN{number:03d}.IMG", 900 + 10 * number)
        for organ in list(BOXES)[: 5 if clavicles else 3]:
            gif(root / "scratch" / f"fold{2 - number % 2}" / "masks" / organ / f"JPCLN{number:03d}.gif", organ)
    return root / "All247images", root / "scratch"


def label() -> np.ndarray:
    volume = np.zeros(SHAPE, np.uint8)
    volume[1:4, 2:8], volume[4:10, 2:8], volume[5:9, 3:7] = 1, 2, 3
    return volume


def nifti(path: Path, data: np.ndarray, spacing: tuple[float, ...] = (1.5, 1.5, 10.0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([*spacing, 1.0])), path)
    return path


def subject(folder: Path, group: str = "NOR", seed: int = 0) -> Path:
    """Write one ACDC subject, frames 1 and 7, without the optional keys of Info.cfg."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text(f"ED: 1\nES: 7\nGroup: {group}\n")
    for frame in ("01", "07"):
        nifti(folder / f"{folder.name}_frame{frame}.nii.gz", rng.integers(0, 400, SHAPE).astype(np.int16))
        nifti(folder / f"{folder.name}_frame{frame}_gt.nii.gz", label())
    return folder


def acdc(root: Path, subjects: int = 5) -> Path:
    for number in range(subjects):
        subject(root / f"patient{number + 1:03d}", GROUPS[number % 5], number)
    return root


def tree(folder: Path) -> dict[str, bytes]:
    """Read every file below ``folder``, by relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


Damage = Callable[[Path], None]
