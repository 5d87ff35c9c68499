"""Evaluate folders and ZIP files, and list what is left out of them."""

import csv
import shutil
import struct
import zipfile

import pytest
import SimpleITK
from evaluate_making import blobs, save
from typer.testing import CliRunner

from medpos.__main__ import app

LABELS = "1=liver,2=spleen,3=aorta"


def evaluate(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--labels", LABELS, "--no-report"])


def make(folder, names=("a", "sub/b")):
    for number, name in enumerate(names):
        save(folder / f"{name}.nii.gz", blobs((9, 8, 7), number))
    return folder


def pack(folder, inside="", path=None):
    """Move the files of a folder into a ZIP file beside it, below another folder."""
    path = path or folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, inside + file.relative_to(folder).as_posix())
    shutil.rmtree(folder)
    return path


def dice(out):
    with (out / "metrics.csv").open() as stream:
        return {row["case"]: row["dice"] for row in csv.DictReader(stream) if row["dice"] != "nan"}


def listed(done):
    return [line.removeprefix("left out: ") for line in done.stderr.splitlines() if line.startswith("left out: ")]


def test_what_is_left_out_is_listed_at_the_end(tmp_path):
    truth, tool = make(tmp_path / "truth"), make(tmp_path / "tool", ("a", "sub/b", "c"))
    for name in ("notes.txt", ".DS_Store", "x.zip"):
        (tool / name).touch()
    (truth / "again").symlink_to(".")
    done = evaluate(tool, truth, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert listed(done) == [
        f"links to a folder that is read already, or that holds the link: 1 ({truth / 'again'})",
        f"hidden or system files: 1 ({tool / '.DS_Store'})",
        f"files of other formats: 2 ({tool / 'notes.txt'}, {tool / 'x.zip'})",
        f"files without a ground truth of their name: 1 ({tool / 'c.nii.gz'})",
    ]


def test_what_a_table_of_pairs_does_not_list_is_listed(tmp_path):
    truth, tool = make(tmp_path / "truth"), make(tmp_path / "tool")
    (tmp_path / "pairs.csv").write_text("prediction,truth\na.nii.gz,a.nii.gz\n")
    done = evaluate(tool, truth, "--out", tmp_path / "out", "--pairs", tmp_path / "pairs.csv")
    reason = "files that the table of pairs doesn't list"
    assert listed(done) == [f"{reason}: 2 ({tool / 'sub/b.nii.gz'}, {truth / 'sub/b.nii.gz'})"]


@pytest.mark.parametrize("inside", ["", "results/", "a/b/"])
def test_zip_files_count_as_the_folders_in_them(tmp_path, inside):
    expected = evaluate(make(tmp_path / "tool"), make(tmp_path / "truth"), "--out", tmp_path / "plain")
    (tmp_path / "tool/junk.doc").touch()
    tool, truth = pack(tmp_path / "tool", inside), pack(tmp_path / "truth", "other/")
    done = evaluate(tool, truth, "--out", tmp_path / "out", "--also", f"other={tool}")
    assert done.exit_code == expected.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"tool", "other", "comparisons.csv"}
    assert dice(tmp_path / "out/tool") == dice(tmp_path / "out/other") == dice(tmp_path / "plain") != {}
    assert "2 cases of 2 subjects of truth" in done.stdout
    assert listed(done) == [f"files of other formats: 1 ({tool}/{inside}junk.doc)"]


def test_an_error_in_a_zip_file_names_it_and_leaves_nothing(tmp_path):
    truth = make(tmp_path / "truth")
    tool = pack(make(tmp_path / "tool", ("a",)))
    done = evaluate(tool, truth, "--out", tmp_path / "out")
    assert str(done.exception).startswith(f"{tool}: expected a prediction for each of 2 cases, got none for 1: sub/b")
    save(tmp_path / "more/a.nii.gz", blobs((9, 8, 7), 0))
    save(tmp_path / "more/sub/b.nii.gz", blobs((9, 8, 5), 0))
    done = evaluate(pack(tmp_path / "more", path=tool), truth, "--out", tmp_path / "out")
    assert str(done.exception).startswith(f"{tool}/sub/b.nii.gz: expected the grid of {truth}/sub/b.nii.gz")
    tool.write_bytes(b"no archive")
    done = evaluate(tool, truth, "--out", tmp_path / "out")
    assert str(done.exception).startswith(f"{tool}: expected a ZIP file that can be unpacked")
    assert not (tmp_path / "out").exists()


def test_pairs_and_images_in_zip_files(tmp_path):
    tool, truth, images = (make(tmp_path / name) for name in ("tool", "truth", "images"))
    (tmp_path / "pairs.csv").write_text(
        "prediction,truth,case,image\na.nii.gz,a.nii.gz,one,a.nii.gz\nsub/b.nii.gz,sub/b.nii.gz,two,\n"
    )
    options = ["--pairs", tmp_path / "pairs.csv", "--images", pack(images, "x/")]
    done = evaluate(pack(tool), pack(truth), "--out", tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    assert set(dice(tmp_path / "out")) == {"one", "two"}
    assert listed(done) == [f"files that the table of pairs doesn't list: 1 ({tmp_path / 'images.zip'}/x/sub/b.nii.gz)"]


def test_what_headers_state_oddly_is_shown(tmp_path):
    for name in ("a", "b"):
        for folder in ("truth", "tool"):
            path = save(tmp_path / folder / f"{name}.nii", blobs((9, 8, 7), 0))
            raw = bytearray(path.read_bytes())
            raw[80:84] = struct.pack("<f", 4.0)  # pixdim of x; the affine has 0.8
            path.write_bytes(raw)
    done = evaluate(tmp_path / "tool", tmp_path / "truth", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if "disagree" in line]
    assert lines == [
        f"{tmp_path / 'truth/a.nii'} and 3 more: pixdim (4 x 1.5 x 3) and affine (0.8 x 1.5 x 3) disagree: the voxel "
        "size is pixdim's"
    ]


def test_a_truth_that_contradicts_itself_and_a_copy_by_itk_are_on_one_grid(tmp_path):
    path = save(tmp_path / "truth/a.nii", blobs((9, 8, 7), 0))
    raw = bytearray(path.read_bytes())
    raw[88:92] = struct.pack("<f", 6.0)  # pixdim of z; the affine has 3
    path.write_bytes(raw)
    (tmp_path / "tool").mkdir()
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(tmp_path / "tool/a.nii.gz"))
    done = evaluate(tmp_path / "tool", tmp_path / "truth", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert set(dice(tmp_path / "out").values()) == {"1.0"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_table_of_pairs_in_an_encoding_of_windows(tmp_path, encoding):
    truth, tool = make(tmp_path / "truth", ("a",)), make(tmp_path / "tool", ("a",))
    (tmp_path / "pairs.csv").write_text("prediction,truth\na.nii.gz,a.nii.gz\n", encoding=encoding)
    done = evaluate(tool, truth, "--out", tmp_path / "out", "--pairs", tmp_path / "pairs.csv")
    assert done.exit_code == 0, done.output
