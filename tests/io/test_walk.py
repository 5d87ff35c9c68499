"""Find files below a folder once, and account for everything else."""

import os
import unicodedata
from pathlib import Path

import pytest

from medpos.core.errors import InputError
from medpos.io.walk import HIDDEN, OTHER, LeftOut, check_links, find_spelling, walk


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "->" in name:
            place, _, target = name.partition("->")
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).symlink_to(target)
        else:
            path.write_text("x")
    return folder


def found(folder, left_out=None, skip=()):
    paths = walk(folder, LeftOut() if left_out is None else left_out, skip)
    return [path.relative_to(folder).as_posix() for path in paths]


LINKS = {
    "folders outside": (["../store/s1/a.png", "s1->../store/s1", "s2->../store/s1"], ["s1/a.png"], 1),
    "folder inside": (["z/a.png", "a->z"], ["z/a.png"], 1),
    "to the folder itself": (["a.png", "b/loop->.."], ["a.png"], 1),
    "to a folder above": (["a.png", "up->../.."], ["a.png"], 1),
    "two that point at each other": (["a.png", "../x/to_y->../y", "../y/to_x->../x", "in->../x"], ["a.png"], 1),
    "a chain": (["a.png", "../x/b.png", "l1->l2", "l2->../x"], ["a.png", "l1/b.png"], 1),
    "to a file": (["../x/b.png", "b.png->../x/b.png", "c.png->b.png"], ["b.png", "c.png"], 0),
    "to nothing": (["a.png", "b.png->nowhere/c", "sub->gone"], ["a.png", "b.png", "sub"], 0),
    "to itself": (["a.png", "b.png->b.png"], ["a.png", "b.png"], 0),
    "nested": (["../x/y/b.png", "l->../x", "m->../x/y"], ["l/y/b.png"], 1),
}


@pytest.mark.parametrize("kind", LINKS)
def test_linked_folders_are_entered_once(tmp_path, kind):
    names, wanted, count = LINKS[kind]
    folder, left_out = make(tmp_path / "in", *names), LeftOut()
    assert found(folder, left_out) == wanted
    assert sum(len(paths) for reason, paths in left_out.paths.items() if "link" in reason) == count


@pytest.mark.parametrize(
    "name", [".DS_Store", "._a.png", ".hidden/a.png", "Thumbs.db", "sub/THUMBS.DB", "__MACOSX/a.png", "@eaDir/a.png"]
)
def test_hidden_and_system_files_are_counted_and_never_read(tmp_path, name):
    left_out = LeftOut()
    assert found(make(tmp_path, name, "b.png"), left_out) == ["b.png"]
    assert len(left_out.paths[HIDDEN]) == 1


def test_what_is_no_file_is_left_out(tmp_path):
    os.mkfifo(make(tmp_path, "b.png") / "pipe")
    left_out = LeftOut()
    assert found(tmp_path, left_out) == ["b.png"]
    assert left_out.paths == {OTHER: [tmp_path / "pipe"]}


def test_skipped_folders_are_skipped_by_every_way(tmp_path):
    folder = make(tmp_path, "a.png", "out/b.png", "link->out", "c.png->out/b.png", "d->out/sub", "out/sub/e.png")
    assert found(folder, skip=[tmp_path / "out"]) == ["a.png"]
    assert found(tmp_path / "out/sub", skip=[tmp_path / "out"]) == []


def test_lines_name_at_most_some_files_and_no_patient():
    left_out = LeftOut()
    for n in range(25):
        left_out.add(OTHER, Path(f"Li_Wu{n}.txt"))
    left_out.add(OTHER, Path("scan.Wu"))
    [line] = left_out.describe()
    assert line.startswith("files of other formats: 26 (Li_Wu0.txt, ")
    assert line.endswith(" and 6 more)")
    left_out.is_private = True
    assert left_out.describe() == ["files of other formats: 26 (25 .txt)"]


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("given", ["NFC", "NFD"])
def test_a_name_in_a_table_is_found_in_either_spelling(tmp_path, stored, given):
    path = make(tmp_path, unicodedata.normalize(stored, "Schädel/é.png"))
    wanted = unicodedata.normalize(stored, "Schädel/é.png")
    found = find_spelling(path, unicodedata.normalize(given, "Schädel/é.png"))
    assert found.relative_to(path).as_posix() == wanted
    assert find_spelling(path, "nowhere.png") == path / "nowhere.png"


def test_a_link_to_nothing_is_named(tmp_path):
    make(tmp_path, "a.png->gone", "b.png", "c.png->gone", "d.png->gone")
    check_links([tmp_path / "b.png"])
    with pytest.raises(InputError, match=r"a\.png: expected a file, got a link to nothing; fetch its content"):
        check_links([tmp_path / "b.png", tmp_path / "a.png"])
    with pytest.raises(InputError, match=r"a\.png \(and c\.png, d\.png\): expected a file"):
        check_links([tmp_path / f"{name}.png" for name in "abcd"])
