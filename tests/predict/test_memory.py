"""A volume of any size is segmented in parts: the result is that of one, and the memory for each voxel is bounded."""

import copy
import threading

import inferer_runs
import nibabel
import numpy as np
import pandas as pd
import pytest
from running import measure_peaks

from medpos.predict import case, cohort, engines, inputs
from medpos.predict.case import Pipeline
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model

MOST_BYTES = 16  # for each voxel, as docs/how-to/predict.md states


def volume(path, shape, seed=0):
    """Write slices of 8 mm with gray values of any size and return the path."""
    values = np.random.default_rng(seed).gamma(2.0, 100.0, shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.5, 1.5, 8.0, 1.0])), path)
    return path


@pytest.fixture
def in_parts(monkeypatch):
    """Let two slices of 40 x 40 px be a part."""
    monkeypatch.setattr(case, "_PART", 2 * 5 * 40 * 40)
    monkeypatch.setattr(case, "_BATCH", 1)


# A vote that hangs on the rounding of noise may change.
@pytest.mark.parametrize(
    ("name", "tta"), [("slices", ()), ("slices", ("flip", "noise", "shift")), ("votes", ()), ("votes", ("flip",))]
)
def test_parts_give_the_result_of_the_whole(trained_heart, tmp_path, predict, monkeypatch, name, tta):
    run = inferer_runs.votes(trained_heart, tmp_path / "run") if name == "votes" else trained_heart
    ensemble = Ensemble([Model(run)], tta)
    assert ensemble.takes_slices
    assert ensemble.margin == (1 if name == "votes" else 0)
    given = volume(tmp_path / "a.nii", (40, 36, 7))
    whole = predict(ensemble, given, out=tmp_path / "whole", probabilities=True, uncertainty=True)[1]
    depths = []
    segment = Pipeline._segment_part
    monkeypatch.setattr(Pipeline, "_segment_part", lambda *given: depths.append(given[2]) or segment(*given))
    monkeypatch.setattr(case, "_PART", 2 * ensemble.count_values((40, 36)))
    monkeypatch.setattr(case, "_BATCH", 1)
    parts = predict(ensemble, given, out=tmp_path / "parts", probabilities=True, uncertainty=True)[1]
    assert depths == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 7)]
    maps = ["a_entropy.nii.gz", *(["a_information.nii.gz"] if tta else [])]
    for file in ("a.nii.gz", "a_probabilities.nii.gz", *maps):
        found, wanted = (np.asarray(nibabel.load(out / file).dataobj) for out in (parts, whole))
        # Entropy is steep near 0, so it shows the rounding of the probabilities enlarged.
        np.testing.assert_allclose(found, wanted, atol=1e-4 if file in maps else 1e-5)
    found, wanted = (pd.read_csv(out / "measurements.csv") for out in (parts, whole))
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-3)


def test_steps_that_see_the_whole_volume_get_it(heart):
    model = copy.copy(heart.models[0])
    for step, takes_slices in (
        (lambda image: image / image.mean(), True),  # each slice is standardized later
        (lambda image: image.clamp(max=image.mean()), False),
        (lambda image: image.flip(-1), False),
        (lambda image: image[..., ::2], False),
        (lambda image: image[:, 50], False),  # an error
    ):
        model._decode = lambda item, step=step: {**item, "image": step(item["image"])}
        assert model._compare_parts() == takes_slices


def test_one_large_case_is_held_at_a_time(heart, tmp_path, monkeypatch, in_parts):
    """Of large and small ones in turn; a bad one between them ends its turn too."""
    for number in range(6):
        volume(tmp_path / f"{number}.nii", (40, 40, 3 if number % 2 else 2), number)
    (tmp_path / "1.nii").write_bytes(b"bad")
    held, most, lock = set(), [], threading.Lock()
    load, segment = Pipeline.load, engines.segment_case

    def counted(self, source):
        prepared = load(self, source)
        with lock:
            held.update([source.name] if prepared.is_large else [])
            most.append(len(held))
        return prepared

    def ended(pipeline, source, load):
        outcome = segment(pipeline, source, load)
        with lock:
            held.discard(source.name)
        return outcome

    monkeypatch.setattr(Pipeline, "load", counted)
    monkeypatch.setattr(engines, "segment_case", ended)
    summary = cohort.predict_cases(heart, inputs.find_cases([str(tmp_path)], tmp_path / "out"), tmp_path / "out")
    assert (summary.done, len(summary.failed)) == (5, 1)
    assert max(most) == 1


PEAKS = """
import torch
from medpos.predict import case, cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model

torch.set_num_threads(1)
case._PART = 1 << 18
ensemble = Ensemble([Model(Path(sys.argv[1]), device="cpu")])

def segment(path):
    out = Path(path).with_suffix(".out")
    summary = cohort.predict_cases(ensemble, inputs.find_cases([path], out), out)
    assert summary.done == 1, summary.failed

segment(sys.argv[2])
print(*(peak(lambda: segment(path)) for path in sys.argv[3:]))
"""


def test_peak_memory_grows_by_a_stated_number_of_bytes_for_each_voxel(heart_run, tmp_path):
    shapes = [(128, 128, 8), (128, 128, 24), (128, 128, 152)]
    files = [volume(tmp_path / f"{number}.nii", shape) for number, shape in enumerate(shapes)]
    small, large = measure_peaks(PEAKS, heart_run, *files)
    assert 4 < (large - small) / (128 * 128 * 128) < MOST_BYTES
