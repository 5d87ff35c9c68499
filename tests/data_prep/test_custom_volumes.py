"""Prepare the users' own data as NRRD, MetaImage and Analyze."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from data_prep.custom import decathlon, folder, nnunet
from data_prep.custom.common import Options
from data_prep.verify import check
from medpos.core.errors import InputError

SHAPE = (6, 8, 5)
AFFINE = np.array([[-1.5, 0, 0, 40], [0, -2.0, 0, 50], [0, 0, 8, -60], [0, 0, 0, 1]])


def arrays(number):
    rng = np.random.default_rng(number)
    label = np.zeros(SHAPE, np.uint8)
    label[2:4, 2:5] = 1
    return rng.integers(-900, 900, SHAPE).astype(np.int16), label


def save(path, values, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".hdr":
        header = nib.AnalyzeHeader()
        header.set_data_dtype(values.dtype)
        header.set_data_shape(values.shape)
        header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
        nib.save(nib.AnalyzeImage(values, None, header), path)
        return
    made = SimpleITK.GetImageFromArray(values.T)
    lps = np.diag([-1, -1, 1]) @ affine[:3]
    made.SetSpacing(np.linalg.norm(lps[:, :3], axis=0).tolist())
    made.SetOrigin(lps[:, 3].tolist())
    made.SetDirection((lps[:, :3] / np.linalg.norm(lps[:, :3], axis=0)).ravel().tolist())
    SimpleITK.WriteImage(made, str(path))


def raw(root, image, label, cases=4):
    for number in range(cases):
        gray, classes = arrays(number)
        save(root / f"imagesTr/c{number}{image}", gray)
        save(root / f"labelsTr/c{number}{label}", classes)
    return root


def prepared(out):
    for number in range(4):
        gray, label = (np.asarray(nib.load(out / f"{kind}/c{number}.nii.gz").dataobj) for kind in ("images", "labels"))
        yield (gray, label), arrays(number)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (".nrrd", ".nrrd"),
        (".nrrd", ".seg.nrrd"),
        (".mha", ".mha"),
        (".mhd", ".nhdr"),
        (".hdr", ".hdr"),
        (".mha", ".nii.gz"),
        (".nii", ".seg.nrrd"),
        (".hdr", ".nrrd"),
    ],
)
def test_a_folder_of_any_format(tmp_path, image, label):
    root, out = raw(tmp_path / "raw", image, label), tmp_path / "out"
    folder.prepare(root / "imagesTr", root / "labelsTr", ["1=liver"], [], out, Options())
    for found, expected in prepared(out):
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])
    if image != ".hdr":
        assert np.allclose(nib.load(out / "images/c0.nii.gz").affine, AFFINE, atol=1e-5)
    assert check(out)[1] == []


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd"])
def test_nnunet_and_decathlon(tmp_path, ending):
    root = raw(tmp_path / "raw", f"_0000{ending}", ending)
    about = {"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "CT"}, "file_ending": ending}
    (root / "dataset.json").write_text(json.dumps(about))
    nnunet.prepare(root, tmp_path / "nnunet", Options())
    training = [{"image": f"imagesTr/c{n}_0000{ending}", "label": f"labelsTr/c{n}{ending}"} for n in range(4)]
    about = {"labels": {"0": "background", "1": "liver"}, "modality": {"0": "CT"}, "training": training}
    (root / "dataset.json").write_text(json.dumps(about))
    decathlon.prepare(root, tmp_path / "decathlon", Options())
    for found, expected in prepared(tmp_path / "nnunet"):
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])
    assert len(list((tmp_path / "decathlon/images").iterdir())) == 4


def test_channels_are_the_components_of_a_voxel(tmp_path):
    root, out = raw(tmp_path / "raw", ".nrrd", ".nrrd"), tmp_path / "out"
    values = np.random.default_rng(0).random((*SHAPE[::-1], 2)).astype(np.float32)
    for number in range(4):
        path = root / f"imagesTr/c{number}.nrrd"
        made = SimpleITK.GetImageFromArray(values, isVector=True)
        made.CopyInformation(SimpleITK.ReadImage(str(path)))
        SimpleITK.WriteImage(made, str(path))
    folder.prepare(root / "imagesTr", root / "labelsTr", ["1=liver"], ["t1", "t2"], out, Options())
    assert np.array_equal(np.asarray(nib.load(out / "images/c0.nii.gz").dataobj), values.transpose(2, 1, 0, 3))


@pytest.mark.parametrize(("image", "label"), [(".nrrd", ".mha"), (".hdr", ".nrrd"), (".nii.gz", ".nrrd")])
def test_another_grid_is_refused(tmp_path, image, label):
    root = raw(tmp_path / "raw", image, label)
    save(root / f"labelsTr/c2{label}", arrays(2)[1], AFFINE @ np.diag([2, 1, 1, 1]))
    with pytest.raises(InputError, match=rf"c2\{label}: expected the (affine|spacing) of c2"):
        folder.prepare(root / "imagesTr", root / "labelsTr", ["1=liver"], [], tmp_path / "out", Options())


def test_a_change_of_detached_data_makes_the_case_anew(tmp_path):
    root, out = raw(tmp_path / "raw", ".mhd", ".hdr"), tmp_path / "out"
    folder.prepare(root / "imagesTr", root / "labelsTr", ["1=liver"], [], out, Options())
    assert folder.prepare(root / "imagesTr", root / "labelsTr", ["1=liver"], [], out, Options()).startswith("unchanged")
    data = np.fromfile(root / "imagesTr/c1.raw", np.int16) + 1
    data.tofile(root / "imagesTr/c1.raw")
    assert "1 cases written" in folder.prepare(root / "imagesTr", root / "labelsTr", ["1=liver"], [], out, Options())


def saved_as(root, edit):
    """Write four cases as NIfTI, changed by ``edit(kind, image)``."""
    for number in range(4):
        for kind, values in zip(("images", "labels"), arrays(number), strict=True):
            path = root / kind / f"c{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(edit(kind, nib.Nifti1Image(values, AFFINE)), path)
    return root


def prepare(root, out):
    return folder.prepare(root / "images", root / "labels", ["1=liver"], [], out, Options())


@pytest.mark.parametrize("change", [np.diag([2, 1, 1, 1]), np.diag([-1, 1, 1, 1])])
def test_grids_of_micrometers_are_compared_in_voxels(tmp_path, change):
    def edit(kind, image):
        affine = AFFINE / 1000 if kind == "images" else AFFINE / 1000 @ change
        return nib.Nifti1Image(np.asarray(image.dataobj), affine)

    with pytest.raises(InputError, match=r"c0.nii.gz: expected the affine of c0.nii.gz, got another"):
        prepare(saved_as(tmp_path / "raw", edit), tmp_path / "out")


def test_axes_of_one_voxel_at_the_end_are_dropped(tmp_path):
    def edit(kind, image):
        return nib.Nifti1Image(np.asarray(image.dataobj)[..., None, None], AFFINE)

    prepare(saved_as(tmp_path / "raw", edit), tmp_path / "out")
    for found, expected in prepared(tmp_path / "out"):
        assert np.array_equal(found[1], expected[1])


def test_what_a_header_states_oddly_is_shown(tmp_path):
    def edit(kind, image):
        if kind == "labels":
            image.set_sform(None, code=0)
            image.set_qform(None, code=0)
        return image

    shown = prepare(saved_as(tmp_path / "raw", edit), tmp_path / "out")
    remark = "either the image or the label map states no directions: both are taken as being on one grid"
    assert shown.splitlines()[-1].endswith(f" and 3 more: {remark}")
    manifest = json.loads((tmp_path / "out/dataset.json").read_text())
    assert manifest["training"][0]["notes"] == [remark]
    assert prepare(tmp_path / "raw", tmp_path / "out").endswith(remark)
