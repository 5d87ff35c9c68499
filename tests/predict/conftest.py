"""Provide runs to predict with, and images of a test case."""

import json

import nibabel
import numpy as np
import pytest

from medpos.predict import cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model


@pytest.fixture(scope="session")
def chest_run(trained):
    """Return a run of chest X-rays, 32 x 32 px."""
    return trained


@pytest.fixture(scope="session")
def heart_run(trained_heart):
    """Return a run of short-axis stacks, 32 x 32 px."""
    return trained_heart


@pytest.fixture(scope="session")
def chest(chest_run):
    return Ensemble([Model(chest_run)])


@pytest.fixture(scope="session")
def heart(heart_run):
    return Ensemble([Model(heart_run)])


@pytest.fixture(scope="session")
def xray(prepared):
    """Return file and gray values [X, Y], 0 to 4095, of a prepared X-ray."""
    entry = json.loads((prepared["jsrt"] / "dataset.json").read_text())["test"][0]
    path = prepared["jsrt"] / entry["image"]
    return path, np.asarray(nibabel.load(path).dataobj)[..., 0]


@pytest.fixture(scope="session")
def stack(prepared):
    """Return file and image of a prepared short-axis stack."""
    entry = json.loads((prepared["acdc"] / "dataset.json").read_text())["test"][0]
    path = prepared["acdc"] / entry["image"]
    return path, nibabel.load(path)


@pytest.fixture
def predict(tmp_path):
    """Return a function that segments inputs, and returns summary and folder of the results."""

    def call(ensemble, *given, out=None, engine=None, channels=("image",), **options):
        out = out or tmp_path / "out"
        sources = inputs.find_cases([str(path) for path in given], out, channels)
        return cohort.predict_cases(ensemble, sources, out, cohort.Options(**options), engine=engine), out

    return call
