"""Train on two processes."""

import csv
import json
import sys

import pytest
import torch
from running import newest, run_bundle, run_here


@pytest.mark.slow
def test_two_processes_write_one_run(prepared, tmp_path):
    options = {"dataset_dir": str(prepared["jsrt"]), "runs_dir": str(tmp_path / "runs"), "image_size": 32}
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")

    # torch.distributed.run gets the module's name without "python" before it
    done = run_bundle(
        "jsrt_small_pe", "multi_gpu", cwd=tmp_path, launcher=launcher, max_epochs=2, device="cpu", **options
    )
    assert done.returncode == 0, done.stderr
    [run] = (tmp_path / "runs/jsrt_small_pe").iterdir()
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    test = [case["case"] for case in json.loads((prepared["jsrt"] / "dataset.json").read_text())["test"]]
    assert sorted((row["case"], row["organ"]) for row in rows) == sorted(
        (case, organ) for case in test for organ in ("right_lung", "left_lung", "heart")
    )
    assert done.stdout.count("mean of organs") == 1
    assert done.stdout.count("epoch 2/2") == 1
    assert len(list((run / "overlays").iterdir())) == 3
    weights = torch.load(run / "model.pt", weights_only=True)
    assert not [key for key in weights if key.startswith("module.")]
    run_here("jsrt_small_pe", entry="evaluate", **options)
    assert newest(tmp_path / "runs") == run
    again = list(csv.DictReader((run / "evaluate/metrics.csv").open()))
    key = lambda row: (row["case"], row["organ"])  # noqa: E731
    for one, other in zip(sorted(rows, key=key), sorted(again, key=key), strict=True):
        assert float(one["dice"]) == pytest.approx(float(other["dice"]), abs=1e-6, nan_ok=True)
        assert float(one["hd95_mm"]) == pytest.approx(float(other["hd95_mm"]), abs=1e-3, nan_ok=True)
