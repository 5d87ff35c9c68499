"""The memory of a bundle's test for each voxel is bounded, under degradations too."""

import json
import os
import shutil

import nibabel
import numpy as np
import pytest
from running import ENVIRONMENT, ROOT, measure_peaks

MOST_BYTES = 200  # for each voxel of the network's grid, as docs/how-to/change_a_bundle.md states; 104 to 140 measured
SIDE = 64

PEAKS = f"""
import os
import torch
from medpos.core import memory
from medpos.handlers import metrics
from medpos.metrics import surface
from medpos.transforms.intensity import degradations
from running import run_here

# What is constant, and small beside a large volume.
memory.PART = metrics._PART = degradations._PART = 1 << 14
surface._KEPT = metrics._KEPT_BYTES = 0
torch.set_num_threads(1)
results = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # for the log

def test(folder):
    options = dict(runs_dir=folder + "/runs", checkpoint=sys.argv[1], image_size={SIDE}, device="cpu")
    run_here("acdc_small_pe", entry="robustness", dataset_dir=folder, **options)

test(sys.argv[2])
print(*(peak(lambda: test(folder)) for folder in sys.argv[3:]), file=results)
"""


def prepare(prepared, folder, depth):
    """Copy the prepared hearts with one volume of a depth as the test part."""
    shutil.copytree(prepared, folder)
    content = json.loads((folder / "dataset.json").read_text())
    case = content["test"][0]
    for kind in ("image", "label"):
        found = nibabel.load(folder / case[kind])
        middle = np.asarray(found.dataobj)[80 : 80 + SIDE, 80 : 80 + SIDE]
        deep = np.tile(middle, (1, 1, -(-depth // middle.shape[2])))[..., :depth]
        nibabel.save(nibabel.Nifti1Image(deep, found.affine), folder / case[kind])
    content["test"] = [{**case, "shape": [SIDE, SIDE, depth]}]
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.mark.torture
def test_peak_memory_grows_by_a_stated_number_of_bytes_for_each_voxel(prepared, trained_heart, tmp_path, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    folders = [prepare(prepared["acdc"], tmp_path / str(depth), depth) for depth in (4, 24, 152)]
    small, large = measure_peaks(PEAKS, trained_heart / "model.pt", *folders)
    assert 40 < (large - small) / (SIDE * SIDE * 128) < MOST_BYTES
