"""Names of cases in any script, and faults of a name that stop no other case."""

import os
import unicodedata

import pytest

from medpos.core.errors import InputError
from medpos.core.files import WriteError, write_text
from medpos.core.names import clean_name

NAMES = {
    "p1_a-2.x": "p1_a-2.x",
    "scan 1 (copy)": "scan-1-copy",
    "张伟 术前": "张伟-术前",
    "Сердце": "Сердце",
    "réf 12": "réf-12",
    "हिन्दी": "हिन्दी",
    "قلب": "قلب",
    "山田・太郎": "山田・太郎",
    "😀": "😀",
    "a/b\\c": "a-b-c",
    "a\u202egpj.b": "a-gpj.b",
    "line\nbreak": "line-break",
    "..hidden": "hidden",
    "bad\udcff": "bad",
    "CON": "case-CON",
    "lpt1.old": "case-lpt1.old",
    "???": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_keep_the_letters_of_every_script(name):
    assert clean_name(name) == NAMES[name]
    assert clean_name(NAMES[name]) == NAMES[name]


@pytest.mark.parametrize("name", ["schädel0", "Å", "é", "がぎ", "힣"])
def test_composed_and_decomposed_names_are_one(name):
    assert clean_name(unicodedata.normalize("NFD", name)) == clean_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("letter", ["a", "é", "张", "😀"])
def test_long_names_are_cut_and_stay_distinct(letter):
    one, other = clean_name(letter * 250), clean_name(letter * 250 + "b")
    assert one != other
    assert max(len(name.encode()) for name in (one, other)) <= 200
    assert clean_name(one) == one


@pytest.mark.parametrize("length", [200, 240, 255])
def test_a_file_may_have_the_longest_name(tmp_path, length):
    write_text(tmp_path / ("a" * length), "x")
    assert os.listdir(tmp_path) == ["a" * length]  # noqa: PTH208


def test_a_name_that_is_too_long_is_no_fault_of_the_disk(tmp_path):
    with pytest.raises(InputError, match="give the file another name") as error:
        write_text(tmp_path / ("a" * 256), "x")
    assert not isinstance(error.value, WriteError)
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="choose another folder"):
        write_text(tmp_path / "file/a", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
