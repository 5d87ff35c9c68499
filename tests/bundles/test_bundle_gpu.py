"""Train and test on a GPU: ``pytest -m gpu`` on a machine with one."""

import csv

import pytest
import torch
from running import run_here

pytestmark = pytest.mark.gpu
EPOCHS = 12
DEVICE = "cuda"


@pytest.fixture
def options(prepared, tmp_path):
    places = {"dataset_dir": str(prepared["jsrt"]), "runs_dir": str(tmp_path), "run_name": "a", "device": DEVICE}
    return {**places, "image_size": 32, "batch_size": 2, "max_epochs": EPOCHS, "deterministic": True}


def rows(run):
    with (run / "metrics.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("how", [{}, {"device_memory_gb": 0}, {"num_workers": 2}, {"compile": True}], ids=str)
def test_a_training_on_a_gpu(how, options):
    run = run_here("jsrt_small_pe", **options, **how)
    log = (run / "log.txt").read_text()
    assert f"epoch {EPOCHS}/{EPOCHS}" in log
    assert ("training images are on cuda" in log) == (how in ({}, {"compile": True}))
    assert ("exceed the memory for images on cuda" in log) == ("device_memory_gb" in how)
    state = torch.load(run / "resume.pt", weights_only=True)
    assert state["epoch"] == EPOCHS
    assert state["optimizer"]["param_groups"][0]["fused"] is True
    assert {row["organ"] for row in rows(run)} == {"right_lung", "left_lung", "heart"}


def test_the_place_of_the_images_changes_nothing(options, tmp_path):
    models = []
    for name, limit_gb in (("a", None), ("b", 0)):
        run = run_here("jsrt_small_pe", **{**options, "run_name": name, "device_memory_gb": limit_gb})
        models.append(torch.load(run / "model.pt", weights_only=True))
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


def test_a_resumed_training_equals_an_uninterrupted_one(options):
    whole = run_here("jsrt_small_pe", **options)
    run_here("jsrt_small_pe", **{**options, "run_name": "b", "max_epochs": EPOCHS // 2})
    resumed = run_here("jsrt_small_pe", resume=True, **{**options, "run_name": "b"})
    one, other = (torch.load(run / "resume.pt", weights_only=True)["network"] for run in (whole, resumed))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_robustness_on_a_gpu(options):
    run_here("jsrt_small_pe", **options)
    run = run_here("jsrt_small_pe", entry="robustness", **options)
    found = rows(run.parent / "a/robustness")
    assert len({(row["degradation"], row["severity"]) for row in found}) == 16
    assert any(row["hd95_mm"] not in ("", "inf") for row in found)


@pytest.mark.parametrize("name", ["acdc_small_pe"])
def test_volumes_on_a_gpu(name, options, prepared):
    run = run_here(name, **{**options, "dataset_dir": str(prepared["acdc"]), "max_epochs": 1})
    assert "training images are on cuda" in (run / "log.txt").read_text()
    assert {row["organ"] for row in rows(run)} == {"rv_cavity", "myocardium", "lv_cavity"}
