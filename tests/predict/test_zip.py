"""Segment what is in ZIP files, and refuse those that lead out, are too large or damaged."""

import csv
import shutil
import stat
import zipfile

import numpy as np
import pytest
from images import dicom, save
from PIL import Image
from typer.testing import CliRunner

from medpos.cli.main import app
from medpos.core.errors import InputError
from medpos.core.files import WriteError
from medpos.io import archives
from medpos.io.walk import OTHER, LeftOut
from medpos.predict import cohort, inputs


def pack(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_the_images_are_segmented_and_nothing_unpacked_remains(chest_run, xray, tmp_path):
    save(dicom(xray[1].T), tmp_path / "in/a.dcm")
    Image.fromarray(xray[1].T.astype(np.uint16)).save(tmp_path / "in/b.png")
    files = {f"disc/{path.name}": path.read_bytes() for path in (tmp_path / "in").iterdir()}
    given = pack(
        tmp_path / "x.ZIP",
        {**files, "disc/readme.doc": b"text", "__MACOSX/._b.png": b"x", "disc/c.nii.gz": xray[0].read_bytes()},
    )
    out = tmp_path / "out"
    for expected in ("3 segmented, 0 kept", "0 segmented, 3 kept"):  # the second call resumes
        result = CliRunner().invoke(app, ["predict", str(chest_run), str(given), "--out", str(out)])
        assert result.exit_code == 0
        assert expected in result.output
    assert "files of other formats: 1" in result.output
    assert sorted(path.suffix for path in out.iterdir() if path.suffix in (".dcm", ".png", ".gz")) == [
        ".dcm",
        ".gz",
        ".png",
    ]
    assert not (out / archives.FOLDER).exists()


def test_zip_files_in_a_folder_are_read_and_a_broken_one_fails_alone(chest_run, xray, tmp_path):
    given, out = tmp_path / "in", tmp_path / "out"
    given.mkdir()
    Image.fromarray(xray[1].T.astype(np.uint16)).save(given / "b.png")
    content = (given / "b.png").read_bytes()
    pack(given / "first.zip", {"a.png": content, "inner.zip": b"x", "notes.doc": b"text"})
    pack(given / "sub.zip", {"b.png": content, "c/d.png": content[:200]})
    (given / "broken.zip").write_bytes(b"no archive")
    pack(given / "secret.zip", {"ZIMMERMANN.png": b"x" * 50}, zipfile.ZIP_STORED)
    raw = (given / "secret.zip").read_bytes()
    (given / "secret.zip").write_bytes(raw.replace(b"xxx", b"xyz"))  # its checksum is wrong now
    for done in (3, 0):
        result = CliRunner().invoke(app, ["predict", str(chest_run), str(given), "--out", str(out)])
        assert result.exit_code == 3
        assert f"{done} segmented, {3 - done} kept from before, 3 failed" in result.output
    assert {path.name for path in out.glob("*.png")} == {"a.png", "in-b.png", "sub.zip-b.png"}
    failed = (out / "failed.txt").read_text()
    assert f"{given}/broken.zip: expected a ZIP file that can be unpacked" in failed
    assert f"{given}/secret.zip: expected a ZIP file that can be unpacked, got: Bad CRC" in failed
    assert f"{given}/sub.zip/c/d.png: expected a complete picture" in failed
    assert not any(word in result.output + failed for word in (archives.FOLDER, "ZIMMERMANN"))
    assert not (out / archives.FOLDER).exists()
    names = {row["case"]: row["file"] for row in csv.DictReader((out / "names.csv").open())}
    assert names["a"] == f"{given}/first.zip/a.png"
    left = list(csv.DictReader((out / "left_out.csv").open()))
    assert left == [
        {"reason": OTHER, "file": f"{given}/first.zip/{name}", "count": "1"} for name in ("inner.zip", "notes.doc")
    ]


def test_a_folder_of_dicom_names_no_zip_file(chest_run, xray, tmp_path):
    save(dicom(xray[1].T), tmp_path / "in/ZIMMERMANN/a.dcm")
    (tmp_path / "in/ZIMMERMANN.zip").write_bytes(b"no archive")
    (tmp_path / "in/Zimmermann.pdf").touch()
    result = CliRunner().invoke(app, ["predict", str(chest_run), str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 3
    written = "".join(path.read_text() for path in (tmp_path / "out").glob("*.[ct][sx][vt]"))
    assert "file 2 of the input: expected a ZIP file" in written
    assert list(csv.DictReader((tmp_path / "out/left_out.csv").open())) == [
        {"reason": OTHER, "file": ".pdf", "count": "1"}
    ]
    assert "zimmermann" not in (result.output + written).lower()


def test_calls_add_up_in_the_table_of_what_is_left_out(chest, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.linspace(0, 4095, 4096).reshape(64, 64).astype(np.uint16)).save(tmp_path / name / "x.png")
        (tmp_path / name / "y.doc").touch()
    for name in "aba":
        left_out, out = LeftOut(), tmp_path / "out"
        cases = inputs.find_cases([str(tmp_path / name)], out, left_out=left_out)
        cohort.predict_cases(chest, cases, out, left_out=left_out)
    rows = list(csv.DictReader((tmp_path / "out/left_out.csv").open()))
    assert [row["file"] for row in rows] == [str(tmp_path / name / "y.doc") for name in "ab"]


def test_without_a_function_that_unpacks_zip_files_are_left_out(tmp_path):
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    pack(tmp_path / "x.zip", {"b.png": (tmp_path / "a.png").read_bytes()})
    left_out = LeftOut()
    assert len(inputs.find_cases([str(tmp_path)], tmp_path / "out", left_out=left_out)) == 1
    assert left_out.paths == {OTHER: [tmp_path / "x.zip"]}
    with pytest.raises(InputError, match=r"x\.zip: expected NIfTI, NRRD"):
        inputs.find_cases([str(tmp_path / "x.zip")], tmp_path / "out")


@pytest.mark.parametrize("name", ["../a.png", "/tmp/a.png", "b/../../a.png", "..\\a.png", "C:\\a.png"])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    given = pack(tmp_path / "x.zip", {name: b"x" * 50})
    with pytest.raises(InputError, match="leads out"):
        archives.unpack(given, tmp_path / "in", LeftOut())
    assert not list(tmp_path.rglob("a.png"))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    given = pack(tmp_path / "x.zip", {"a.nii": bytes(50_000_000)})
    with pytest.raises(InputError, match="100 times its own size"):
        archives.unpack(given, tmp_path / "in", LeftOut())
    assert not (tmp_path / "in").exists()


def test_a_size_that_is_understated_is_not_exceeded(tmp_path):
    given = pack(tmp_path / "x.zip", {"a.nii": bytes(1000)}, zipfile.ZIP_STORED)
    content = given.read_bytes().replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    given.write_bytes(content)
    with pytest.raises(InputError, match="can be unpacked"):
        archives.unpack(given, tmp_path / "in", LeftOut())


def test_a_file_without_a_name_is_refused(tmp_path):
    given = pack(tmp_path / "x.zip", {"QQ": b"content"})
    given.write_bytes(given.read_bytes().replace(b"QQ", b"\0\0"))  # a name ends at its first NUL
    with pytest.raises(InputError, match=r"x\.zip: expected a name for each file in the ZIP file, got one without"):
        archives.unpack(given, tmp_path / "in", LeftOut())


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-30], lambda raw: b"no archive", lambda raw: raw[:40] + b"\xff" * 20 + raw[60:]]
)
def test_a_damaged_file_is_refused(tmp_path, damage):
    given = pack(tmp_path / "x.zip", {"a.nii": np.random.default_rng(0).bytes(500)})
    given.write_bytes(damage(given.read_bytes()))
    with pytest.raises(InputError, match=r"x\.zip: expected a ZIP file that can be unpacked"):
        archives.unpack(given, tmp_path / "in", LeftOut())


def test_links_are_left_out(tmp_path):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
        archive.writestr("a.png", b"x")
    left_out = LeftOut()
    archives.unpack(tmp_path / "x.zip", tmp_path / "in", left_out)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.png"]
    assert left_out.describe()[0].startswith("links in a ZIP file: 1")


@pytest.mark.parametrize("other", ["a.png", "./a.png", "b\\..\\a.png", "a.png/"])
def test_a_name_that_occurs_twice_is_refused(tmp_path, other):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", b"x")
        archive.writestr("a.png/b.png" if other.endswith("/") else other, b"y")
    with pytest.raises(InputError, match=r"got one twice|leads out|can be unpacked"):
        archives.unpack(tmp_path / "x.zip", tmp_path / "in", LeftOut())


def test_a_disk_without_room_is_told_before_it_is_full(tmp_path, monkeypatch):
    given = pack(tmp_path / "x.zip", {"a.png": bytes(5000)})
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=4999))
    with pytest.raises(WriteError, match="expected room for 5000 bytes of unpacked files, got 4999"):
        archives.unpack(given, tmp_path / "in", LeftOut())


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        (["a.png"], ""),
        (["d/a.png", "d/b.png"], "d"),
        (["d/e/a.png", "__MACOSX/._a.png", ".DS_Store"], "d/e"),
        (["d/a.png", "e/a.png"], ""),
        (["d/a.png", "b.png"], ""),
    ],
)
def test_a_folder_around_all_files_counts_as_the_zip_file(tmp_path, names, folder):
    given = pack(tmp_path / "x.zip", dict.fromkeys(names, b"x"))
    with archives.Unpacker(tmp_path / "out", LeftOut()) as unpacker:
        place = unpacker.open_folder(given)
        assert place.relative_to(unpacker.unpack(given)).as_posix() == (folder or ".")
        assert unpacker.open_folder(tmp_path) == tmp_path
    assert not (tmp_path / "out").exists()


def test_an_error_names_the_zip_file(tmp_path):
    given = pack(tmp_path / "x.zip", {"d/a.png": b"x"})
    with pytest.raises(InputError) as caught, archives.Unpacker(tmp_path / "out", LeftOut()) as unpacker:
        raise InputError(f"{unpacker.open_folder(given) / 'a.png'}: expected something else")
    assert str(caught.value) == f"{given}/d/a.png: expected something else"


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / "out" / archives.FOLDER / "old").mkdir(parents=True)
    with archives.Unpacker(tmp_path / "out", LeftOut()):
        assert not (tmp_path / "out" / archives.FOLDER).exists()
    assert (tmp_path / "out").is_dir()
