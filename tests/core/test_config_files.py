"""Read bundles in YAML and JSON, and name file and line of what YAML would read in another way than meant."""

import codecs
import itertools
import json

import pytest
from monai.bundle import ConfigParser
from running import BUNDLES

from medpos.core.config_files import find_config, read_config
from medpos.core.errors import InputError

# What is written -> line and words of the message.
REFUSED = {
    "a:\n\tb: 1\n": (2, "expected spaces, got a tab"),
    "a: 1\n\tb: 2\n": (2, "expected spaces, got a tab"),
    "a:\n  - 1\n\t- 2\n": (3, "expected spaces, got a tab"),
    "a: 1\nb: 2\na: 3\n": (3, "the key a stands in line 1 already"),
    "x:\n  a: 1\n  a: 2\n": (3, "the key a stands in line 2 already"),
    "x: {a: 1, a: 2}\n": (1, "the key a stands in line 1 already"),
    "lr: 1e-3\n": (1, "write 1.0e-3,"),
    "a: [1, 2E5]\n": (1, "write 2.0e+5,"),
    "a: 1.5e3\n": (1, "write 1.5e+3,"),
    "a: 1\namp: on\n": (2, "expected true or false, got on"),
    "amp: yes\n": (1, "expected true or false, got yes"),
    "a: {b: Off}\n": (1, "expected true or false, got Off"),
    "on: 1\n": (1, 'expected text as a key, got on; write "on"'),
    "1: x\n": (1, 'write "1"'),
    "a: 1\nlr: @x\n": (2, "a text that begins with '@'; write \"@x\""),
    "a: [1,\n  @x]\n": (2, "a text that begins with '@'"),
    "a: %x\n": (1, 'write "%x"'),
    "%x: 1\n": (1, "a text that begins with '%'"),
    "a: `x`\n": (1, "a text that begins with '`'"),
    "a: $x: 1\n": (1, "expected quotes around the whole expression, got a: $x: 1"),
    "a: [$f(@a, @b)]\n": (1, "expected quotes around the whole expression"),
    "a: [$f(1, 2)]\n": (1, "expected a complete expression, got $f(1"),
    "a: $f('x' #1)\n": (1, "expected a complete expression"),
    "run_name: 2026-01-31\n": (1, 'write "2026-01-31"'),
    "a: 010\n": (1, "expected a whole number, got 010"),
    "a: 1:30\n": (1, "expected a whole number, got 1:30"),
    "a: 1_000\n": (1, "expected a whole number, got 1_000"),
    "a: .nan\n": (1, "expected a finite number, got .nan"),
    "a: -.inf\n": (1, "expected a finite number, got -.inf"),
    "a: 1\n---\nb: 2\n": (2, "found another document"),
    "- a\n": (1, "expected keys with values"),
    "": (1, "expected keys with values"),
    "a: !!python/object:os.system x\n": (1, "could not determine a constructor"),
    "a: &one {x: 1}\nc: {<<: *one, y: 2}\n": (2, "got <<, which MONAI doesn't read"),
    "a: *b\n": (1, "found undefined alias"),
    "a: [1, 2\nb: 3\n": (2, "expected ',' or ']'"),
    "a: 1\nb: \x07\n": (2, "got the control character 7"),
    "a: &one [*one]\n": (1, "an anchor that contains itself"),
    "a: &a [1, 1]\n" + "".join(f"{n}: &{n} [*{m}, *{m}]\n" for m, n in itertools.pairwise("abcdefghijklmnopqrst")): (
        19,
        "got more by aliases",
    ),
}
READ = {
    "a: true\nb: False\nc: null\nd: ~\n": {"a": True, "b": False, "c": None, "d": None},
    "a: 0.001\nb: 1.0e-3\nc: -2\nd: .5\n": {"a": 0.001, "b": 0.001, "c": -2, "d": 0.5},
    "a: \"1e-3\"\nb: 'on'\nc: '@lr'\n": {"a": "1e-3", "b": "on", "c": "@lr"},
    "a: $torch.device('cpu')\ni: [$import os, $import a.b as c]\n": {
        "a": "$torch.device('cpu')",
        "i": ["$import os", "$import a.b as c"],
    },
    'a: $@lr * 2  # twice\ntrain#trainer#max_epochs: 3\n"train::x": 1\n': {
        "a": "$@lr * 2",
        "train#trainer#max_epochs": 3,
        "train::x": 1,
    },
    "a: &one {x: 1}\nb: *one\n": {"a": {"x": 1}, "b": {"x": 1}},
    "t: |\n  two\n  lines\n": {"t": "two\nlines\n"},
    "n: Müller\n": {"n": "Müller"},
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_surprise_is_one_line_with_file_and_line(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    line, words = REFUSED[text]
    with pytest.raises(InputError) as error:
        read_config(path)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", READ)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_good_yaml_is_read_as_monai_reads_it(text, ending, mark, tmp_path):
    path = tmp_path / "mine.yml"
    path.write_bytes(mark + text.replace("\n", ending).encode())
    assert read_config(path) == READ[text]
    assert ConfigParser.load_config_file(path) == READ[text]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16"])
def test_other_encodings_are_named(encoding, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes("a: 1\n_desc_: Müller\n".encode(encoding))
    line = 1 if encoding == "utf-16" else 2
    with pytest.raises(
        InputError, match=rf"mine.yaml, line {line}: expected UTF-8, got the byte 0x\w\w; save the file"
    ):
        read_config(path)


def test_json_and_names(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "b.yml").write_text("b: 1\n")
    assert read_config(find_config(tmp_path, "a")) == {"a": 1}
    assert read_config(find_config(tmp_path, "b")) == {"b": 1}
    assert find_config(tmp_path, "c") == tmp_path / "c.json"
    (tmp_path / "a.json").write_text("{")
    for name, words in (("a.json", "can't be read as JSON"), ("c.yaml", "can't be read"), ("d.txt", "another suffix")):
        with pytest.raises(InputError, match=words):
            read_config(tmp_path / name)


@pytest.mark.parametrize("name", ["jsrt_pe", "acdc_small", "nuclei_unetpp_ds", "crf", "multi_gpu"])
def test_every_key_of_a_bundle_can_be_yaml(name, tmp_path):
    import yaml

    content = json.loads((BUNDLES / f"{name}.json").read_text())
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    assert read_config(path) == content


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"a":' * 101 + "1" + "}" * 101),
        ("a.yaml", "a: " + "[" * 101 + "]" * 101),
        ("a.json", '{"a":' * 100_000),
        ("a.yaml", "[" * 3000),
    ],
    ids=["json", "yaml", "json beyond Python's limit", "yaml beyond Python's limit"],
)
def test_what_is_nested_too_deeply_is_refused(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=r"at most 100 levels|nested too deeply"):
        read_config(tmp_path / name)


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_an_empty_key_is_refused(tmp_path, name):
    (tmp_path / name).write_text('{"seed": 1, "": null}')
    with pytest.raises(InputError, match="expected a name for each key, got an empty one"):
        read_config(tmp_path / name)
