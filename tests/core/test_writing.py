import json
import os

import pytest

from medpos.core.errors import InputError
from medpos.core.files import write_atomically, write_json, write_text


def test_only_the_text_is_written(tmp_path):
    write_text(tmp_path / "new/deep/a.txt", "grüß")
    assert (tmp_path / "new/deep/a.txt").read_bytes() == "grüß".encode()
    assert os.listdir(tmp_path / "new/deep") == ["a.txt"]  # noqa: PTH208


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_failure_leaves_the_old_file(error, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(partial):
        partial.write_text("half")
        raise error

    with pytest.raises(InputError, match=r"a\.txt: can't be written .*make room on the disk"):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_program_is_raised_after_cleaning_up(tmp_path):
    def write(partial):
        partial.write_text("half")
        raise KeyError

    with pytest.raises(KeyError):
        write_atomically(tmp_path / "a.txt", write)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        write_text(tmp_path / "file/a.txt", "")


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()
