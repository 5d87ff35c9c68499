import json

import nibabel as nib
import numpy as np
import pytest
import raw
import raw_microscopy as rawm
from PIL import Image

from data_prep.datasets import cells
from data_prep.verify import check
from medpos.core.errors import InputError
from medpos.data.schema import SPLITS as PARTS


@pytest.fixture
def source(tmp_path):
    return rawm.cells(tmp_path / "PhC-C2DH-U373")


def manifest(out):
    return json.loads((out / "dataset.json").read_text())


def stored(out, kind, case):
    return np.asarray(nib.load(out / kind / f"{case}.nii.gz").dataobj)[..., 0].T


def test_annotated_frames_become_cases(source, tmp_path):
    out = tmp_path / "out"
    assert "10 cases written" in cells.prepare(source, out)
    expected = np.zeros(rawm.SIZE, int)
    expected[1:4, 1:5], expected[4:8, 1:5] = 1, 2
    made = manifest(out)
    for entry in [entry for part in PARTS for entry in made[part]]:
        name = entry["case"]
        assert entry["frame"] % 2 == 0
        assert np.array_equal(stored(out, "instances", name), expected)
        assert np.array_equal(stored(out, "labels", name), expected > 0)
        frame = source / entry["sequence"] / f"{name[3:]}.tif"
        assert np.array_equal(stored(out, "images", name), np.asarray(Image.open(frame)))
        assert (entry["objects"], entry["unlabelled_cells"]) == (2, 1)
    assert "PhC-C2DH-U373, gold" in made["description"]
    assert made["intensity"]["range"] == [0, 255]
    assert check(out)[1] == []


def test_parts_are_sequences_and_runs_of_frames(source, tmp_path):
    cells.prepare(source, tmp_path / "out")
    made = manifest(tmp_path / "out")
    assert [[entry["case"] for entry in made[part]] for part in PARTS] == [
        ["01_t000", "01_t002", "01_t004", "01_t006"],
        ["01_t008"],
        ["02_t000", "02_t002", "02_t004", "02_t006", "02_t008"],
    ]


def test_a_single_sequence_is_cut_into_three_runs():
    parts = cells.assign_parts([("01", f"{time:03d}") for time in reversed(range(10))])
    assert [parts["01", f"{time:03d}"] for time in range(10)] == ["training"] * 6 + ["validation"] * 2 + ["test"] * 2


def test_silver_truth_has_all_frames_and_cells(source, tmp_path):
    assert "20 cases written" in cells.prepare(source, tmp_path / "out", silver=True)
    made = manifest(tmp_path / "out")
    assert [len(made[part]) for part in PARTS] == [8, 2, 10]
    assert {(entry["objects"], entry["unlabelled_cells"]) for entry in made["training"]} == {(3, 0)}
    assert check(tmp_path / "out")[1] == []


def test_more_frames_move_the_end_of_the_training_part(source, tmp_path):
    cells.prepare(source, tmp_path / "out")
    for time in range(10, 20, 2):
        rawm.cell_frame(source, "01", f"{time:03d}", seed=time)
    cells.prepare(source, tmp_path / "out")
    cells.prepare(source, tmp_path / "fresh")
    assert raw.tree(tmp_path / "out") == raw.tree(tmp_path / "fresh")
    assert "01_t008" in [entry["case"] for entry in manifest(tmp_path / "out")["training"]]


def test_four_digits_a_zip_archive_and_a_second_run(source, tmp_path):
    long = rawm.cells(tmp_path / "long", digits=4)
    cells.prepare(long, tmp_path / "long_out")
    assert manifest(tmp_path / "long_out")["test"][1]["case"] == "02_t0002"
    cells.prepare(source, tmp_path / "one")
    cells.prepare(rawm.zipped(source, tmp_path / "PhC-C2DH-U373.zip"), tmp_path / "two", workers=2)
    assert raw.tree(tmp_path / "one") == raw.tree(tmp_path / "two")
    before = raw.times(tmp_path / "one")
    assert cells.prepare(source, tmp_path / "one").startswith("unchanged: 10 cases")
    assert raw.times(tmp_path / "one") == before


def test_sixteen_bits_are_kept(source, tmp_path):
    for path in source.glob("0?/*.tif"):
        rawm.save(path, np.asarray(Image.open(path)).astype(np.uint16) * 200)
    cells.prepare(source, tmp_path / "out")
    image = stored(tmp_path / "out", "images", "01_t000")
    assert image.dtype == np.uint16
    assert manifest(tmp_path / "out")["intensity"]["range"][1] > 30_000
    assert np.array_equal(image, np.asarray(Image.open(source / "01/t000.tif")))


def pages(path):
    first, second = (Image.fromarray(np.full(rawm.SIZE, value, np.uint8)) for value in (1, 2))
    first.save(path, save_all=True, append_images=[second])


def no_gold(root):
    for path in root.glob("0?_GT/SEG/*"):
        path.unlink()


SEG = "01_GT/SEG/man_seg002.tif"
BAD = {
    r"man_seg002\.tif: expected 12 x 10 pixels as its frame, got 9 x 7": lambda r: rawm.save(
        r / SEG, np.ones((7, 9), np.uint16)
    ),
    r"man_seg002\.tif: expected annotated cells": lambda r: rawm.save(r / SEG, np.zeros(rawm.SIZE, np.uint16)),
    r"man_seg002\.tif: expected a complete TIFF": lambda r: (r / SEG).write_bytes(b"II*"),
    r"/01/t002\.tif: expected a complete TIFF": lambda r: (r / "01/t002.tif").write_bytes(
        (r / "01/t002.tif").read_bytes()[:-9]
    ),
    r"man_seg002\.tif: expected its frame 01/t002\.tif": lambda r: (r / "01/t002.tif").unlink(),
    r"man_track002\.tif: expected 12 x 10 pixels as its frame, got 2 x 2": lambda r: rawm.save(
        r / "01_GT/TRA/man_track002.tif", np.ones((2, 2), np.uint16)
    ),
    r"t002\.tif: expected one page, got 2; 3-D": lambda r: pages(r / "01/t002.tif"),
    r"man_seg_002_001\.tif: expected 2-D frames, got one slice of a volume; 3-D": lambda r: (r / SEG).rename(
        r / "01_GT/SEG/man_seg_002_001.tif"
    ),
    r"t002\.tif: expected unsigned gray values, got pixels of mode RGB": lambda r: rawm.save(
        r / "01/t002.tif", np.ones((*rawm.SIZE, 3), np.uint8)
    ),
    r"expected 01_GT/SEG/man_seg000\.tif and so on, found none; try with --silver": no_gold,
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_file_is_named(source, tmp_path, message):
    BAD[message](source)
    with pytest.raises(InputError, match=message) as error:
        cells.prepare(source, tmp_path / "out")
    assert str(source) in str(error.value)
    assert not (tmp_path / "out/dataset.json").exists()


def test_nothing_or_several_data_sets(source, tmp_path):
    rawm.cells(tmp_path / "DIC-C2DH-HeLa", frames=1)
    with pytest.raises(InputError, match="expected one data set, got 2, DIC-C2DH-HeLa and PhC-C2DH-U373; give one"):
        cells.prepare(tmp_path, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"expected 01/t000\.tif and so on, found none"):
        cells.prepare(tmp_path / "empty", tmp_path / "out")
