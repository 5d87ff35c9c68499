"""Serve an exported bundle by MONAI Label, compare its answers over REST with ``predict``, and train it.

MONAI Label can't share an environment with medpos (docs/how-to/monai_label.md): MEDPOS_MONAI_LABEL names its Python.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from running import ROOT

from medpos.data import DataFolder
from medpos.predict import cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model

PYTHON = os.environ.get("MEDPOS_MONAI_LABEL", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="MEDPOS_MONAI_LABEL names no Python that has MONAI Label"),
]


@pytest.fixture
def server(chest_bundle, heart_bundle, prepared, tmp_path):
    """Start MONAI Label on loopback with both bundles in its app 'monaibundle', and return its address."""
    prefix = subprocess.run(
        [PYTHON, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    application = shutil.copytree(Path(prefix) / "monailabel/sample-apps/monaibundle", tmp_path / "app")
    for bundle in (chest_bundle, heart_bundle):
        shutil.copytree(bundle, application / "model" / bundle.name)
    fill_datastore(prepared["jsrt"], tmp_path / "studies")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON, str(ROOT / "tests/export/label_server.py"), "start_server", "--app", str(application)]
    command += ["--studies", str(tmp_path / "studies"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--conf", "models", "chest,heart", "--conf", "zoo_source", "ngc"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["MONAI_LABEL_TRACKING_ENABLED"] = "false"
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield wait(f"http://127.0.0.1:{port}", process, tmp_path / "server.log")
    finally:
        process.terminate()
        process.wait(timeout=30)


def fill_datastore(data, studies):
    """Put images with final labels where MONAI Label's local datastore looks for them."""
    (studies / "labels/final").mkdir(parents=True)
    for case in DataFolder(data).cases("training"):
        for key, folder in (("image", studies), ("label", studies / "labels/final")):
            shutil.copy(case[key], folder / f"{case['case']}.nii.gz")


def wait(address, process, log):
    deadline = time.monotonic() + 180
    while (models := served(address)) is None:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(1)
    assert {"chest", "heart"} <= models
    return address


def served(address):
    """Return the names of the server's models; None until it runs."""
    try:
        with urllib.request.urlopen(f"{address}/info/", timeout=20) as answer:
            return set(json.load(answer)["models"])
    except urllib.error.URLError:
        return None


def post(address, model, path, out):
    """POST a file to /infer/MODEL, and write the label map of the answer."""
    boundary = b"one-part-after-another"
    fields = b'Content-Disposition: form-data; name="params"\r\n\r\n{"device": "cpu"}'
    head = f'Content-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'.encode()
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in (fields, head + path.read_bytes()))
    request = urllib.request.Request(
        f"{address}/infer/{model}?output=image",
        data=body + b"--" + boundary + b"--\r\n",
        headers={"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        out.write_bytes(answer.read())
    return nibabel.load(out)


def test_answer_equals_predict(server, trained, trained_heart, first_image, tmp_path):
    for model, run, kind in (("chest", trained, "jsrt"), ("heart", trained_heart, "acdc")):
        image = nibabel.load(first_image(kind))
        turned = image.as_reoriented(np.array([[1, 1], [0, -1], [2, 1]]))
        path = tmp_path / f"{model}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.asarray(turned.dataobj), turned.affine), path)
        out = tmp_path / f"predicted-{model}"
        cohort.predict_cases(Ensemble([Model(run, device="cpu")]), inputs.find_cases([str(path)], out), out)
        wanted = nibabel.load(out / path.name)
        found = post(server, model, path, tmp_path / f"answer-{model}.nii.gz")
        assert np.array_equal(np.asarray(found.dataobj), np.asarray(wanted.dataobj))
        assert np.allclose(found.affine, wanted.affine, atol=1e-4)
        assert len(np.unique(np.asarray(found.dataobj))) > 1


def test_training_over_rest_starts_from_the_export_and_serves_its_result(server, first_image, tmp_path):
    bundle = tmp_path / "app/model/chest"
    before = torch.load(bundle / "models/model.pt", weights_only=True)
    wanted = json.dumps({"device": "cpu", "max_epochs": 1, "val_split": 0.2}).encode()
    request = urllib.request.Request(
        f"{server}/train/chest?run_sync=true", data=wanted, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        assert answer.status == 200
    log = (tmp_path / "server.log").read_text()
    assert "epoch 1/1" in log, log[-3000:]
    [run] = (bundle / "runs").glob("*/*")
    assert (run / "model.pt").read_bytes() == (bundle / "models/model.pt").read_bytes()
    start = torch.load(run / "start.pt", weights_only=True)
    assert all(torch.equal(value, start[key]) for key, value in before.items())
    after = torch.load(bundle / "models/model.pt", weights_only=True)
    # One epoch moves the weights a little; new ones would be far away.
    distance = max(float((after[key] - before[key]).abs().max()) for key in before if key.endswith("weight"))
    assert 0 < distance < 0.05
    answer = post(server, "chest", first_image("jsrt"), tmp_path / "answer.nii.gz")
    found = cohort.predict_cases(
        Ensemble([Model(run, device="cpu")]), inputs.find_cases([str(first_image("jsrt"))], run), tmp_path / "predicted"
    )
    assert not found.failed
    wanted = nibabel.load(tmp_path / "predicted" / first_image("jsrt").name)
    assert np.array_equal(np.asarray(answer.dataobj), np.asarray(wanted.dataobj))
