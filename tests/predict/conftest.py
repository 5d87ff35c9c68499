"""Runs to predict with, and images of every format made from one test case."""

import json

import nibabel
import numpy as np
import pytest

from medpos.predict import cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model


@pytest.fixture(scope="session")
def chest_run(trained):
    """A run of chest X-rays; 32 x 32."""
    return trained


@pytest.fixture(scope="session")
def heart_run(trained_heart):
    """A run of short-axis stacks; 32 x 32."""
    return trained_heart


@pytest.fixture(scope="session")
def chest(chest_run):
    return Ensemble([Model(chest_run)])


@pytest.fixture(scope="session")
def heart(heart_run):
    return Ensemble([Model(heart_run)])


@pytest.fixture(scope="session")
def xray(prepared):
    """A prepared X-ray: its file and its grey values [X, Y], 0 to 4095."""
    entry = json.loads((prepared["jsrt"] / "dataset.json").read_text())["test"][0]
    path = prepared["jsrt"] / entry["image"]
    return path, np.asarray(nibabel.load(path).dataobj)[..., 0]


@pytest.fixture(scope="session")
def stack(prepared):
    """A prepared short-axis stack: its file and its image."""
    entry = json.loads((prepared["acdc"] / "dataset.json").read_text())["test"][0]
    path = prepared["acdc"] / entry["image"]
    return path, nibabel.load(path)


@pytest.fixture
def predict(tmp_path):
    """Segment inputs; gives the summary and the folder of the results."""

    def call(ensemble, *given, out=None, engine=None, names=("image",), **options):
        out = out or tmp_path / "out"
        sources = inputs.find_cases([str(path) for path in given], out, names)
        return cohort.predict_cases(ensemble, sources, out, cohort.Options(**options), engine=engine), out

    return call
