"""Names in data may hold anything: code, formulas, markup, paths; they are refused where read, escaped where shown."""

import csv
import json
import shutil
import unicodedata

import monai.bundle
import pandas as pd
import pytest
import running
from monai.bundle import ConfigParser
from rich.table import Table
from typer.testing import CliRunner

from data_prep.custom.common import Options
from data_prep.custom.folder import prepare
from data_prep.verify import check_manifest
from medpos.__main__ import app
from medpos.core.config import as_literal, quote
from medpos.core.errors import InputError, printable
from medpos.core.files import read_csv, write_csv, write_frame, write_json
from medpos.core.names import find_faults
from medpos.core.text import as_text
from medpos.data import DataFolder
from medpos.data.training_data import FILE, TrainingData
from medpos.export import export
from medpos.report import build, sources
from medpos.study import declaration

CODE = "__import__('os').system('touch {canary}')"
HOSTILE = {
    "expression": f"${CODE}",
    "reference": "@source",
    "macro": "%config.json::network_def",
    "separator": "a#b",
    "other separator": "a::b",
    "end of a string": f"a' + {CODE} + '",
    "formula": '=HYPERLINK("https://example.org","x")',
    "markup of rich": "a[/b]c",
    "HTML": "<script>alert(1)</script>",
    "attribute": '" onmouseover="alert(1)',
    "template": "{{ 7 * 7 }}",
    "line break": "a\nb",
    "carriage return": "a\rb",
    "tab": "\tx",
    "NUL": "a\0b",
    "escape sequence": "\x1b[2Jx",
    "direction": "a\u202egpj.b",
    "half a character": "a\udcff",
    "path": "../../../x",
    "absolute path": "/tmp/x",
    "backslash": "..\\x",
    "dots": "..",
    "nothing": "",
    "space": " ",
    "space at the end": "heart ",
    "pipe": "a|b",
    "length": "x" * 5000,
    "number": 3,
    "list": ["a"],
    "none": None,
}
PLAIN = [
    "right_upper_lobe",
    "T1 (post)",
    "grade 3.5",
    "CT/PET",
    "-1",
    "+x",
    "हिन्दी",
    "قلب",
    "山田・太郎",
    "Fémur",
    "😀",
]
ODD = ("+1/2 (a-b)", "-1.5", "قلب")


def put_class(content, name):
    content["labels"][3]["name"] = name


def put_data_set(content, name):
    content["name"] = name


def put_channel(content, name):
    content["channels"] = [name]


def put_case(content, name):
    content["training"][0]["case"] = name


def put_subject(content, name):
    content["training"][0]["subject"] = name


PLACES = {
    "class": put_class,
    "data set": put_data_set,
    "channel": put_channel,
    "case": put_case,
    "subject": put_subject,
}


@pytest.fixture(scope="module")
def folder(prepared, tmp_path_factory):
    return shutil.copytree(prepared["jsrt"], tmp_path_factory.mktemp("hostile") / "data")


@pytest.fixture
def named(prepared, folder, tmp_path):
    """Return a function that writes a name into a place of ``dataset.json``, and returns the folder."""

    def write(place, name):
        content = json.loads((prepared["jsrt"] / "dataset.json").read_text())
        name = name.replace("{canary}", str(tmp_path / "canary")) if isinstance(name, str) else name
        PLACES[place](content, name)
        (folder / "dataset.json").write_text(json.dumps(content))
        return folder

    return write


def problems(folder):
    path = folder / "dataset.json"
    return check_manifest(path, json.loads(path.read_text()))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_name_is_refused_before_a_training_and_by_verify(named, kind, place):
    folder = named(place, HOSTILE[kind])
    with pytest.raises(InputError, match=r"dataset\.json: ") as raised:
        DataFolder(folder)
    assert str(raised.value).isprintable()
    assert problems(folder)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("place", ["class", "channel"])
def test_a_plain_name_of_any_script_is_taken(named, name, place):
    folder = named(place, name)
    DataFolder(folder)
    assert problems(folder) == []


@pytest.mark.parametrize("name", ["scan 1 (copy)", "张伟-术前", "réf_12", "p1.a+b"])
def test_a_plain_name_of_a_file_is_taken(named, name):
    assert DataFolder(named("case", name)).cases("training")[0]["case"] == name
    assert DataFolder(named("subject", name)).cases("training")[0]["subject"] == name


@pytest.mark.parametrize("name", [".x", "-x", "a/b", "a\\b"])
@pytest.mark.parametrize("place", ["case", "subject", "data set"])
def test_names_of_files_have_no_slash_and_are_neither_hidden_nor_options(named, name, place):
    with pytest.raises(InputError, match="not beginning with"):
        DataFolder(named(place, name))


def test_names_stand_once():
    assert find_faults("class", ["a", "b", "a"]) == ["class a is listed 2 times"]
    assert find_faults("class", ["é", unicodedata.normalize("NFD", "é")]) == ["class é is listed 2 times"]


def test_a_case_stands_once_in_all_parts(named, prepared):
    content = json.loads((prepared["jsrt"] / "dataset.json").read_text())
    with pytest.raises(InputError, match=f"case {content['test'][0]['case']} is listed 2 times"):
        DataFolder(named("case", content["test"][0]["case"]))


def test_no_class_has_the_name_of_the_mean(named):
    with pytest.raises(InputError, match="expected another name of a class than 'mean of organs'"):
        DataFolder(named("class", "mean of organs"))


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("place", ["class", "data set", "channel"])
def test_a_hostile_name_in_data_json_of_a_run_is_refused(trained, tmp_path, kind, place):
    content = json.loads((trained / FILE).read_text())
    PLACES[place](content, HOSTILE[kind])
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"data\.json: is damaged"):
        TrainingData.read(tmp_path / FILE)


@pytest.mark.parametrize("value", [f"${CODE}", "@source", None, [3], {"a": f"${CODE}"}, float("nan")])
@pytest.mark.parametrize("key", ["intensity", "orientation", "nominal", "phantom", "labels", "channels"])
def test_other_hostile_entries_of_data_json_are_refused(trained, tmp_path, key, value):
    content = json.loads((trained / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**content, key: value}))
    with pytest.raises(InputError, match=r"data\.json: is damaged"):
        TrainingData.read(tmp_path / FILE)


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if isinstance(HOSTILE[kind], str)])
@pytest.mark.parametrize("place", ["channel", "data set", "class"])
def test_custom_data_with_a_hostile_name_are_refused_or_get_a_plain_one(tmp_path, kind, place):
    from PIL import Image

    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for n in range(10):
            Image.new("L", (16, 16), n if folder == "images" else n % 3).save(tmp_path / folder / f"{n}.png")
    name = HOSTILE[kind]
    classes = ["1=a", f"2={name}" if place == "class" else "2=b"]
    options = Options(name=name if place == "data set" else "", seed=0)
    channels = [name] if place == "channel" else []
    try:
        prepare(tmp_path / "images", tmp_path / "labels", classes, channels, tmp_path / "out", options)
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        DataFolder(tmp_path / "out")


def test_messages_have_no_characters_that_a_terminal_obeys():
    assert printable("a\x1b[2J\n\u202eb\udcff") == "a\\x1b[2J\\n\\u202eb\\udcff"
    assert printable("Fémur 山田 a\xa0b") == "Fémur 山田 a\xa0b"
    assert str(InputError("x\r", "y\tz")) == "x\\r\ny\\tz"


CELLS = [text for text in HOSTILE.values() if isinstance(text, str) and text.isprintable()] + [
    *(
        "=1+1",
        "+1+1",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\uff1d1",
        "\uff0b1",
        "\uff0d1",
        "\uff20A1",
        "'=1",
        "''=1",
        "'",
        "'a",
        "-",
        "=",
    ),
    *("-1.5", "+3", "nan", "-inf", "1e-5", "a-b", "x+8 y-16", "", "0", 'say "no"', "a,b", "a\nb"),
]


@pytest.mark.parametrize("cell", CELLS)
def test_no_cell_of_a_table_is_a_formula_and_all_are_read_as_they_were(tmp_path, cell):
    write_csv(tmp_path / "a.csv", ["n", cell], [{"n": 1.5, cell: cell}])
    write_frame(tmp_path / "b.csv", pd.DataFrame({"n": [1.5], cell: [cell]}))
    if "\r" not in cell:  # pandas quotes it in new versions of Python alone
        assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert read_csv(tmp_path / "a.csv") == [{"n": "1.5", cell: cell}]
    for path in (tmp_path / "a.csv", tmp_path / "b.csv"):
        with path.open(encoding="utf-8", newline="") as stream:
            written = [text for row in csv.reader(stream) for text in row[1:]]
        assert all(text[:1] not in tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20") or is_number(text) for text in written)
    table = sources.read_rows(tmp_path / "a.csv", ["n"])
    assert (table.columns[1], table.iloc[0, 1]) == (cell or "Unnamed: 1", cell)


def is_number(text):
    try:
        return isinstance(float(text), float)
    except ValueError:
        return False


def test_numbers_of_tables_stay_numbers(tmp_path):
    row = {
        "a": -1.5,
        "b": float("nan"),
        "c": float("-inf"),
        "d": -3,
        "e": None,
        "f": True,
        "g": "-0.25",
        "h": "x+8 y-16",
    }
    write_csv(tmp_path / "a.csv", list(row), [row])
    assert (tmp_path / "a.csv").read_text() == "a,b,c,d,e,f,g,h\n-1.5,nan,-inf,-3,,True,-0.25,x+8 y-16\n"
    write_frame(tmp_path / "b.csv", pd.DataFrame([row]))
    assert (tmp_path / "b.csv").read_text() == "a,b,c,d,e,f,g,h\n-1.5,,-inf,-3,,True,-0.25,x+8 y-16\n"
    write_frame(tmp_path / "c.csv", pd.DataFrame(columns=["a", "=b"]))
    assert (tmp_path / "c.csv").read_text() == "a,'=b\n"


@pytest.mark.parametrize("text", [text for text in HOSTILE.values() if isinstance(text, str)] + PLAIN)
def test_data_in_a_configuration_are_read_as_they_stand(tmp_path, text):
    config = {
        "a": as_literal({"x": [text, f"b {text}", 1.5, None]}),
        "b": f"$'c' + {quote(text)}",
        "source": "no",
        "y": 1,
    }
    path = tmp_path / "config.json"
    write_json(path, config)
    parser = ConfigParser()
    parser.read_config(path)
    assert parser.get_parsed_content("a") == {"x": [text, f"b {text}", 1.5, None]}
    assert parser.get_parsed_content("b") == f"c{text}"
    assert not (tmp_path / "canary").exists()


def test_harmless_data_stay_readable_in_a_configuration():
    assert as_literal({"a": ["heart", "50 % of x", 3]}) == {"a": ["heart", "50 % of x", 3]}


@pytest.fixture(scope="module")
def odd_bundle(prepared, tmp_path_factory):
    """Train and export with the oddest names that are allowed; everything is written that a run writes."""
    root = tmp_path_factory.mktemp("odd")
    data = shutil.copytree(prepared["jsrt"], root / "data (1) +x")
    content = json.loads((data / "dataset.json").read_text())
    for label, name in zip(content["labels"][1:], ODD, strict=True):
        label["name"] = name
    content |= {"name": "山田 (1)", "channels": ["+T1/T2 (post)"]}
    for part in ("training", "validation", "test"):
        for number, case in enumerate(content[part]):
            case["case"] = case["subject"] = f"+{part} ({number}) é"
    (data / "dataset.json").write_text(json.dumps(content))
    options = {"image_size": 32, "batch_size": 5, "max_epochs": 1, "runs_dir": str(root / "runs")}
    run = running.run_here("jsrt_small_pe", dataset_dir=str(data), run_name="a", **options)
    return run, export(run, root / "exported +x", running.ROOT), data


def test_odd_names_are_trained_reported_exported_and_predicted(odd_bundle, tmp_path):
    run, bundle, data = odd_bundle
    rows = read_csv(run / "metrics.csv")
    assert {row["organ"] for row in rows} == set(ODD)
    assert rows[0]["case"].startswith("+test (")
    page = build([run], tmp_path / "report").read_text()
    assert ODD[2] in page
    read = TrainingData.of_json(
        **{
            key: value
            for key, value in json.loads((bundle / "configs/inference.json").read_text())["source"].items()
            if not key.startswith("_")
        }
    )
    assert [label.name for label in read.labels[1:]] == list(ODD)
    image = next((data / "images").glob("*.nii.gz"))
    with running.kept_state():
        monai.bundle.run(
            config_file=str(bundle / "configs/inference.json"),
            logging_file=False,
            bundle_root=str(bundle),
            dataset_dir=str(image),
            output_dir=str(tmp_path / "out"),
        )
    assert len(list((tmp_path / "out").iterdir())) == 1
    done = CliRunner().invoke(app, ["predict", str(run), str(image), "--out", str(tmp_path / "predicted")])
    assert done.exit_code == 0, done.output
    assert any(ODD[0] in cell for row in read_csv(tmp_path / "predicted/measurements.csv") for cell in row.values())


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("place", ["class", "data set", "channel"])
def test_a_run_with_a_hostile_name_is_not_exported_and_executes_nothing(odd_bundle, tmp_path, kind, place):
    run = shutil.copytree(odd_bundle[0], tmp_path / "run")
    name = HOSTILE[kind]
    name = name.replace("{canary}", str(tmp_path / "canary")) if isinstance(name, str) else name
    content = json.loads((run / FILE).read_text())
    PLACES[place](content, name)
    (run / FILE).write_text(json.dumps(content))
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, InputError), done.exception
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "canary").exists()


SHOWN = {kind: name for kind, name in HOSTILE.items() if isinstance(name, str) and name and kind != "half a character"}
SHOWN |= {"formula of matplotlib": r"a$\x$", "braces": "{0.__class__}", "emoji of rich": ":smile:", "missing": "nan"}


# Of each place of output, the page, its figures and its tables, one; the others are left to make torture.
REPORTED = {"HTML", "formula of matplotlib", "formula"}


@pytest.mark.parametrize("kind", running.leave_to_torture(list(SHOWN), {*SHOWN} - REPORTED))
def test_a_report_of_tables_with_a_hostile_name_is_written_inside_its_folder(trained, tmp_path, kind):
    """The tables of a run folder come from anywhere: from an earlier version, from another person."""
    run, name = shutil.copytree(trained, tmp_path / "runs/bundle/run"), SHOWN[kind]
    rows = read_csv(run / "metrics.csv")
    columns, first = list(rows[0]), rows[0]["case"]
    changed = {"organ": {"heart": name}, "case": {first: name}, "subject": {first: name}}
    rows = [{key: changed.get(key, {}).get(value, value) for key, value in row.items()} for row in rows]
    write_csv(run / "metrics.csv", columns, rows)
    for table in ("confusion.csv", "calibration.csv", "reliability.csv"):
        rows = [{k: name if v == "heart" else v for k, v in row.items()} for row in read_csv(run / table)]
        write_csv(run / table, list(rows[0]), rows)
    summary = json.loads((run / "summary.json").read_text())
    summary |= {"data": name, "bundle": name}
    for condition in summary["conditions"]:
        condition["organs"] = {name if organ == "heart" else organ: v for organ, v in condition["organs"].items()}
    (run / "summary.json").write_text(json.dumps(summary))
    before = set(tmp_path.rglob("*"))
    page = build([run], tmp_path / "report/out").read_text()
    for text in ("<script>alert", '" onmouseover="', "\x1b", "\0"):
        assert text not in page
    outside = {path for path in set(tmp_path.rglob("*")) - before if tmp_path / "report" not in (path, *path.parents)}
    assert outside == set()
    cells = [row for path in (tmp_path / "report").rglob("*.csv") for row in csv.reader(path.open(newline=""))]
    assert [c for row in cells for c in row if c[:1] in tuple("=+-@\t\r") and not is_number(c)] == []
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "exported")])
    assert done.exit_code == 0, done.exception
    card = (tmp_path / "exported/docs/README.md").read_text()
    assert "<script>" not in card
    assert "\x1b" not in card


@pytest.mark.parametrize("kind", SHOWN)
def test_a_table_shows_a_hostile_name_as_it_is(kind):
    name = SHOWN[kind]
    shown = Table(name, title=name)
    shown.add_row(name)
    text = as_text(shown, name, width=20_000)
    if name.isprintable():
        assert text.count(name.strip()) >= 4


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_study_of_a_data_set_with_a_hostile_name_is_refused(tmp_path, kind):
    name = HOSTILE[kind]
    study = json.loads((running.BUNDLES / "studies/table1.json").read_text()) | {"data": [name]}
    (tmp_path / "mine.json").write_text(json.dumps(study))
    with pytest.raises(
        InputError, match=r"mine\.json: data: expected a (data set of letters|list of items, each text)"
    ):
        declaration.load(running.BUNDLES / "studies", str(tmp_path / "mine.json"))


PATHS = [
    kind for kind, name in SHOWN.items() if not set("/\0") & set(name) and name[0] != "." and len(name.encode()) < 200
]


@pytest.mark.parametrize("kind", PATHS)
def test_image_files_with_hostile_names_are_segmented_into_their_folder(trained, prepared, tmp_path, kind):
    image = next((prepared["jsrt"] / "images").glob("*.nii.gz"))
    (tmp_path / "in").mkdir()
    shutil.copy(image, tmp_path / "in" / f"{SHOWN[kind]}.nii.gz")
    before = set(tmp_path.rglob("*"))
    done = CliRunner().invoke(app, ["predict", str(trained), str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert not set("\x1b\u202e") & set(done.output)
    new = set(tmp_path.rglob("*")) - before
    assert {path for path in new if tmp_path / "out" not in (path, *path.parents)} == set()
    assert len([path for path in (tmp_path / "out").iterdir() if path.name.endswith(".nii.gz")]) == 1
    for path in (tmp_path / "out").rglob("*.csv"):
        cells = [cell for row in csv.reader(path.open(newline="")) for cell in row]
        assert [cell for cell in cells if cell[:1] in tuple("=+-@\t\r") and not is_number(cell)] == []
