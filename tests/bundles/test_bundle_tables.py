"""Check that docs/bundles.md and README.md have the tables that docs/src/bundles.py makes of the present bundles."""

import pytest
from running import ALL, kept_state, load_docs_script


@pytest.fixture(scope="module")
def bundles():
    return load_docs_script("bundles")


def test_every_bundle_is_listed_once(bundles):
    assert sorted(name for section in bundles.SECTIONS for name in section["bundles"]) == ALL


def test_the_page_is_fresh(bundles):
    with kept_state():
        made = bundles.page()
    assert bundles.PAGE.read_text() == made, "run python docs/src/bundles.py"


def test_the_readme_is_fresh(bundles):
    text = bundles.README.read_text()
    assert text.count(bundles.START) == text.count(bundles.END) == 1
    assert bundles.readme(text) == text, "run python docs/src/bundles.py"


def test_a_change_shows_in_both_tables(bundles, monkeypatch):
    row = {"network": "another network", "data": "JSRT", "ours": "Dice 0.123"}
    monkeypatch.setattr(bundles, "SECTIONS", [{**bundles.SECTIONS[0], "bundles": {"jsrt_small": row}}])
    with kept_state():
        assert "| `jsrt_small` | another network | JSRT | 75,140 | - | Dice 0.123 |" in bundles.page()
    assert "| `jsrt_small` | another network | - | Dice 0.123 |" in bundles.readme(bundles.README.read_text())
