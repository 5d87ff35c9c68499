"""The memory of data_prep for each voxel is bounded, and what is computed part by part has the bits of the whole."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from running import measure_peaks

from data_prep import files, pictures, plausibility
from data_prep.custom import folder
from data_prep.custom.common import Options
from medpos.core import memory
from medpos.core.errors import InputError
from medpos.data.gray_values import compute_moments

MOST_BYTES = 20  # for each voxel of a file of up to 32 bits, as docs/how-to/own_data.md states

# The lowest of three: now and then one includes memory that the process has not given back yet.
PEAKS = """
import shutil
from data_prep.custom import folder
from data_prep.custom.common import Options

def prepare(place):
    folder.prepare(Path(place) / "images", Path(place) / "labels", ["1=organ"], [], Path(place) / "out", Options())
    shutil.rmtree(Path(place) / "out")

prepare(sys.argv[1])
print(*(min(peak(lambda: prepare(place)) for _ in range(3)) for place in sys.argv[2:]))
"""


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([-1.0, -1.0, 2.0, 1.0])), path)


def write_case(place, shape, kind=np.int16):
    """Write an image of noise and a label map of a cylinder."""
    x, y, _ = np.ogrid[tuple(slice(-side / 2, side / 2) for side in shape)]
    organ = np.broadcast_to(x**2 + y**2 < (0.4 * min(shape[:2])) ** 2, shape)
    save(place / "images" / "a.nii.gz", np.random.default_rng(0).normal(100 * organ, 30).astype(kind))
    save(place / "labels" / "a.nii.gz", organ.astype(np.uint8 if kind == np.int16 else kind))


def test_peak_memory_grows_by_a_stated_number_of_bytes_for_each_voxel(tmp_path):
    made = [(np.float32, 16), (np.int16, 32), (np.int16, 80), (np.float32, 32), (np.float32, 80)]
    for number, (kind, depth) in enumerate(made):
        write_case(tmp_path / str(number), (160, 160, depth), kind)
    small16, large16, small32, large32 = measure_peaks(PEAKS, *(tmp_path / str(n) for n in range(5)))
    found = [(large - small) / (160 * 160 * 48) for small, large in ((small16, large16), (small32, large32))]
    assert 3 < found[0] < found[1] < MOST_BYTES


@pytest.mark.parametrize("which", ["images", "labels"])
@pytest.mark.parametrize("kind", [".nii", ".nii.gz"])
def test_a_volume_above_the_limit_is_refused_before_it_is_read(which, kind, tmp_path, monkeypatch):
    write_case(tmp_path, (8, 8, 4))
    path = tmp_path / which / f"a{kind}"
    (tmp_path / which / "a.nii.gz").unlink()
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)).header
    header["dim"][1:4] = 900
    content = header.binaryblock + bytes(4)
    path.write_bytes(gzip.compress(content) if kind == ".nii.gz" else content)
    with pytest.raises(InputError, match=rf"{which}.a{kind}: expected at most .* got 900 x 900 x 900 px; reduce"):
        folder.prepare(tmp_path / "images", tmp_path / "labels", ["1=organ"], [], tmp_path / "out", Options())
    with pytest.raises(InputError, match="got 900 x 900 x 900 px"):
        (pictures.read_label if which == "labels" else files.read_nifti)(path)


@pytest.mark.parametrize("turn", [np.ascontiguousarray, np.asfortranarray, lambda a: np.swapaxes(a, 0, 1)])
@pytest.mark.parametrize("shape", [(41, 30, 17), (60, 45, 1), (12, 11, 9, 3)])
def test_sums_of_parts_are_those_of_the_whole_to_the_bit(shape, turn, monkeypatch):
    image = turn(np.random.default_rng(0).gamma(2.0, 100.0, shape).astype(np.float32))
    gray = image.astype(np.float64)
    wanted = {"count": gray.size, "sum": gray.sum(), "squares": np.square(gray).sum(), "min": gray.min()}
    monkeypatch.setattr(memory, "PART", 500)
    assert compute_moments(image) == {**wanted, "max": gray.max()}


def test_organs_are_measured_as_by_the_list_of_their_pixels():
    label = np.random.default_rng(0).integers(0, 40, (30, 20, 9))
    affine = np.array([[-1.2, 0.1, 0, 3], [0.2, -0.7, 0, 9], [0, 0, 3.3, -7], [0, 0, 0, 1]])
    for index in (1, 39, 40):
        places, organ = np.argwhere(label == index), plausibility._Organ.find(label, index)
        assert organ.size == len(places)
        if len(places):
            sides = (np.ptp(places, axis=0) + 1) * np.linalg.norm(affine[:3, :3], axis=0)
            assert organ.center == places.mean(axis=0).tolist()
            assert organ.longest_side(affine) == sides.max()


def test_a_volume_written_slice_by_slice_is_the_same_file():
    data, affine = np.random.default_rng(0).normal(size=(60, 50, 40)).astype(np.float32), np.diag([1.0, 2.0, 3.0, 1.0])
    header = nib.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_xyzt_units("mm")
    image = nib.Nifti1Image(data, affine, header)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    encoded = files.encode_nifti(data, affine)
    assert gzip.decompress(encoded) == image.to_bytes()
    assert encoded[10:] == gzip.compress(image.to_bytes(), files.GZIP_LEVEL, mtime=0)[10:]  # without the header
