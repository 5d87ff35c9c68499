"""Prepare custom data from ZIP files, and refuse other packed files in one line."""

import shutil
import zipfile

import custom_raw
import pytest
from typer.testing import CliRunner

from data_prep.__main__ import app
from data_prep.custom import decathlon, folder, nnunet
from data_prep.custom.common import Options
from medpos.core.errors import InputError


def pack(source, path, inside=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(source.rglob("*")):
            archive.write(file, inside + file.relative_to(source).as_posix())
    return path


def content(out):
    """Return the files of a prepared folder, without the records, by their names."""
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("inside", ["", "Dataset001_X/"])
@pytest.mark.parametrize(("reader", "make"), [(nnunet, custom_raw.nnunet), (decathlon, custom_raw.decathlon)])
def test_a_zip_file_gives_what_its_folder_gives(tmp_path, reader, make, inside):
    root = make(tmp_path / "Dataset001_X", cases=4)
    (root / "PHANTOM.json").touch()
    reader.prepare(root, tmp_path / "out", Options(workers=2))
    (root / "labelsTr/notes.doc").touch()
    given = pack(root, tmp_path / "Dataset001_X.zip", inside)
    shutil.rmtree(root)
    done = reader.prepare(given, tmp_path / "packed", Options())
    assert "4 cases written" in done
    assert (f"left out: files of other formats: 1 ({given}/{inside}labelsTr/notes.doc)" in done) == (reader is nnunet)
    assert content(tmp_path / "packed") == content(tmp_path / "out")
    assert reader.prepare(given, tmp_path / "packed", Options()).startswith("unchanged: 4 cases")


def test_images_and_labels_in_zip_files(tmp_path):
    root = custom_raw.pictures(tmp_path / "raw", 4)
    folder.prepare(root / "images", root / "labels", ["255=cell"], [], tmp_path / "out", Options("cells"))
    (root / "images/.hidden").touch()
    given = [pack(root / name, tmp_path / f"{name}.ZIP", f"{name}/") for name in ("images", "labels")]
    command = ["folder", "--images", given[0], "--labels", given[1], "--label", "255=cell", "--name", "cells"]
    done = CliRunner().invoke(app, [*map(str, command), "--out", str(tmp_path / "packed")])
    assert done.exit_code == 0, done.output
    assert f"left out: hidden or system files: 1 ({given[0]}/images/.hidden)" in done.output
    assert content(tmp_path / "packed") == content(tmp_path / "out")


def test_an_error_names_the_file_in_the_zip_file_and_leaves_nothing(tmp_path):
    root = custom_raw.nnunet(tmp_path / "X", 4)
    (root / "labelsTr/s1.nii.gz").write_bytes(b"no image")
    given = pack(root, tmp_path / "x.zip", "X/")
    for workers in (1, 2):
        with pytest.raises(InputError, match=rf"^{given}/X/labelsTr/s1\.nii\.gz: expected a complete gzip file"):
            nnunet.prepare(given, tmp_path / "out", Options(workers=workers))
    assert not (tmp_path / "out/.unpacked").exists()
    (root / "labelsTr/s1.nii.gz").unlink()
    with pytest.raises(InputError, match=rf"^{given}/labelsTr: no such folder|{given}/X/imagesTr/s1_0000"):
        nnunet.prepare(pack(root, given, "X/"), tmp_path / "other", Options())
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["Task02_Heart.tar", "x.tar.gz", "x.7z", "x.rar", "dataset.json"])
def test_another_packed_file_is_refused_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"x" * 600)
    for reader in (nnunet, decathlon):
        with pytest.raises(InputError, match=rf"{name}: expected a folder or a ZIP file, got another file; unpack it"):
            reader.prepare(tmp_path / name, tmp_path / "out", Options())
    with pytest.raises(InputError, match=rf"{name}: expected a folder or a ZIP file"):
        folder.prepare(tmp_path, tmp_path / name, ["1=a"], [], tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()
