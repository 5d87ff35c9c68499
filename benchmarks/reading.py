"""Reading images as ``predict`` and ``data_prep`` do: another commit of this repository, over this one.

python -m benchmarks.reading [--commit ac91261]
"""

import io
import subprocess
import sys
import tarfile
import tempfile
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from benchmarks.bundles import ROOT
from benchmarks.timing import begin, by_turns, options, row

# Runs with either commit: reads all images of a folder once for every line of its input, and prints the seconds.
WORKER = """
import sys, time
from pathlib import Path
from data_prep.pictures import read_image, read_label
from medpos.predict import inputs

find = getattr(inputs, "find_cases", None) or inputs.find  # as it was called up to commit ac91261
read = getattr(inputs, "read_case", None) or inputs.read

def predict(folder):
    for case in find([str(folder)], folder / "out"):
        read(case)

def data_prep(folder):
    for path in sorted(folder.iterdir()):
        read_image(path, 1)

def labels(folder):
    for path in sorted(folder.iterdir()):
        read_label(path)

for line in sys.stdin:
    name, folder = line.split(maxsplit=1)
    started = time.CLOCK()
    globals()[name](Path(folder.strip()))
    print(time.CLOCK() - started, flush=True)
"""


def write_nifti(path: Path, values: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(values.T[..., None], np.diag([-0.2, -0.2, 1, 1])), path.with_suffix(".nii.gz"))


def write_volume(path: Path, values: np.ndarray) -> None:
    slices = values.reshape(16, 256, 256).T
    nib.save(nib.Nifti1Image(slices, np.diag([-1.0, -1, 5, 1])), path.with_suffix(".nii.gz"))


def write_png(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path.with_suffix(".png"))


def write_palette(path: Path, values: np.ndarray) -> None:
    picture = Image.fromarray(values)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(path.with_suffix(".png"))


def write_tiff(path: Path, values: np.ndarray, compression: str, predictor: int) -> None:
    Image.fromarray(values).save(path.with_suffix(".tif"), compression=compression, tiffinfo={317: predictor})


def write_dicom(path: Path, values: np.ndarray) -> None:
    content = pydicom.Dataset()
    content.file_meta = pydicom.dataset.FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.SOPClassUID, content.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", generate_uid()
    content.SeriesInstanceUID, content.StudyInstanceUID = generate_uid(), generate_uid()
    content.Modality, content.PatientName, content.PixelSpacing = "CR", "A^B", [0.2, 0.2]
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.Rows, content.Columns = values.shape
    content.BitsAllocated, content.BitsStored, content.HighBit, content.PixelRepresentation = 16, 12, 11, 0
    content.PixelData = values.tobytes()
    content.save_as(path.with_suffix(".dcm"), enforce_file_format=True)


FORMATS = {
    "NIfTI, 1024 x 1024": (write_nifti, ("predict", "data_prep")),
    "NIfTI, 256 x 256 x 16": (write_volume, ("predict", "data_prep")),
    "PNG, 1024 x 1024, 16 bits": (write_png, ("predict", "data_prep")),
    "TIFF, LZW, 1024 x 1024, 16 bits": (
        partial(write_tiff, compression="tiff_lzw", predictor=2),
        ("predict", "data_prep"),
    ),
    "TIFF, deflate, 1024 x 1024, 16 bits": (
        partial(write_tiff, compression="tiff_adobe_deflate", predictor=2),
        ("predict", "data_prep"),
    ),
    "DICOM, 1024 x 1024": (write_dicom, ("predict",)),
}
LABELS = {
    "PNG, 1024 x 1024": write_png,
    "PNG with a palette, 1024 x 1024": write_palette,
    **{
        f"TIFF, {name}, predictor {predictor}, 1024 x 1024": partial(
            write_tiff, compression=compression, predictor=predictor
        )
        for name, compression in (("LZW", "tiff_lzw"), ("deflate", "tiff_adobe_deflate"))
        for predictor in (1, 2)
    },
}


# Both keep freed memory, as predict and data_prep do: else mapping it anew would count for more than the reading.
KEPT_MEMORY = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(2**30))


class Reader:
    """A process that reads with one version of the code."""

    def __init__(self, code: Path, clock: str) -> None:
        function = {"wall": "perf_counter", "cpu": "process_time"}[clock]
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER.replace("CLOCK", function)],
            cwd=code,
            env={"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", **KEPT_MEMORY},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, task: str, folder: Path) -> float:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{task} {folder}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def unpack(commit: str, folder: Path) -> Path:
    """Write the code of a commit to a folder."""
    packed = subprocess.run(["git", "archive", commit], check=True, capture_output=True, cwd=ROOT).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def make_image(random: np.random.Generator) -> np.ndarray:
    """Make gray values of 12 bits with noise."""
    return (np.add.outer(np.arange(1024), np.arange(1024)) + random.integers(0, 200, (1024, 1024))).astype(np.uint16)


def make_labels(random: np.random.Generator) -> np.ndarray:
    """Make a label map of three discs."""
    rows, columns = np.ogrid[:1024, :1024]
    labels = np.zeros((1024, 1024), np.uint8)
    for value in (1, 2, 3):
        y, x, radius = random.integers(200, 800), random.integers(200, 800), random.integers(80, 200)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = value
    return labels


def main() -> None:
    parser = options(__doc__, repeats=9)
    parser.add_argument("--commit", default="ac91261", help="the other commit")
    parser.add_argument("--images", type=int, default=20, help="images of each format")
    parser.add_argument("--only", default="", help="part of the names of the formats to measure")
    arguments = parser.parse_args()
    formats = [(name, write, make_image, tasks) for name, (write, tasks) in FORMATS.items()]
    formats += [(f"label map, {name}", write, make_labels, ("labels",)) for name, write in LABELS.items()]
    random = np.random.default_rng(0)
    begin(arguments)
    with tempfile.TemporaryDirectory() as work:
        readers = [
            Reader(unpack(arguments.commit, Path(work) / "other"), arguments.clock),
            Reader(ROOT, arguments.clock),
        ]
        for number, (name, write, make, tasks) in enumerate(formats):
            if arguments.only not in name:
                continue
            folder = Path(work) / str(number)
            folder.mkdir()
            for image in range(arguments.images):
                write(folder / f"c{image}", make(random))
            for task in tasks:
                before, now = (partial(reader.seconds, task, folder) for reader in readers)
                before(), now()  # libraries are imported, files are in the memory of the system
                ratios = by_turns(before, now, arguments.repeats)
                command = "data_prep" if task == "labels" else task
                row(f"{command}, reading {name}: {arguments.commit} / now", ratios, at_least=0.95)
        for reader in readers:
            reader.close()


if __name__ == "__main__":
    main()
