"""Measure finished runs on the grid of their images."""

import json
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from medpos import __main__ as cli
from medpos.core.errors import InputError
from medpos.data.folder import DataFolder
from medpos.metrics import METRICS, case_metrics
from medpos.predict.native_grid import open_test_data
from medpos.report import build


@pytest.fixture
def copied(heart_run, tmp_path):
    return shutil.copytree(heart_run, tmp_path / "runs/acdc_small_pe/a")


def test_the_numbers_are_those_of_the_label_maps_that_predict_writes(copied, heart, prepared, predict, tmp_path):
    found = CliRunner().invoke(cli.app, ["native", str(copied)])
    assert found.exit_code == 0, found.output
    assert "on the grid of the images" in found.output
    assert "PHANTOM" in found.output
    rows = pd.read_csv(copied / "native_grid.csv").set_index(["case", "organ"])
    source = DataFolder(prepared["acdc"])
    cases = source.cases("test")
    summary, out = predict(heart, *(case["image"] for case in cases), force=True, overlays=False)
    assert summary.done == len(cases)
    assert len(rows) == 3 * len(cases)
    for case in cases:
        prediction = nibabel.load(out / f"{case['case']}.nii.gz")
        truth = nibabel.load(case["label"])
        maps = (np.asarray(image.dataobj).astype(np.uint8) for image in (prediction, truth))
        for expected in case_metrics(*maps, source.labels, case["spacing_mm"]):
            row = rows.loc[case["case"], expected["organ"]]
            for metric in METRICS:
                assert row[metric] == pytest.approx(expected[metric], nan_ok=True), (case["case"], metric)
    network = pd.read_csv(copied / "metrics.csv").set_index(["case", "organ"])
    assert not np.allclose(rows["dice"], network["dice"].loc[rows.index], equal_nan=True)  # 32 px are coarse
    build([copied], tmp_path / "report")
    table = pd.read_csv(tmp_path / "report/csv/organs_native.csv").set_index("organ")
    assert table.loc["lv_cavity", "dice_mean"] == pytest.approx(rows["dice"].xs("lv_cavity", level="organ").mean())
    assert (tmp_path / "report/csv/organs.csv").is_file()


def test_single_images_are_measured_in_two_dimensions(chest_run, tmp_path):
    run = shutil.copytree(chest_run, tmp_path / "a")
    assert CliRunner().invoke(cli.app, ["native", str(run)]).exit_code == 0
    rows = pd.read_csv(run / "native_grid.csv")
    assert set(rows["organ"]) == {"right_lung", "left_lung", "heart"}
    assert np.isfinite(rows["hd95_mm"]).any()


@pytest.mark.parametrize("change", ["data", "unfinished"])
def test_other_data_and_unfinished_runs_are_refused(change, copied, prepared, tmp_path):
    if change == "unfinished":
        (copied / "summary.json").unlink()
        with pytest.raises(InputError, match="expected a finished run"):
            open_test_data(copied)
        return
    other = shutil.copytree(prepared["acdc"], tmp_path / "other")
    path = other / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "description": "others"}))
    with pytest.raises(InputError, match=r"expected the data that .* was tested on"):
        open_test_data(copied, other)
    assert open_test_data(copied, prepared["acdc"]).name == "acdc"
