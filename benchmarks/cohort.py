"""Measure the memory of ``medpos predict`` over a long cohort of phantoms: does it stay constant?

python -m benchmarks.cohort --images 2000 [--run RUN]

The images are phantom X-rays of 20 persons, each with different noise, alternately as NIfTI, 16-bit PNG and DICOM of
512 x 512 px; every twentieth is a JSRT ``.IMG`` of 2048 x 2048 px. Without a run a small CNN is trained for one epoch.
Memory is the resident set of the predicting process, sampled while it runs.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import nibabel
import numpy as np
import psutil
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from benchmarks.bundles import bundle, prepared
from data_prep import phantoms
from medpos.io.pictures.jsrt import coronal_affine, read_image

PERSONS = 20
SIDE = 512
STOPS = (0.1, 0.25, 0.5, 0.75, 1.0)
WINDOW = 0.1  # before a stop, over which the median is taken
EVERY_S = 0.25
ALLOWED = 1.05  # times the memory until the first stop


def dicom(gray: np.ndarray, path: Path) -> None:
    """Write a digital X-ray without a patient as DICOM."""
    content = pydicom.Dataset()
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID = DigitalXRayImageStorageForPresentation
    content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID = generate_uid()
    content.StudyInstanceUID, content.SeriesInstanceUID = generate_uid(), generate_uid()
    content.PatientName = content.PatientID = content.PatientBirthDate = content.PatientSex = ""
    content.StudyID = content.AccessionNumber = content.StudyDate = content.StudyTime = ""
    content.ReferringPhysicianName, content.Modality = "", "DX"
    content.SeriesNumber = content.InstanceNumber = 1
    content.Rows, content.Columns = gray.shape
    content.SamplesPerPixel, content.PhotometricInterpretation, content.PixelRepresentation = 1, "MONOCHROME2", 0
    content.BitsAllocated, content.BitsStored, content.HighBit = 16, 12, 11
    content.PixelSpacing = [0.7, 0.7]
    content.PixelData = gray.tobytes()
    content.save_as(path, enforce_file_format=True)


def write(folder: Path, raw: Path, count: int) -> None:
    """Write the cohort; persons are drawn once, noise and brightness for each image."""
    files = sorted((raw / "All247images").glob("*.IMG"))
    persons = [read_image(path, SIDE).astype(float) for path in files]
    for n in range(count):
        stem = folder / f"image{n:05d}"
        if n % 20 == 0:
            stem.with_suffix(".img").symlink_to(files[n // 20 % len(files)])
            continue
        rng = np.random.default_rng(n)
        gray = persons[n % len(persons)] * rng.uniform(0.9, 1.1) + rng.normal(0, 20, (SIDE, SIDE))
        stored = gray.clip(0, 4095).astype(np.uint16)
        if n % 3 == 0:
            nibabel.save(nibabel.Nifti1Image(stored.T[..., None], coronal_affine(SIDE, 0.7)), f"{stem}.nii.gz")
        elif n % 3 == 1:
            Image.fromarray(stored).save(stem.with_suffix(".png"))
        else:
            dicom(stored, stem.with_suffix(".dcm"))


def watched(command: list[str], records: Path) -> list[tuple[int, float]]:
    """Run the command and yield samples of the number of finished cases and the resident memory in MB."""
    process = subprocess.Popen(command)
    watch, samples = psutil.Process(process.pid), []
    while process.poll() is None:
        time.sleep(EVERY_S)
        try:
            mb = watch.memory_info().rss / 2**20
        except psutil.Error:
            break
        if done := len(list(records.iterdir())) if records.is_dir() else 0:
            samples.append((done, mb))
    if process.wait():
        sys.exit(f"predict ended with status {process.returncode}")
    return samples


def report(samples: list[tuple[int, float]], count: int) -> None:
    """Print the memory at each stop: the median over the cases just before, and the maximum so far.

    The verdict depends on the maximum: the median jumps with the sizes of the images, the maximum rises with a leak.
    """
    print("| images done | resident memory, MB | highest so far |\n|---|---|---|")
    highest = {}
    for stop in STOPS:
        near = [mb for done, mb in samples if (stop - WINDOW) * count <= done <= stop * count]
        highest[stop] = max(mb for done, mb in samples if done <= stop * count)
        print(f"| {stop * count:.0f} ({100 * stop:.0f} %) | {median(near):.0f} | {highest[stop]:.0f} |")
    growth = highest[STOPS[-1]] / highest[STOPS[0]]
    verdict = "met" if growth <= ALLOWED else "MISSED"
    print(f"\nhighest, end / {100 * STOPS[0]:.0f} %: {growth:.3f}, needed <= {ALLOWED:.2f}: {verdict}")


def trained(work: Path) -> Path:
    """Train the small CNN on phantoms; its quality doesn't matter here."""
    with prepared("jsrt_small_pe", None, cases=10) as folders:
        settings = {**folders, "runs_dir": str(work / "runs"), "run_name": "a", "max_epochs": 1, "batch_size": 5}
        bundle("jsrt_small_pe", **settings, image_size=256).get_parsed_content("run")
    return work / "runs/jsrt_small_pe/a"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--run", type=Path, help="a run of chest X-rays")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        run = arguments.run or trained(work)
        phantoms.write("jsrt", work / "raw", cases=PERSONS)
        (work / "in").mkdir()
        write(work / "in", work / "raw", arguments.images)
        command = [sys.executable, "-m", "medpos", "predict", str(run), str(work / "in"), "--out", str(work / "out")]
        command += ["--backend", arguments.backend, "--threads", str(arguments.threads)]
        started = time.perf_counter()
        samples = watched(command, work / "out/.cases")
        seconds = time.perf_counter() - started
        print(f"{arguments.images} images in {seconds / 60:.1f} minutes, {arguments.images / seconds:.1f} a second\n")
        report(samples, arguments.images)


if __name__ == "__main__":
    main()
