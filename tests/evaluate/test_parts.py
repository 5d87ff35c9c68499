"""Test the parts of evaluate: classes, label maps, pairs, resampling."""

import json
import unicodedata

import nibabel as nib
import numpy as np
import pytest
from evaluate_making import AFFINE, blobs, save
from PIL import Image

from medpos.core.errors import InputError
from medpos.core.labels import JSRT
from medpos.evaluate.classes import read_classes
from medpos.evaluate.pairs import Tool, find_subjects, match_by_name, read_pairs
from medpos.evaluate.volumes import Volume, read_image, read_label_map, resample
from medpos.io.walk import HIDDEN, OTHER, LeftOut

OURS = {"name": "mine", "phantom": True, "ignore_index": 255, "labels": [label.to_json() for label in JSRT]}
DECLARED = {
    "text": ("1=liver,2=tumor", (1, 2), ("liver", "tumor"), None),
    "text with spaces": (" 2 = Left kidney , 1=liver ", (1, 2), ("liver", "left_kidney"), None),
    "binary mask": ("255=vessel", (255,), ("vessel",), None),
    "gaps": ("5=a,1000=b", (5, 1000), ("a", "b"), None),
    "background named": ("0=background,1=a", (1,), ("a",), None),
    "ignored": ("1=a,9=ignore", (1,), ("a",), 9),
    "nnU-Net 1": ({"labels": {"0": "background", "1": "PZ", "2": "TZ"}}, (1, 2), ("pz", "tz"), None),
    "nnU-Net 2": ({"labels": {"background": 0, "liver": 1, "tumor": 2}}, (1, 2), ("liver", "tumor"), None),
    "nnU-Net 2, ignore": ({"labels": {"background": 0, "liver": 1, "ignore": 2}}, (1,), ("liver",), 2),
    "nnU-Net 2, texts": ({"labels": {"background": "0", "liver": "1"}}, (1,), ("liver",), None),
    "Decathlon": (
        {"name": "Liver", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "cancer"}},
        (1, 2),
        ("liver", "cancer"),
        None,
    ),
    "ours": (OURS, (1, 2, 3), ("right_lung", "left_lung", "heart"), 255),
}


@pytest.mark.parametrize("form", DECLARED)
def test_classes(form, tmp_path):
    given, values, names, ignored = DECLARED[form]
    if isinstance(given, dict):
        path = tmp_path / "dataset.json"
        path.write_text(json.dumps(given))
        assert read_classes(str(tmp_path)) == read_classes(str(path))
        given = str(path)
    found = read_classes(given)
    assert found.values == values
    assert tuple(label.name for label in found.labels) == ("background", *names)
    assert [label.index for label in found.labels] == list(range(len(names) + 1))
    assert found.ignored == ignored
    assert (found.data, found.phantom) == {"ours": ("mine", True), "Decathlon": ("Liver", False)}.get(form, ("", False))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_classes_of_a_file_in_any_unicode(tmp_path, encoding):
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "background",\r\n"1": "Schädel"}}', encoding=encoding)
    assert [label.name for label in read_classes(str(tmp_path)).labels] == ["background", "schädel"]


@pytest.mark.parametrize(
    "given",
    [
        "",
        "0=background",
        "liver",
        "liver=1",
        "1=",
        "-1=liver",
        "1.5=liver",
        "1=liver,1=tumor",
        "1=liver,2=LIVER",
        "1=background",
        "1=mean of organs",
        "1=?",
        "2=ignore",
        "missing.json",
        {},
        {"labels": []},
        {"labels": [{"index": 1}]},
        {"labels": 3},
        {"labels": {"whole tumor": [1, 2], "core": 2}},
        {"labels": {"liver": 1.5}},
        {"labels": {"liver": True}},
        {"labels": {"liver": -1}},
    ],
    ids=str,
)
def test_bad_classes(given, tmp_path):
    if isinstance(given, dict):
        (tmp_path / "dataset.json").write_text(json.dumps(given))
        given = str(tmp_path)
    with pytest.raises(InputError, match=r"labels|dataset\.json|missing\.json"):
        read_classes(given)


def as_palette(path, values):
    picture = Image.fromarray(values.T.copy()).convert("L")
    picture = Image.fromarray(np.asarray(picture), mode="P")
    picture.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10, 90, 90, 200])
    picture.save(path)


def as_pages(path, values):
    pages = [Image.fromarray(np.ascontiguousarray(values[..., z].T)) for z in range(values.shape[2])]
    pages[0].save(path, save_all=True, append_images=pages[1:])


def as_scaled(path, values):
    """Store 10 times the label, with a slope of 0.1 in the header."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    image = nib.Nifti1Image(values.astype(np.int16) * 10, AFFINE, header)
    image.header.set_slope_inter(0.1, 0)
    nib.save(image, path)


STORED = {
    "palette": ((7, 5), "c.png", as_palette),
    "pages": ((7, 5, 3), "c.tiff", as_pages),
    "three equal colors": ((7, 5), "c.png", lambda p, v: Image.fromarray(v.T.copy()).convert("RGB").save(p)),
    "16 bits": ((7, 5), "c.png", lambda p, v: Image.fromarray(v.T.astype(np.uint16)).save(p)),
    "float TIFF": ((7, 5), "c.tif", lambda p, v: Image.fromarray(v.T.astype(np.float32)).save(p)),
    "one bit": ((7, 5), "c.png", lambda p, v: Image.fromarray(v.T > 0).save(p)),
    "capital suffix": ((7, 5), "c.PNG", lambda p, v: Image.fromarray(v.T.copy()).save(p)),
    "nearly whole": ((7, 5, 3), "c.nii.gz", lambda p, v: save(p, (v * 0.9999999).astype(np.float64))),
    "scaled": ((7, 5, 3), "c.nii.gz", as_scaled),
    "four axes": ((7, 5, 3), "c.nii", lambda p, v: save(p, v[..., None])),
    "big endian": ((7, 5, 3), "c.nii", lambda p, v: save(p, v.astype(">i2"), dtype=">i2")),
}


@pytest.mark.parametrize("form", STORED)
def test_label_maps_are_read_in_every_encoding(form, tmp_path):
    shape, name, write = STORED[form]
    values = np.random.default_rng(0).integers(0, 2 if form == "one bit" else 4, shape).astype(np.uint8)
    write(tmp_path / name, values)
    found = read_label_map(tmp_path / name)
    assert (found.values == values.reshape(*shape, *[1] * (3 - len(shape)))).all()
    indices = read_classes("1=a,2=b,3=c").to_indices(found)
    assert indices.dtype == np.uint8
    assert (indices == found.values).all()


def colored(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (5, 5, 3)).astype(np.uint8)).save(path)


UNREADABLE = {
    "interpolated": (
        "c.nii.gz",
        lambda p: save(p, np.full((3, 3, 3), 0.5, np.float32)),
        "whole numbers as labels, got 0.5",
    ),
    "almost": ("c.nii.gz", lambda p: save(p, np.full((3, 3, 3), 1.01, np.float32)), "got 1.01"),
    "nan": ("c.nii.gz", lambda p: save(p, np.full((3, 3, 3), np.nan, np.float32)), "got nan"),
    "infinite": ("c.nii.gz", lambda p: save(p, np.full((3, 3, 3), np.inf, np.float32)), "got inf"),
    "colors": ("c.png", colored, "got colors"),
    "jpeg": ("c.jpg", colored, "got JPEG"),
    "text": ("c.png", lambda p: p.write_text("no picture"), "got another format; convert it"),
    "cut off": ("c.nii.gz", lambda p: p.write_bytes(b"\x1f\x8b\x08"), "c.nii.gz"),
    "channels": ("c.nii.gz", lambda p: save(p, np.zeros((3, 3, 3, 2), np.uint8)), "4 axes"),
    "another format": ("c.doc", lambda p: p.write_text(""), "expected a label map as NIfTI"),
    "missing": ("c.png", lambda p: None, "c.png"),
}


@pytest.mark.parametrize("form", UNREADABLE)
def test_files_that_are_not_label_maps_are_refused(form, tmp_path):
    name, write, message = UNREADABLE[form]
    write(tmp_path / name)
    with pytest.raises(InputError, match=message):
        read_label_map(tmp_path / name)


def test_undeclared_values_are_named(tmp_path):
    volume = read_label_map(save(tmp_path / "c.nii.gz", np.arange(27, dtype=np.int16).reshape(3, 3, 3) - 1))
    with pytest.raises(InputError, match=r"label values 0, 1, 2, got -1, 3, 4, 5, 6 and 19 more"):
        read_classes("1=a,2=b").to_indices(volume)


@pytest.mark.parametrize("highest", [1, 255, 65_535, 65_536, 10_000_000])
def test_values_of_any_size(highest, tmp_path):
    values = np.random.default_rng(0).integers(0, 2, (5, 4, 3)) * highest
    volume = read_label_map(save(tmp_path / "c.nii.gz", values.astype(np.int32)))
    assert (read_classes(f"{highest}=a").to_indices(volume) == (values > 0)).all()


def test_only_the_truth_may_be_ignored(tmp_path):
    volume, classes = (
        read_label_map(save(tmp_path / "c.png", np.full((3, 3), 9, np.uint8))),
        read_classes("1=a,9=ignore"),
    )
    assert (classes.to_indices(volume, may_ignore=True) == 255).all()
    with pytest.raises(InputError, match="got 9"):
        classes.to_indices(volume)


def turned(angle):
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return AFFINE @ affine


def moved(*mm):
    affine = AFFINE.copy()
    affine[:3, 3] += mm
    return affine


GRIDS = {
    "same": AFFINE,
    "moved": moved(1.1, -2.0, 4.0),
    "moved a little": moved(0.3, 0.6, -1.2),
    "flipped": AFFINE @ np.array([[-1, 0, 0, 8], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    "axes swapped": AFFINE[:, [1, 0, 2, 3]],
    "finer": AFFINE @ np.diag([0.4, 0.4, 0.4, 1]),
    "coarser": AFFINE @ np.diag([1.7, 1.7, 1.7, 1]),
    "turned": turned(0.4),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_resampling_takes_the_nearest_pixel(grid, tmp_path):
    source = read_label_map(save(tmp_path / "p.nii.gz", blobs((9, 8, 7), 0, noise=0.5)))
    target = read_label_map(save(tmp_path / "t.nii.gz", blobs((10, 9, 6), 1), affine=GRIDS[grid]))
    found = resample(source, target).values
    step = np.linalg.inv(source.affine) @ target.affine
    places = np.stack([*np.indices(target.values.shape).reshape(3, -1), np.ones(target.values.size)])
    at = (step @ places)[:3].T
    nearest = np.rint(at).astype(int)
    inside = ((nearest >= 0) & (nearest < source.values.shape)).all(axis=1)
    expected = np.zeros(len(at), int)
    expected[inside] = source.values[tuple(nearest[inside].T)]
    clear = (np.abs(np.abs(at - np.floor(at)) - 0.5) > 1e-3).all(axis=1)  # a tie may go either way
    assert clear.mean() > 0.4
    assert (found.reshape(-1)[clear] == expected[clear]).all()
    assert found.any()


@pytest.mark.parametrize("form", ["picture", "no orientation", "elsewhere"])
def test_resampling_that_is_impossible_is_refused(form, tmp_path):
    values = blobs((9, 8, 1), 0)
    target = read_label_map(save(tmp_path / "t.nii.gz", values))
    if form == "picture":
        source = read_label_map(save(tmp_path / "p.png", values[..., 0]))
    elif form == "no orientation":
        source = read_label_map(save(tmp_path / "p.nii.gz", values, affine=None))
    else:
        source = Volume(tmp_path / "p", values, (1, 1, 1), moved(500, 0, 0))
    with pytest.raises(InputError, match=r"no pixel lies in both|states no position") as error:
        resample(source, target)
    assert str(target.path) in str(error.value)


@pytest.mark.parametrize("name", ["c.jpg", "c.png", "c.nii.gz"])
def test_images_for_the_report(name, tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (7, 5, 3)).astype(np.uint8)
    if name.endswith("gz"):
        save(tmp_path / name, values)
    else:
        Image.fromarray(values.swapaxes(0, 1)).save(tmp_path / name)
    found = read_image(tmp_path / name)
    assert found.values.shape == (7, 5, 3 if name.endswith("gz") else 1)
    assert (found.affine is None) == (not name.endswith("gz"))


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_files_are_matched_by_their_path_without_suffix(tmp_path):
    e = unicodedata.normalize
    touch(
        tmp_path / "truth",
        "a.nii.gz",
        "sub/b.NII",
        "x.y.png",
        "日本.png",
        e("NFC", "é.png"),
        ".hidden.png",
        "._a.png",
        "dataset.json",
    )
    touch(
        tmp_path / "tool", "a.nii", "sub/b.nii.gz", "x.y.tif", "日本.png", e("NFD", "é.png"), "b.nii.gz", ".cache/a.png"
    )
    touch(tmp_path / "images", "a_0000.nii.gz", "a_0001.nii.gz", "x.y.jpg", "z_0000.png")
    left_out = LeftOut()
    cases = match_by_name([Tool("t", tmp_path / "tool")], tmp_path / "truth", tmp_path / "images", left_out)
    assert [case.name for case in cases] == ["a", "sub/b", "x.y", "é", "日本"]
    assert all(case.predictions[0] for case in cases)
    assert [case.image and case.image.name for case in cases] == ["a_0000.nii.gz", None, "x.y.jpg", None, None]
    assert left_out.paths == {
        HIDDEN: [tmp_path / place for place in ("truth/._a.png", "truth/.hidden.png", "tool/.cache")],
        OTHER: [tmp_path / "truth/dataset.json"],
        "files without a ground truth of their name": [tmp_path / "tool/b.nii.gz", tmp_path / "images/z_0000.png"],
    }


@pytest.mark.parametrize("names", [(), ("dataset.json",), (".hidden.png",), ("a.png", "a.nii.gz")], ids=str)
def test_folders_that_cannot_be_matched(names, tmp_path):
    touch(tmp_path / "truth", "a.png")
    (tmp_path / "tool").mkdir()
    touch(tmp_path / "tool", *names)
    with pytest.raises(InputError, match=r"got none; check the path|expected one file of this name"):
        match_by_name([Tool("t", tmp_path / "tool")], tmp_path / "truth", None, LeftOut())
    with pytest.raises(InputError, match="does not exist"):
        match_by_name([Tool("t", tmp_path / "nowhere")], tmp_path / "truth", None, LeftOut())


@pytest.mark.parametrize("place", ["truth", "tool", "images"])
def test_a_link_to_nothing_among_the_cases_is_refused(place, tmp_path):
    for folder in ("truth", "tool", "images"):
        touch(tmp_path / folder, "b.png", *(["a.png"] if folder != place else []))
    (tmp_path / place / "a.png").symlink_to("gone")
    with pytest.raises(InputError, match=rf"{place}/a\.png: expected a file, got a link to nothing"):
        match_by_name([Tool("t", tmp_path / "tool")], tmp_path / "truth", tmp_path / "images", LeftOut())


def test_links_to_nothing_without_a_ground_truth_are_left_out(tmp_path):
    touch(tmp_path / "truth", "a.png")
    touch(tmp_path / "tool", "a.png")
    for name in ("c.png", "d.txt"):
        (tmp_path / "tool" / name).symlink_to("gone")
    left_out = LeftOut()
    assert len(match_by_name([Tool("t", tmp_path / "tool")], tmp_path / "truth", None, left_out)) == 1
    assert left_out.paths == {
        OTHER: [tmp_path / "tool/d.txt"],
        "files without a ground truth of their name": [tmp_path / "tool/c.png"],
    }


TABLES = {
    "commas": "prediction,truth\nq/a.png,a.png\nb.png,b.png\n",
    "semicolons": "prediction;truth\nq/a.png;a.png\nb.png;b.png\n",
    "byte order mark": "\ufeffprediction,truth\nq/a.png,a.png\nb.png,b.png\n",
    "windows": "prediction,truth\r\nq/a.png,a.png\r\nb.png,b.png\r\n",
    "old mac": "prediction,truth\rq/a.png,a.png\rb.png,b.png\r",
    "spaces": "prediction , truth\n q/a.png , a.png\n\nb.png,b.png",
    "order": "truth,prediction\na.png,q/a.png\nb.png,b.png\n",
}


def pairs(tmp_path, text, encoding="utf-8"):
    touch(tmp_path / "truth", "a.png", "b.png")
    touch(tmp_path / "tool", "q/a.png")
    touch(tmp_path / "images", "a.jpg")
    path = tmp_path / "pairs.csv"
    path.write_bytes(text.encode(encoding))
    return read_pairs(path, [Tool("t", tmp_path / "tool")], tmp_path / "truth", tmp_path / "images")


@pytest.mark.parametrize("form", TABLES)
def test_pairs(form, tmp_path):
    a, b = pairs(tmp_path, TABLES[form])
    assert (a.name, a.subject, a.predictions) == ("a", "a", (tmp_path / "tool/q/a.png",))
    assert (b.name, b.predictions) == ("b", (None,))


def test_pairs_with_every_column(tmp_path):
    head = "case,subject,phase,image,prediction,truth\n"
    a, b = pairs(tmp_path, f"{head}p1_ED,p1,ED,a.jpg,q/a.png,a.png\np1_ES,p1,ES,,b.png,b.png\n")
    assert (a.name, a.subject, a.phase, a.image) == ("p1_ED", "p1", "ED", tmp_path / "images/a.jpg")
    assert (b.name, b.subject, b.phase, b.image) == ("p1_ES", "p1", "ES", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got none"),
        ("prediction\na.png\n", "expected the columns"),
        ("prediction,truth,dice\na.png,a.png,1\n", "expected the columns"),
        ("prediction,truth\n", "at least one line"),
        ("prediction,truth\na.png\n", "line 2: expected 2 cells"),
        ("prediction,truth\na.png,a.png,b.png\n", "line 2: expected 2 cells"),
        ("prediction,truth\na.png,\n", "line 2: expected prediction and truth"),
        ("prediction,truth\na.png,c.png\n", "c.png does not exist"),
        ("prediction,truth,image\na.png,a.png,c.jpg\n", "c.jpg does not exist"),
        ("prediction,truth\na.png,a.png\nb.png,a.png\n", "every case once, got a twice"),
    ],
)
def test_bad_pairs(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        pairs(tmp_path, text)


def test_images_of_pairs_need_their_folder(tmp_path):
    touch(tmp_path, "a.png", "a.jpg")
    (tmp_path / "pairs.csv").write_text("prediction,truth,image\na.png,a.png,a.jpg\n")
    with pytest.raises(InputError, match="expected --images"):
        read_pairs(tmp_path / "pairs.csv", [Tool("t", tmp_path)], tmp_path)


def test_pairs_of_another_encoding(tmp_path):
    with pytest.raises(InputError, match="expected UTF-8"):
        pairs(tmp_path, "prediction,truth\né.png,a.png\n", "latin-1")


@pytest.mark.parametrize(("pattern", "subject"), [("^(p[0-9]+)_", "p1"), ("p[0-9]+", "p1"), ("_(.+)$", "ED")])
def test_subjects(pattern, subject, tmp_path):
    touch(tmp_path / "truth", "p1_ED.png")
    cases = match_by_name([Tool("t", tmp_path / "truth")], tmp_path / "truth", None, LeftOut())
    assert [case.subject for case in find_subjects(cases, pattern)] == [subject]


@pytest.mark.parametrize("pattern", ["(", "^q", "(x)?p"])
def test_bad_patterns_of_subjects(pattern, tmp_path):
    touch(tmp_path / "truth", "p1_ED.png")
    cases = match_by_name([Tool("t", tmp_path / "truth")], tmp_path / "truth", None, LeftOut())
    with pytest.raises(InputError, match="--subject"):
        find_subjects(cases, pattern)
