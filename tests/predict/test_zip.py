"""Segment what is in ZIP files, and refuse those that lead out, are too large or damaged."""

import stat
import zipfile

import numpy as np
import pytest
from images import dicom, save
from PIL import Image
from typer.testing import CliRunner

from medpos.cli.main import app
from medpos.core.errors import InputError
from medpos.io import archives
from medpos.io.walk import LeftOut
from medpos.predict import inputs


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
    assert not (out / inputs.UNPACKED).exists()


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
    place = archives.unpack(tmp_path / "x.zip", tmp_path / "in", left_out)
    assert [path.name for path in place.iterdir()] == ["a.png"]
    assert left_out.describe()[0].startswith("links in a ZIP file: 1")
