import json

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from data_prep.__main__ import app
from data_prep.datasets import lits
from data_prep.phantoms import write
from data_prep.verify import check
from medpos.core.errors import InputError

SHAPE = (6, 5, 4)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([-0.7, -0.7, 5.0, 1.0])), path)


@pytest.fixture
def source(tmp_path):
    """Write volumes 0, 5 and 27 with their segmentations, and a test volume without one."""
    for number in (0, 5, 27, 1000):
        mask = np.zeros(SHAPE, np.uint8)
        mask[:4] = 1
        mask[0, 0] = 2
        folder = tmp_path / "raw" / f"Training Batch {1 + (number > 5)}"
        gray = np.full(SHAPE, number - 1000, np.int16)
        gray[0] += 1
        save(folder / f"volume-{number}.nii", gray)
        if number < 1000:
            save(folder / f"segmentation-{number}.nii", mask)
    return tmp_path / "raw"


@pytest.mark.parametrize(("lesions", "values"), [(False, [0, 1]), (True, [0, 1, 2])])
def test_prepared_folder(source, tmp_path, lesions, values):
    out = tmp_path / "out"
    assert lits.prepare(source, out, lesions).endswith("not the published number: 3 volumes (published: 131)")
    manifest = json.loads((out / "dataset.json").read_text())
    assert [label["name"] for label in manifest["labels"]] == ["background", "liver", "lesion"][: len(values)]
    assert (manifest["channels"], manifest["spacing"]) == (["CT"], "header")
    entries = [entry for part in ("training", "validation", "test") for entry in manifest[part]]
    assert {entry["case"] for entry in entries} == {"volume_000", "volume_005", "volume_027"}
    for entry in entries:
        image, label = (np.asarray(nib.load(out / entry[kind]).dataobj) for kind in ("image", "label"))
        assert (image[1:] == int(entry["case"][-3:]) - 1000).all()
        assert np.unique(label).tolist() == values
        assert (label[:4] > 0).all()
        assert entry["lesion_share"] == pytest.approx(4 / 80)
        assert entry["spacing_mm"] == pytest.approx([0.7, 0.7, 5.0])
    assert check(out)[1] == []


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full(SHAPE, 3, np.uint8), r"segmentation-5.nii: expected label values 0, 1 and 2, got \[3\]"),
        (np.zeros(SHAPE, np.uint8), "segmentation-5.nii: expected a liver, got an empty mask"),
        (np.ones((6, 5, 3), np.uint8), "segmentation-5.nii: expected a volume and a mask of one 3-D shape"),
    ],
)
def test_bad_masks(source, tmp_path, array, message):
    save(source / "Training Batch 1/segmentation-5.nii", array)
    with pytest.raises(InputError, match=message):
        lits.prepare(source, tmp_path / "out")


def test_missing_and_damaged_files(source, tmp_path):
    volume = source / "Training Batch 1/volume-5.nii"
    save(volume, np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(InputError, match=r"volume-5.nii: expected finite numbers"):
        lits.prepare(source, tmp_path / "out")
    volume.unlink()
    with pytest.raises(InputError, match=r"segmentation-5.nii: no volume-5.nii"):
        lits.prepare(source, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"expected volume-N.nii and segmentation-N.nii, found none"):
        lits.prepare(tmp_path / "empty", tmp_path / "out")


def test_phantoms_are_prepared_by_the_command_line(tmp_path):
    write("lits", tmp_path / "raw", cases=3, seed=1)
    arguments = ["lits", "--source", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--lesions"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "out")]).stdout.startswith("ok: ")
    for path in (tmp_path / "raw").rglob("volume-*.nii"):
        image = np.asarray(nib.load(path).dataobj)
        label = np.asarray(nib.load(path.with_name(path.name.replace("volume", "segmentation"))).dataobj)
        assert image[0, 0].max() < -900  # air
        assert 80 < image[label == 1].mean() < 130
