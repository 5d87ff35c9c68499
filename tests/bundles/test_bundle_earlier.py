"""Test bundles of an earlier version, which users still have: unnamed steps and a list of known keys."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from running import TRAINED_EPOCHS, refusal, run_here

from medpos.export import configs
from medpos.predict.model import Model
from medpos.study.models import compute_identity

EARLIER = Path(__file__).with_name("earlier_version.json")


@pytest.fixture(scope="module")
def earlier(prepared, tmp_path_factory):
    """Finish a run with the settings of the fixture ``trained``."""
    runs = tmp_path_factory.mktemp("earlier")
    sizes = {"image_size": 32, "batch_size": 5, "max_epochs": TRAINED_EPOCHS}
    return run_here(EARLIER, dataset_dir=str(prepared["jsrt"]), runs_dir=str(runs), run_name="a", **sizes)


def test_an_earlier_bundle_trains_the_same_model(earlier, trained):
    assert (earlier / "metrics.csv").read_text() == (trained / "metrics.csv").read_text()
    one, other = (torch.load(run / "model.pt", weights_only=True) for run in (earlier, trained))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert compute_identity(json.loads((earlier / "config.json").read_text())) == compute_identity(
        json.loads((trained / "config.json").read_text())
    )


def test_only_the_listed_keys_are_known(tiny_without_lights):
    message = refusal(EARLIER, **tiny_without_lights, max_epoch=1)
    assert "did you mean --max_epochs?" in message


@pytest.mark.parametrize("entry", ["evaluate", "robustness"])
def test_the_entry_points_run(entry, earlier, tiny, tiny_without_lights, trained):
    run = shutil.copytree(earlier, Path(tiny["runs_dir"]) / "jsrt_small_pe/a")
    run_here(EARLIER, entry=entry, **tiny_without_lights)
    rows = (run / entry / "metrics.csv").read_text()
    assert rows.startswith((trained / "metrics.csv").read_text())
    # The present bundle can evaluate an earlier run too.
    run_here("jsrt_small_pe", entry=entry, **tiny)
    assert (run / f"{entry}-2/metrics.csv").read_text() == rows


def test_the_present_bundle_resumes_an_earlier_training(earlier, tiny):
    run = shutil.copytree(earlier, Path(tiny["runs_dir"]) / "jsrt_small_pe/a")
    (run / "summary.json").unlink()
    again = {**tiny, "run_name": "a", "resume": True, "max_epochs": TRAINED_EPOCHS + 1}
    assert "lr was 0.001, is 0.1" in refusal("jsrt_small_pe", **again, lr=0.1)
    assert "decode was" in refusal("jsrt_small_pe", **again, steps__resize__mode=["bilinear", "nearest-exact"])
    run_here("jsrt_small_pe", **again)
    assert f"epoch {TRAINED_EPOCHS + 1}/{TRAINED_EPOCHS + 1}" in (run / "log.txt").read_text()


def test_earlier_runs_predict_as_present_ones(earlier, trained):
    image = torch.rand(40, 48, 1).numpy() * 4095
    one, other = (Model(run, device="cpu") for run in (earlier, trained))
    assert torch.equal(one.probabilities(one.decode(image)), other.probabilities(other.decode(image)))
    assert one.is_absolute
    assert other.is_absolute


def test_exports_of_earlier_runs_read_no_label_either(earlier, trained):
    chains = []
    for run in (earlier, trained):
        config = json.loads((run / "config.json").read_text())
        chains.append(configs.image_only(config["decode"], config))
    assert chains[0]["transforms"][0]["_target_"] == "EnsureTyped"
    assert chains[1]["transforms"][0] == "@steps::to_tensor"
    assert len(chains[0]["transforms"]) == len(chains[1]["transforms"])
