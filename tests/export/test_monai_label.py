"""Serve an exported bundle by MONAI Label, and compare its answer over REST with the label map of ``predict``.

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
from running import ROOT

from medpos.predict import cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model

PYTHON = os.environ.get("MEDPOS_MONAI_LABEL", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="MEDPOS_MONAI_LABEL names no Python that has MONAI Label"),
]


@pytest.fixture
def server(chest_bundle, heart_bundle, tmp_path):
    """Start MONAI Label on loopback with both bundles in its app 'monaibundle', and return its address."""
    prefix = subprocess.run(
        [PYTHON, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    application = shutil.copytree(Path(prefix) / "monailabel/sample-apps/monaibundle", tmp_path / "app")
    for bundle in (chest_bundle, heart_bundle):
        shutil.copytree(bundle, application / "model" / bundle.name)
    (tmp_path / "studies").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON, str(ROOT / "tests/export/label_server.py"), "start_server", "--app", str(application)]
    command += ["--studies", str(tmp_path / "studies"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--conf", "models", "chest,heart", "--conf", "zoo_source", "ngc", "--conf", "skip_trainers", "true"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield wait(f"http://127.0.0.1:{port}", process, tmp_path / "server.log")
    finally:
        process.terminate()
        process.wait(timeout=30)


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
