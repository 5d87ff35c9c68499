import json
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from data_prep.__main__ import app
from data_prep.datasets import lidc
from data_prep.phantoms import lung, write
from data_prep.phantoms.shapes import case_generator
from data_prep.verify import check
from medpos.core.errors import InputError

pytest.importorskip("pydicom", reason="pip install 'medpos[dicom]'")
PATIENTS = 3


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("lidc")
    write("lidc", root / "raw", cases=PATIENTS, seed=1)
    return root / "raw"


def balls():
    """Return the phantoms' nodules by the names of their cases."""
    found = {}
    for index in range(PATIENTS):
        for number, ball in enumerate(lung.draw(case_generator(1, lung.KIND, index))[1], 1):
            found[f"LIDC-IDRI-{index + 1:04d}_{index + 1:03d}_{number}"] = ball
    return found


def test_a_cube_around_each_nodule(source, tmp_path):
    """The cubes hold the phantoms' balls in mm, in the middle, with the scan's place in the patient."""
    done = CliRunner().invoke(app, ["lidc", "--source", str(source), "--out", str(tmp_path)])
    assert (done.exit_code, done.exception) == (0, None)
    assert check(tmp_path)[1] == []
    manifest = json.loads((tmp_path / "dataset.json").read_text())
    assert (manifest["channels"], manifest["phantom"]) == (["CT"], True)
    entries = {entry["case"]: entry for part in ("training", "validation", "test") for entry in manifest[part]}
    assert entries.keys() == balls().keys()
    for name, ball in balls().items():
        entry = entries[name]
        assert (entry["subject"], entry["spacing_mm"], entry["shape"]) == (name[:14], [1.0] * 3, [64] * 3)
        image, stored = (nib.load(tmp_path / entry[kind]) for kind in ("image", "label"))
        inside = np.asarray(stored.dataobj) > 0
        assert inside.sum() == pytest.approx(4 / 3 * np.pi * ball.radius**3, rel=0.3)
        assert np.asarray(image.dataobj)[inside].mean() > -350
        middle = np.argwhere(inside).mean(axis=0)
        assert np.abs(middle - 31.5).max() < 1.5
        # DICOM's x and y point to the left and back, those of NIfTI to the right and front.
        place = (stored.affine @ [*middle, 1])[:3] * [-1, -1, 1]
        assert np.abs(place - ball.middle).max() < 2


def test_two_readers_and_at_least_half_of_them():
    """Two readers outline squares that overlap; a third one a nodule of his own, which doesn't count."""

    def square(reader, low, high, mark=0, uid="a", included=True):
        ring = [(c, low) for c in range(low, high)] + [(high, r) for r in range(low, high)]
        ring += [(c, high) for c in range(high, low, -1)] + [(low, r) for r in range(high, low, -1)]
        return lidc.Outline(reader, mark, uid, tuple(ring), included)

    outlines = [
        square(0, 2, 8),
        square(1, 4, 10),
        square(2, 14, 18),
        square(0, 14, 18, 1, "b"),
        square(0, 2, 8, uid="b"),
    ]
    [nodule] = lidc.group_nodules(outlines)
    assert [(outline.reader, outline.slice_uid) for outline in nodule] == [(0, "a"), (1, "a"), (0, "b")]
    drawn = lidc.draw_nodule(nodule, {"a": 0, "b": 1}, (20, 20, 2), "x.xml")
    wanted = np.zeros((20, 20, 2), bool)
    wanted[3:8, 3:8, 0] = wanted[5:10, 5:10, 0] = True  # one of two readers is half; the outline doesn't count
    wanted[3:8, 3:8, 1] = True
    assert np.array_equal(drawn, wanted)
    third = [*nodule, square(2, 4, 10)]
    of_three = lidc.draw_nodule(third, {"a": 0, "b": 1}, (20, 20, 2), "x.xml")
    assert np.array_equal(np.argwhere(of_three[:, :, 0]).min(axis=0), [5, 5])  # two of three
    assert not of_three[:, :, 1].any()
    hole = [*nodule, square(0, 3, 6, included=False)]
    with_hole = lidc.draw_nodule(hole, {"a": 0, "b": 1}, (20, 20, 2), "x.xml")
    assert np.argwhere(drawn & ~with_hole).tolist() == [
        [4, 4, 0],
        [4, 5, 0],
        [5, 4, 0],
    ]  # what the other reader includes stays


def test_an_outline_without_inside_counts_itself():
    assert np.argwhere(lidc.fill([(3, 4), (4, 4), (5, 4)], 9, 9)).tolist() == [[3, 4], [4, 4], [5, 4]]


def xml_of(source):
    return sorted(source.rglob("*.xml"))[0]


@pytest.fixture
def one(source, tmp_path):
    """Copy the first series."""
    folder = tmp_path / "raw/LIDC-IDRI-0001/study/series"
    folder.mkdir(parents=True)
    for path in xml_of(source).parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_marks_of_small_nodules_and_xray_files_are_left_out(one):
    path = xml_of(one)
    assert all(len(outline.points) > 2 for outline in lidc.read_outlines(path))
    assert b"<noduleID>small" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"LidcReadMessage", b"IdriReadMessage"))
    assert lidc.read_outlines(path) == []
    with pytest.raises(InputError, match="found 1 XML files and no nodule of two readers"):
        lidc.find_cases(one.parents[2])


def test_a_single_reader_is_not_enough(one):
    path = xml_of(one)
    root = ElementTree.fromstring(path.read_bytes())
    for session in root.findall("{*}readingSession")[1:]:
        root.remove(session)
    path.write_bytes(ElementTree.tostring(root))
    assert lidc.read_outlines(path)
    with pytest.raises(InputError, match="no nodule of two readers"):
        lidc.find_cases(one.parents[2])


# An entity of a kilobyte, twenty times in each of the next seven.
ENTITIES = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 20}">' for n in range(7))
BOMB = f'<!DOCTYPE l [<!ENTITY a "{"x" * 1000}">{ENTITIES}]><LidcReadMessage>&h;</LidcReadMessage>'.encode()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: xml_of(folder).write_bytes(b"<LidcReadMessage>"), "001.xml: expected the XML file of a series"),
        (
            lambda folder: [path.unlink() for path in sorted(folder.glob("*.dcm"))[:20]],
            "001.xml: expected its slice 2.25.* beside it, found none",
        ),
        (
            lambda folder: xml_of(folder).write_bytes(BOMB),
            "001.xml: expected the XML file of a series .*limit on input",
        ),
        (lambda folder: (folder / "000014.dcm").write_bytes(b"x" * 200), "file 14"),
    ],
)
def test_bad_input(one, tmp_path, damage, message):
    damage(one)
    with pytest.raises(InputError, match=message):
        lidc.prepare(one.parents[2], tmp_path / "out")
