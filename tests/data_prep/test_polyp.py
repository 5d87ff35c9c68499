import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_prep.__main__ import app
from data_prep.datasets import polyp
from data_prep.phantoms import write
from data_prep.phantoms.colon import FRAMES
from data_prep.verify import check
from medpos.core.errors import InputError

ROWS, COLUMNS = 8, 12


def save(path, number, blank=False):
    """Write a frame of one color, and its mask: the first ``number`` columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((ROWS, COLUMNS, 3), 20 + number, np.uint8)
    if "G" in path.parts[-2][0] or "GT" in path.parts:
        array = np.zeros((ROWS, COLUMNS), np.uint8)
        array[:, : 0 if blank else 1 + number % 9] = 255
    Image.fromarray(array).save(path)


@pytest.fixture
def clinic(tmp_path):
    """Write frames as CVC-ClinicDB does: 1 to 60."""
    for number in range(1, 61):
        for folder in ("Original", "Ground Truth"):
            save(tmp_path / "CVC" / folder / f"{number}.tif", number)
    return tmp_path / "CVC"


def parts(out):
    manifest = json.loads((out / "dataset.json").read_text())
    return {part: manifest[part] for part in ("training", "validation", "test")}


def test_cvc_clinicdb(clinic, tmp_path):
    out = tmp_path / "out"
    assert polyp.prepare(clinic, out).endswith("not the published number: 60 frames (published: 612)")
    entries = [entry for part in parts(out).values() for entry in part]
    assert len(entries) == 60
    for entry in entries:
        number = int(entry["case"].removeprefix("frame_"))
        assert entry["subject"] == f"frames_{25 * ((number - 1) // 25) + 1:04d}"
        image, label = (np.asarray(nib.load(out / entry[kind]).dataobj)[:, :, 0] for kind in ("image", "label"))
        assert image.shape == (COLUMNS, ROWS, 3)
        assert (image == 20 + number).all()
        assert label.sum(axis=0).tolist() == [1 + number % 9] * ROWS
    assert check(out)[1] == []


def test_frames_of_a_sequence_stay_in_one_part(clinic, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("frame,sequence\n" + "".join(f"{n},{'abc'[n % 3]}\n" for n in range(1, 61)))
    polyp.prepare(clinic, tmp_path / "out", table)
    subjects = [{entry["subject"] for entry in part} for part in parts(tmp_path / "out").values()]
    assert sorted(name for part in subjects for name in part) == ["sequence_a", "sequence_b", "sequence_c"]
    (clinic / "sequences.csv").write_text("frame,sequence\n1,9\n")
    with pytest.raises(InputError, match=r"sequences.csv: no line for frame 10; add it."):
        polyp.find_cases(clinic)
    (clinic / "sequences.csv").write_text("frame;sequence\n1;9\n")
    with pytest.raises(InputError, match=r"sequences.csv: expected the columns frame and sequence, got"):
        polyp.find_cases(clinic)


def test_videos_of_asu_mayo(tmp_path):
    for video in (1, 2, 7):
        for number in (3, 4):
            save(tmp_path / f"Frame/{video}/{number:05d}.jpg", number)
            save(tmp_path / f"GT/{video}/{number:05d}.png", number, blank=video == 7)
    found = polyp.find_cases(tmp_path)
    assert [(case.case, case.subject) for case in found][:3] == [("1-00003", "1"), ("1-00004", "1"), ("2-00003", "2")]
    assert [int(case.read(case).label.sum()) for case in found] == [4 * ROWS, 5 * ROWS, 4 * ROWS, 5 * ROWS, 0, 0]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("Ground Truth/7.tif", lambda path: path.unlink(), "7.tif: no mask 7 in"),
        ("Ground Truth/7.tif", lambda path: path.write_bytes(b"II*"), "7.tif: expected PNG, JPEG, TIFF or BMP"),
        ("Original/7.tif", lambda path: Image.new("RGB", (5, 5)).save(path), "7.tif: differs in size from its frame"),
    ],
)
def test_bad_input(clinic, tmp_path, name, damage, message):
    damage(clinic / name)
    with pytest.raises(InputError, match=message):
        polyp.prepare(clinic, tmp_path / "out")


def test_another_folder(tmp_path):
    with pytest.raises(InputError, match="expected folders Original and 'Ground Truth', or Frame and GT"):
        polyp.prepare(tmp_path, tmp_path / "out")


def test_phantoms_are_prepared_by_the_command_line(tmp_path):
    write("polyp", tmp_path / "raw", cases=9, seed=1)
    arguments = ["polyp", "--source", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "out")]).stdout.startswith("ok: ")
    made = parts(tmp_path / "out")
    assert [len(part) for part in made.values()] == [FRAMES] * 3  # one video each
    with Image.open(tmp_path / "raw/Original/1.tif") as frame:
        assert (frame.size, frame.mode, frame.format) == ((384, 288), "RGB", "TIFF")
