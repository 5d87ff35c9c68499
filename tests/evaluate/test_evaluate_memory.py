"""The memory of evaluate for each voxel is bounded."""

import numpy as np
from evaluate_making import save
from running import measure_peaks

MOST_BYTES = 24  # for each voxel, as docs/how-to/evaluate.md states

PEAKS = """
from medpos.core import memory
from medpos.evaluate import measuring
from medpos.evaluate.classes import read_classes
from medpos.evaluate.pairs import Case, Tool
from medpos.metrics import surface

# What is constant, and small beside a large volume.
memory.PART, surface._KEPT, measuring._CASE_PIXELS = 1 << 14, 0, 1 << 14

def evaluate(folder):
    folder = Path(folder)
    case = Case("a", "a", folder / "truth.nii.gz", (folder / "prediction.nii.gz",), "", folder / "image.nii.gz")
    measuring.measure_cases([case], [Tool("tool", folder)], read_classes("1=a"), measuring.Options(), lambda: None)

evaluate(sys.argv[1])
print(*(peak(lambda: evaluate(folder)) for folder in sys.argv[2:]))
"""


def ellipsoid(shape, shift):
    """Make a label map [X, Y, Z] of an organ with 16 px around it in the slices."""
    axes = np.ogrid[tuple(slice(0, side) for side in shape)]
    middle, radii = np.array(shape) / 2 + [shift, 0, 0], np.array(shape) / 2 - [18, 18, 0]
    return (sum(((axis - m) / r) ** 2 for axis, m, r in zip(axes, middle, radii, strict=True)) < 1).astype(np.uint8)


def test_peak_memory_grows_by_a_stated_number_of_bytes_for_each_voxel(tmp_path):
    folders = []
    for depth in (8, 16, 80):
        shape = (112, 112, depth)
        folders.append(tmp_path / str(depth))
        folders[-1].mkdir()
        save(folders[-1] / "truth.nii.gz", ellipsoid(shape, 0))
        save(folders[-1] / "prediction.nii.gz", ellipsoid(shape, 2).astype(np.float32))
        save(folders[-1] / "image.nii.gz", np.random.default_rng(0).integers(0, 999, shape).astype(np.int16))
    small, large = measure_peaks(PEAKS, *folders)
    assert 10 < (large - small) / (112 * 112 * 64) < MOST_BYTES
