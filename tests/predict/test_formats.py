"""Compare the labels of one image in every format, on its own grid and geometry."""

import csv

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import torch
from images import case_of, dicom, labels_of, save, series
from PIL import Image

from medpos.predict.orientation import Orientation
from medpos.runs.cases import load_cases


def test_equals_the_runs_own_predictions(chest, heart, chest_run, heart_run, prepared):
    for ensemble, run, kind in ((chest, chest_run, "jsrt"), (heart, heart_run, "acdc")):
        for case in load_cases(run / "cases.npz"):
            values = np.asarray(nibabel.load(prepared[kind] / f"images/{case.case}.nii.gz").dataobj, np.float32)
            found = ensemble.probabilities(ensemble.decode(values)).argmax(dim=0)
            assert (found.numpy() == case.prediction).all()
            assert len(np.unique(case.prediction)) > 1


def test_on_the_networks_own_grid_nothing_is_resampled(chest, chest_run, xray, predict, tmp_path):
    path, _ = xray
    data = chest.models[0].data
    values = chest.decode(np.asarray(nibabel.load(path).dataobj, np.float32))[0][0].numpy()
    gray = values * (data.intensity["high"] - data.intensity["low"]) + data.intensity["low"]
    nibabel.save(nibabel.Nifti1Image(gray[..., None], nibabel.load(path).affine), tmp_path / "small.nii.gz")
    summary, out = predict(chest, tmp_path / "small.nii.gz")
    assert not summary.failed
    case = next(c for c in load_cases(chest_run / "cases.npz") if path.name == f"{c.case}.nii.gz")
    assert (labels_of(out / "small.nii.gz")[..., 0] == case.prediction).all()


def test_nifti_keeps_its_geometry(chest, heart, xray, stack, predict):
    for ensemble, path in ((chest, xray[0]), (heart, stack[0])):
        _, out = predict(ensemble, path, out=path.parent.parent / "out", probabilities=True)
        before, after = nibabel.load(path), nibabel.load(out / path.name)
        assert after.shape == before.shape
        assert (after.affine == before.affine).all()
        assert after.get_data_dtype() == np.uint8
        for key in ("sform_code", "qform_code", "pixdim", "xyzt_units", "srow_x", "qoffset_x"):
            assert np.array_equal(after.header[key], before.header[key])
        shares = labels_of(out / path.name.replace(".nii.gz", "_probabilities.nii.gz"))
        assert shares.shape == (*before.shape, 4)
        assert np.allclose(shares.sum(axis=3), 1, atol=1e-3)
        assert (shares.argmax(axis=3) == np.asarray(after.dataobj)).all()


def test_picture_and_xray_dicom_agree_with_nifti(chest, xray, predict, tmp_path):
    path, values = xray
    folder = tmp_path / "in"
    save(dicom(values.T), folder / "plain.dcm")
    save(dicom(4095 - values.T, PhotometricInterpretation="MONOCHROME1"), folder / "inverted.dcm")
    save(dicom(values.T, RescaleSlope=2, RescaleIntercept=-100), folder / "rescaled.dcm")
    save(dicom(values.T[:, ::-1], PatientOrientation=["R", "F"]), folder / "turned.dcm")
    Image.fromarray(values.T.astype(np.uint16)).save(folder / "bits16.png")
    Image.fromarray(values.T.astype(np.uint16)).save(folder / "page.tif")
    summary, out = predict(chest, folder, path)
    assert not summary.failed
    expected = labels_of(out / path.name)[..., 0].T
    assert len(np.unique(expected)) > 2
    for name in ("plain", "inverted", "rescaled", "turned"):
        source = pydicom.dcmread(folder / f"{name}.dcm")
        found = highdicom.seg.segread(out / f"{case_of(source)}.dcm")
        maps = found.get_pixels_by_source_instance([source.SOPInstanceUID], combine_segments=True)
        assert (maps[0] == (expected[:, ::-1] if name == "turned" else expected)).mean() > 0.9995
        assert [found.get_segment_description(n).segment_label for n in (1, 2, 3)] == [
            "right lung",
            "left lung",
            "heart",
        ]
    for name in ("bits16.png", "page.png"):
        with Image.open(out / name) as image:
            assert image.mode == "P"
            assert (np.asarray(image) == expected).all()


def test_jpeg_of_eight_bits_is_close(chest, xray, predict, tmp_path):
    path, values = xray
    Image.fromarray((values.T / 4095 * 255).round().astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    _, out = predict(chest, tmp_path / "a.jpg", path)
    with Image.open(out / "a.png") as image:
        assert (np.asarray(image) == labels_of(out / path.name)[..., 0].T).mean() > 0.98
    assert (out / "overlays/a.png").is_file()


def test_mr_series_is_sorted_into_a_volume(heart, stack, predict, tmp_path):
    path, image = stack
    folder = series(image, tmp_path / "stack")
    summary, out = predict(heart, folder, path)
    assert not summary.failed, summary.failed
    expected = labels_of(out / path.name)
    [result] = out.glob("*.dcm")
    assert result.stem == case_of(pydicom.dcmread(folder / "IM000.dcm"), is_series=True)
    found = highdicom.seg.segread(result)
    ids = {
        pydicom.dcmread(file).ImagePositionPatient[0]: pydicom.dcmread(file).SOPInstanceUID for file in folder.iterdir()
    }
    maps = found.get_pixels_by_source_instance(
        [ids[place] for place in sorted(ids, reverse=True)], combine_segments=True
    )
    assert (maps.transpose(2, 1, 0) == expected).all()
    rows = list(csv.DictReader((out / "measurements.csv").open()))
    assert {row["value"] for row in rows if row["structure"] == "lv_cavity"} == {
        f"{(expected == 3).sum() * np.prod(image.header.get_zooms()) / 1000:.6g}"
    }


@pytest.mark.parametrize("flips", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (1, 2, 0)])
def test_flipped_and_permuted_files_get_the_same_labels(chest, heart, xray, stack, predict, tmp_path, flips, order):
    for ensemble, path in ((chest, xray[0]), (heart, stack[0])):
        image = nibabel.load(path)
        ornt = np.stack([np.argsort(order), [-1 if axis in flips else 1 for axis in range(3)]], axis=1)
        turned = image.as_reoriented(ornt)
        nibabel.save(turned, tmp_path / f"turned-{path.name}")
        summary, out = predict(ensemble, path, tmp_path / f"turned-{path.name}", out=tmp_path / path.name[:4])
        assert not summary.failed
        expected = nibabel.load(out / path.name).as_reoriented(ornt)
        found = nibabel.load(out / f"turned-{path.name}")
        assert np.allclose(found.affine, turned.affine)
        assert (np.asarray(found.dataobj) == np.asarray(expected.dataobj)).all()
        assert len(np.unique(np.asarray(found.dataobj))) > 1


def test_orientation_undoes_itself():
    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        for flips in ((False, True), (True, True)):
            orientation = Orientation(order, flips)
            there = orientation.apply(values[..., 0])
            assert (orientation.undo(there) == values[..., 0]).all()
            assert orientation.undo(np.stack([there] * 5, axis=3)).shape == (2, 3, 4, 5)


def test_probabilities_are_resampled_smoothly():
    from medpos.predict.label_maps import compute_label_map

    shares = torch.zeros(2, 4, 4)
    shares[1, 2:] = 1
    shares[0] = 1 - shares[1]
    found = compute_label_map(shares, (8, 8, 1))
    assert found[..., 0].tolist() == [[0] * 8] * 4 + [[1] * 8] * 4
