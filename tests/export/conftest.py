"""Export runs, and find images for them."""

import json

import pytest
from running import ROOT

from medpos.export import export


@pytest.fixture(scope="session")
def chest_bundle(trained, tmp_path_factory):
    """Export a run of chest X-rays, 32 x 32 px; read-only."""
    return export(trained, tmp_path_factory.mktemp("exported") / "chest", ROOT)


@pytest.fixture(scope="session")
def heart_bundle(trained_heart, tmp_path_factory):
    """Export a run of short-axis stacks, 32 x 32 px; read-only."""
    return export(trained_heart, tmp_path_factory.mktemp("exported") / "heart", ROOT)


@pytest.fixture(scope="session")
def first_image(prepared):
    """Return a function that finds the first prepared test image of a data set."""

    def find(kind):
        entry = json.loads((prepared[kind] / "dataset.json").read_text())["test"][0]
        return prepared[kind] / entry["image"]

    return find
