import locale
import shutil
import signal
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import running
import torch
from PIL import Image

from data_prep.datasets import (
    acdc,
    camvid,
    cells,
    cityscapes,
    drive,
    ibsr,
    jsrt,
    lidc,
    lits,
    nuclei,
    polyp,
    sunrgbd,
    voc,
    voc2010,
)
from data_prep.phantoms import voc2010 as voc2010_phantoms
from data_prep.phantoms import write
from medpos.runs.folder import close_log


def pytest_collection_modifyitems(items):
    """Begin with the files of long tests: one of them at the end would leave the other process idle."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Limit PyTorch to one thread: on such small images more threads cost more than they save."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _interrupts():
    """Let Ctrl-C reach the processes that tests start: they ignore it where a shell starts the tests in background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _locale():
    """Put back the locale, which GDCM sets to C for the whole process when SimpleITK writes DICOM."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.fixture(autouse=True)
def _log():
    """Close the log of a run, which would follow the process into other tests."""
    yield
    close_log()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Prepare small phantom data sets, by kind: 8 X-rays (5, 1, 2) and 6 hearts of two phases (4, 1, 1 subjects)."""
    root = tmp_path_factory.mktemp("prepared")
    write("jsrt", root / "raw-jsrt", cases=8)
    jsrt.prepare(root / "raw-jsrt", root / "raw-jsrt/scratch", root / "jsrt", size=128)
    write("acdc", root / "raw-acdc", cases=6)
    acdc.prepare(root / "raw-acdc", root / "acdc")
    for kind in ("jsrt", "acdc"):
        shutil.rmtree(root / f"raw-{kind}")
    return {kind: root / kind for kind in ("jsrt", "acdc")}


class Lazily(dict):
    """Hold the folders of data sets by name, each prepared when it is first asked for."""

    def __init__(self, prepare, **ready):
        super().__init__(ready)
        self._prepare = prepare

    def __missing__(self, name):
        self[name] = self._prepare(name)
        return self[name]


# By the first part of the names of bundles: how to prepare the data, and the number of phantoms.
SECONDARY_DATA = {
    "nuclei": (nuclei.prepare, 6),
    "cells": (cells.prepare, 6),
    "brain": (ibsr.prepare, 3),
    "camvid": (camvid.prepare, 4),
    "retina": (drive.prepare, 4),
    "voc": (voc.prepare, 5),
    "cityscapes": (partial(cityscapes.prepare, size=128), 5),
    "sunrgbd": (sunrgbd.prepare, 4),
    "polyp": (polyp.prepare, 9),
    "liver": (lits.prepare, 3),
    "nodule": (lidc.prepare, 3),
    "context": (voc2010.prepare_context, 5),
    "parts": (voc2010.prepare_parts, 5),
}
PHANTOMS = {"brain": "ibsr", "retina": "drive", "liver": "lits", "nodule": "lidc"}  # where the name is another


@pytest.fixture(scope="session")
def secondary(tmp_path_factory, prepared):
    """Prepare phantoms for the secondary bundles, by the first part of their names."""
    root = tmp_path_factory.mktemp("secondary")

    def prepare(name):
        read, count = SECONDARY_DATA[name]
        raw = root / f"raw-{name}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(voc2010_phantoms, "SIZES", ((125, 94), (94, 125)))
            write(PHANTOMS.get(name, name), raw, cases=count)
        if name == "brain":
            thin(raw)
        if name == "voc":
            shrink(raw)
        read(raw, root / name)
        shutil.rmtree(raw)
        return root / name

    return Lazily(prepare, jsrt=prepared["jsrt"])


def thin(folder):
    """Keep four axial slices of each brain; the published volumes have 256, which take minutes to segment."""
    for path in [*folder.rglob("*.nii.gz"), *folder.rglob("*.hdr")]:
        image = nibabel.load(path)
        part = type(image)(np.asarray(image.dataobj[:, :, 118:122]), image.affine, image.header)
        for file in (path, path.with_suffix(".img")):
            file.unlink(missing_ok=True)
        nibabel.save(part, path)


def shrink(folder):
    """Keep every fourth pixel of each picture along both axes."""
    for path in [*folder.rglob("*.jpg"), *folder.rglob("*.png")]:
        with Image.open(path) as picture:
            picture.resize([side // 4 for side in picture.size], Image.Resampling.NEAREST).save(path)


@pytest.fixture
def data(prepared, tmp_path):
    """Copy the prepared X-rays, so that a test may damage them."""
    return shutil.copytree(prepared["jsrt"], tmp_path / "data")


@pytest.fixture
def tiny(prepared, tmp_path):
    """Return overrides for the shortest run of a chest X-ray bundle, in a temporary folder of runs."""
    runs_dir = str(tmp_path / "runs")
    yield {
        "dataset_dir": str(prepared["jsrt"]),
        "runs_dir": runs_dir,
        "image_size": 32,
        "batch_size": 5,
        "max_epochs": 1,
        "fit_lights": False,
    }
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)


@pytest.fixture
def tiny_without_lights(tiny):
    """Return the overrides of ``tiny`` that bundles without lights, of users and of earlier versions, know too."""
    return {key: value for key, value in tiny.items() if key != "fit_lights"}


@pytest.fixture(scope="session")
def trained(prepared, tmp_path_factory):
    """Finish a run of jsrt_small_pe; copy it, don't write to it."""
    runs = tmp_path_factory.mktemp("trained")
    return running.run_here(
        "jsrt_small_pe",
        dataset_dir=str(prepared["jsrt"]),
        runs_dir=str(runs),
        run_name="a",
        image_size=32,
        batch_size=5,
        max_epochs=running.TRAINED_EPOCHS,
        fit_lights=False,
    )


@pytest.fixture(scope="session")
def trained_heart(prepared, tmp_path_factory):
    """Finish a run of acdc_small_pe; copy it, don't write to it."""
    return running.run_here(
        "acdc_small_pe",
        dataset_dir=str(prepared["acdc"]),
        runs_dir=str(tmp_path_factory.mktemp("hearts")),
        run_name="a",
        image_size=32,
        batch_size=4,
        max_epochs=12,
        lr=0.01,
        fit_lights=False,
    )


@pytest.fixture
def run_of(trained, tiny):
    """Copy the finished run into the test's folder of runs."""
    return shutil.copytree(trained, Path(tiny["runs_dir"]) / "jsrt_small_pe/a")
