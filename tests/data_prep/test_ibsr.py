import json

import nibabel as nib
import numpy as np
import pytest
import raw

from data_prep.datasets import ibsr
from data_prep.files import encode_nifti
from data_prep.verify import check
from medpos.core import labels
from medpos.core.errors import InputError

SHAPE, SPACING = (8, 6, 10), (0.9375, 1.5, 0.9375)
AFFINE = np.array([[-0.9375, 0, 0, 3], [0, 1.5, 0, -4], [0, 0, 0.9375, 5], [0, 0, 0, 1]])


def volumes(seed, shape=SHAPE):
    """Make gray values, and labels with all three tissues."""
    rng = np.random.default_rng(seed)
    tissue = rng.integers(0, 4, shape).astype(np.uint8)
    tissue.flat[:4] = (0, 1, 2, 3)
    return rng.integers(0, 900, shape).astype(np.int16) * (tissue > 0), tissue


def nifti(root, number, affine=AFFINE, shape=SHAPE, values=(0, 1, 2, 3), kind="segTRI_ana", fourth=True):
    image, tissue = volumes(number, shape)
    folder = root / f"IBSR_{number:02d}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (("ana_strip", image), (kind, np.array(values, np.uint8)[tissue])):
        data = data[..., None] if fourth else data
        nib.save(nib.Nifti1Image(data, affine), folder / f"{folder.name}_{name}.nii.gz")
    return image, tissue


def analyze(root, number):
    image, tissue = volumes(number)
    for inside, name, data in (("images", "ana_strip", image), ("segmentation", "segTRI_ana", tissue)):
        header = nib.AnalyzeHeader(endianness=">")
        header.set_data_dtype(data.dtype)
        header.set_data_shape(SHAPE)
        header.set_zooms(SPACING)
        folder = root / f"IBSR_{number:02d}" / inside / "analyze"
        folder.mkdir(parents=True)
        nib.save(nib.AnalyzeImage(data, None, header), folder / f"IBSR_{number:02d}_{name}.hdr")
    return image, tissue


@pytest.fixture
def source(tmp_path):
    for number in (1, 3):
        analyze(tmp_path / "raw", number)
    for number in (2, 4):
        nifti(tmp_path / "raw" / "IBSR_nifti_stripped", number)
    return tmp_path / "raw"


def entries(out):
    manifest = json.loads((out / "dataset.json").read_text())
    return {entry["case"]: entry for part in ("training", "validation", "test") for entry in manifest[part]}


def test_both_formats_become_one_folder(source, tmp_path):
    out = tmp_path / "out"
    assert "4 volumes (published: 18)" in ibsr.prepare(source, out)
    found = entries(out)
    assert list(found) != []
    for number in (1, 2, 3, 4):
        entry = found[f"IBSR_{number:02d}"]
        image, tissue = (nib.load(out / entry[kind]) for kind in ("image", "label"))
        assert (image.get_data_dtype(), tissue.get_data_dtype()) == (np.int16, np.uint8)
        expected = volumes(number)
        assert np.array_equal(image.dataobj, expected[0])
        assert np.array_equal(tissue.dataobj, expected[1])
        assert entry["spacing_mm"] == list(SPACING)
        assert entry["axes"] == "LAS"
        by_analyze = number % 2
        assert (entry["format"], entry["orientation"]) == (
            ("analyze", "assumed") if by_analyze else ("nifti", "header")
        )
        if not by_analyze:
            assert np.allclose(image.affine, AFFINE)
    manifest = json.loads((out / "dataset.json").read_text())
    assert manifest["labels"] == [label.to_json() for label in labels.IBSR]
    assert check(out)[1] == []


def test_nifti_replaces_analyze_of_the_same_volume(tmp_path):
    analyze(tmp_path / "raw/analyze", 1)
    nifti(tmp_path / "raw/nifti", 1, fourth=False)
    cases = ibsr.find_cases(tmp_path / "raw", [1, 2, 3])
    assert [case.details["format"] for case in cases] == ["nifti"]
    (tmp_path / "raw/nifti/IBSR_01/IBSR_01_segTRI_ana.nii.gz").unlink()  # then only the Analyze pair is complete
    assert [case.details["format"] for case in ibsr.find_cases(tmp_path / "raw", [1, 2, 3])] == ["analyze"]


def test_thick_axis_comes_second_and_every_voxel_stays_where_it_is(tmp_path):
    affine = np.array([[0, -1.0, 0, 3], [0, 0, 1.5, -4], [0.9, 0, 0, 5], [0, 0, 0, 1]])  # stored up, left, front
    image, tissue = nifti(tmp_path / "raw", 5, affine, shape=(10, 8, 6))
    nifti(tmp_path / "raw", 6)
    ibsr.prepare(tmp_path / "raw", tmp_path / "out")
    entry = entries(tmp_path / "out")["IBSR_05"]
    assert (entry["shape"], entry["spacing_mm"], entry["axes"]) == ([10, 6, 8], [0.9, 1.5, 1.0], "SAL")
    made, label = (nib.load(tmp_path / "out" / entry[kind]) for kind in ("image", "label"))
    to_old = np.linalg.inv(affine) @ made.affine
    for voxel in ((0, 0, 0), (9, 5, 7), (3, 4, 1)):
        old = tuple(np.rint(to_old @ [*voxel, 1])[:3].astype(int))
        assert made.dataobj[voxel] == image[old]
        assert label.dataobj[voxel] == tissue[old]


def test_equal_sides_keep_the_order_of_the_file():
    assert ibsr.thick_axis_second((1.0, 1.0, 1.0)) == [0, 1, 2]
    assert ibsr.thick_axis_second((0.9, 1.5, 0.9)) == [0, 1, 2]
    assert ibsr.thick_axis_second((1.5, 1.0, 0.9)) == [1, 0, 2]


@pytest.mark.parametrize(("stored", "option"), [((0, 2, 3, 1), "2,3,1"), ((0, 128, 192, 254), "128, 192,254")])
def test_other_values_of_the_tissues(tmp_path, stored, option):
    _, tissue = nifti(tmp_path / "raw", 1, values=stored)
    nifti(tmp_path / "raw", 2, values=stored)
    ibsr.prepare(tmp_path / "raw", tmp_path / "out", option)
    assert np.array_equal(nib.load(tmp_path / "out/labels/IBSR_01.nii.gz").dataobj, tissue)
    other = ",".join(reversed(option.split(",")))
    assert "2 cases written" in ibsr.prepare(tmp_path / "raw", tmp_path / "out", other)
    assert "unchanged" in ibsr.prepare(tmp_path / "raw", tmp_path / "out", other)


@pytest.mark.parametrize("values", ["1,2", "1,2,2", "0,1,2", "a,b,c", "1,2,-3", ""])
def test_bad_values_of_the_tissues(values):
    with pytest.raises(InputError, match="expected three different numbers"):
        ibsr.parse_values(values)


def test_filled_labels_on_request(tmp_path):
    for number in (1, 2):
        nifti(tmp_path / "raw", number)
        nifti(tmp_path / "raw", number, values=(1, 1, 2, 3), kind="segTRI_fill_ana")
    ibsr.prepare(tmp_path / "raw", tmp_path / "out", fill=True)
    assert np.asarray(nib.load(tmp_path / "out/labels/IBSR_01.nii.gz").dataobj).min() == 1


def test_one_volume_is_too_few(tmp_path):
    nifti(tmp_path / "raw", 1)
    with pytest.raises(InputError, match="ibsr: expected a training case, got none of 1"):
        ibsr.prepare(tmp_path / "raw", tmp_path / "out")


def test_18_volumes_are_6_3_and_9(tmp_path):
    for number in range(1, 19):
        nifti(tmp_path / "raw", number, shape=(2, 2, 2))
    message = ibsr.prepare(tmp_path / "raw", tmp_path / "out")
    assert message.endswith("(6 training, 3 validation, 9 test)")


def test_second_run_changes_nothing_and_pixels_count(source, tmp_path):
    out = tmp_path / "out"
    ibsr.prepare(source, out)
    before = raw.times(out)
    assert ibsr.prepare(source, out, workers=2).startswith("unchanged: 4 cases")
    assert raw.times(out) == before
    pixels = source / "IBSR_01/images/analyze/IBSR_01_ana_strip.img"
    pixels.write_bytes(bytes(len(pixels.read_bytes())))
    assert "1 cases written, 3 up to date" in ibsr.prepare(source, out)


def edit(change, affine=AFFINE):
    def damage(path):
        data = np.asarray(nib.load(path).dataobj).copy()
        nib.save(nib.Nifti1Image(change(data), affine), path)

    return damage


def put(value, dtype):
    def change(data):
        data = data.astype(dtype)
        data.flat[0] = value
        return data

    return edit(change)


IMAGE, LABEL = "IBSR_02_ana_strip.nii.gz", "IBSR_02_segTRI_ana.nii.gz"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (LABEL, lambda path: path.unlink(), r"IBSR_02_ana_strip.nii.gz: expected IBSR_02_segTRI_ana\.\* of the same"),
        (IMAGE, lambda path: path.unlink(), r"IBSR_02_segTRI_ana.nii.gz: expected IBSR_02_ana_strip\.\* of the same"),
        (
            LABEL,
            edit(lambda data: data[:-1]),
            r"segTRI_ana.nii.gz: expected the shape of its image, \(8, 6, 10\), got \(7, 6, 10\)",
        ),
        (
            LABEL,
            edit(lambda data: data, np.diag([0.9375, 1.5, 0.9375, 1])),
            "segTRI_ana.nii.gz: expected spacing and axes of its image",
        ),
        (
            LABEL,
            edit(lambda data: data, AFFINE * [1, 2, 1, 1]),
            "segTRI_ana.nii.gz: expected spacing and axes of its image",
        ),
        (LABEL, put(7, np.uint8), r"segTRI_ana.nii.gz: expected label values \[0, 1, 2, 3\], got \[0, 1, 2, 3, 7\]"),
        (LABEL, put(np.nan, np.float32), "segTRI_ana.nii.gz: expected label values"),
        (LABEL, edit(np.zeros_like), "segTRI_ana.nii.gz: expected a segmentation, got an empty label map"),
        (
            IMAGE,
            edit(lambda data: data.repeat(2, 3)),
            r"ana_strip.nii.gz: expected one 3-D volume, got shape \(8, 6, 10, 2\)",
        ),
        (IMAGE, put(np.inf, np.float32), "ana_strip.nii.gz: expected finite numbers, got 1 NaN or infinite"),
        (IMAGE, put(70000, np.int32), "ana_strip.nii.gz: expected 16-bit gray values, got 0 to 70000"),
        (IMAGE, lambda path: path.write_bytes(b"x"), "ana_strip.nii.gz: expected a complete gzip"),
    ],
)
def test_bad_nifti(tmp_path, name, damage, message):
    nifti(tmp_path / "raw", 2)
    damage(tmp_path / "raw/IBSR_02" / name)
    with pytest.raises(InputError, match=message) as caught:
        ibsr.prepare(tmp_path / "raw", tmp_path / "out")
    assert str(tmp_path / "raw") in str(caught.value)
    assert not (tmp_path / "out/dataset.json").exists()


@pytest.mark.parametrize(
    ("suffix", "damage", "message"),
    [
        (".img", lambda path: path.unlink(), "ana_strip.img: can't be read"),
        (".img", lambda path: path.write_bytes(path.read_bytes()[:-9]), "ana_strip.hdr: expected a complete file"),
        (".hdr", lambda path: path.write_bytes(b"256 128 256 0\n"), "ana_strip.hdr: expected a NIfTI or Analyze file"),
        (
            ".hdr",
            lambda path: path.write_bytes(path.read_bytes()[:80] + bytes(268)),
            "segTRI_ana.hdr: expected spacing and axes of its image",
        ),
    ],
)
def test_bad_analyze(tmp_path, suffix, damage, message):
    analyze(tmp_path / "raw", 1)
    damage(tmp_path / f"raw/IBSR_01/images/analyze/IBSR_01_ana_strip{suffix}")
    with pytest.raises(InputError, match=message):
        ibsr.prepare(tmp_path / "raw", tmp_path / "out")


def test_no_image_and_two_of_one_name(tmp_path):
    with pytest.raises(InputError, match=r"expected IBSR_NN_ana_strip.nii.gz or .hdr, found none"):
        ibsr.prepare(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="no such folder"):
        ibsr.prepare(tmp_path / "nowhere", tmp_path / "out")
    for copy in ("a", "b"):
        nifti(tmp_path / copy, 1)
    with pytest.raises(InputError, match=r"b.IBSR_01.*: a second IBSR_01_ana_strip.nii.gz beside .*a.IBSR_01"):
        ibsr.prepare(tmp_path, tmp_path / "out")


def test_verify_finds_damage(source, tmp_path):
    ibsr.prepare(source, tmp_path / "out")
    path = tmp_path / "out/labels/IBSR_03.nii.gz"
    path.write_bytes(encode_nifti(np.full(SHAPE, 9, np.uint8), nib.load(path).affine))
    problems = check(tmp_path / "out")[1]
    assert any("IBSR_03.nii.gz: label values [9]" in problem for problem in problems)
    assert any("IBSR_03.nii.gz: changed since" in problem for problem in problems)
