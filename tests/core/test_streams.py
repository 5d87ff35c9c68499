"""Every command prints on output of every encoding, with plain characters where it has no others."""

import os
import subprocess
import sys
import unicodedata

import custom_raw
import pytest
from running import ENVIRONMENT

from medpos.core.streams import _to_plain

ENCODINGS = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "ascii, strict": {"PYTHONIOENCODING": "ascii:strict"},
    "cp437": {"PYTHONIOENCODING": "cp437"},
    "shift_jis": {"PYTHONIOENCODING": "shift_jis"},
    "LANG=C": {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
}
SAY = """
import logging, sys
from rich.console import Console
from rich.table import Table
from medpos.core.streams import show_plainly
from medpos.core.text import as_text
show_plainly()
table = Table(title="mean \\u00b1 sd")
table.add_column("organ")
table.add_column("Dice")
table.add_row("\\u5f20\\u4f1f", "0.9 \\u00b1 0.1")
logging.basicConfig(stream=sys.stdout, level="INFO")
logging.info(as_text(table))
Console().print(table)
Console(stderr=True).print("\\u2713 done \\u2192 out")
print("sch\\udce4del")
"""


def call(encoding, *command, cwd=None):
    environment = {key: value for key, value in ENVIRONMENT.items() if not key.startswith(("LC_", "LANG"))}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100", **ENCODINGS[encoding]}
    return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, env=environment)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tables_logs_and_names_are_printed(encoding):
    done = call(encoding, "-c", SAY)
    assert done.returncode == 0, done.stderr
    assert b"Error" not in done.stdout + done.stderr
    assert done.stdout.count(b"Dice") == done.stdout.count(b"0.9 ") == 2
    assert b"sch\\udce4del" in done.stdout
    if encoding.startswith("ascii"):
        assert done.stdout.count(b"0.9 +- 0.1") == 2
        assert rb"\u5f20\u4f1f" in done.stdout
        assert b"+---" in done.stdout
        assert b"ok done -> out" in done.stderr


@pytest.mark.parametrize(
    ("encoding", "command"), [("cp1252", ["medpos", "study", "list"]), ("ascii", ["medpos", "--help"])]
)
def test_commands_print(encoding, command):
    done = call(encoding, "-m", *command)
    assert done.returncode == 0, done.stderr
    assert b"Error" not in done.stderr
    assert len(done.stdout) > 200


@pytest.mark.parametrize("encoding", ["ascii", "LANG=C"])
def test_data_prep_prints_names_of_any_script(encoding, tmp_path):
    root = custom_raw.pictures(tmp_path / "胸片", 3)
    for kind, suffix in (("images", "png"), ("labels", "tif")):
        (root / f"{kind}/c0.{suffix}").rename(root / f"{kind}/心臓.{suffix}")
    (root / "images/メモ.txt").touch()
    options = ["--images", root / "images", "--labels", root / "labels", "--label", "255=cell", "--out", root / "out"]
    done = call(encoding, "-m", "data_prep", "folder", *map(str, options), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"left out: files of other formats: 1" in done.stdout
    assert len(list((root / "out/images").iterdir())) == 3
    assert encoding == "LANG=C" or (root / "out/images/心臓.nii.gz").is_file()
    (root / "labels/心臓.tif").unlink()
    done = call(encoding, "-m", "data_prep", "folder", *map(str, options), cwd=tmp_path)
    assert done.returncode == 2
    assert b"no label map" in done.stderr


@pytest.mark.parametrize("character", "┏━┳┓┃│┡╇┩└─┴┘═║╬╭╮╴╸█±→✓…張é😀")
def test_plain_characters_are_ascii_and_frames_stay_aligned(character):
    plain = _to_plain(character)
    assert plain.isascii()
    if unicodedata.name(character).startswith("BOX"):
        assert plain in "+-|"
