"""Runs, handed on, and images for them."""

import json

import pytest
from running import ROOT

from medpos.export import export


@pytest.fixture(scope="session")
def chest_bundle(trained, tmp_path_factory):
    """An exported run of chest X-rays, 32 x 32; not to be written to."""
    return export(trained, tmp_path_factory.mktemp("exported") / "chest", ROOT)


@pytest.fixture(scope="session")
def heart_bundle(trained_heart, tmp_path_factory):
    """An exported run of short-axis stacks, 32 x 32; not to be written to."""
    return export(trained_heart, tmp_path_factory.mktemp("exported") / "heart", ROOT)


@pytest.fixture(scope="session")
def first_image(prepared):
    """The first prepared test image of a kind."""

    def find(kind):
        entry = json.loads((prepared[kind] / "dataset.json").read_text())["test"][0]
        return prepared[kind] / entry["image"]

    return find
