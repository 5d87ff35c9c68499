import pytest
from making import make_run, make_study


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """Make a run on phantom X-rays, one on hearts without pictures, and a study."""
    root = tmp_path_factory.mktemp("sources")
    return [
        make_run(root / "runs/jsrt_small/first", "jsrt", phantom=True),
        make_run(root / "runs/acdc_small/old", with_cases=False),
        make_study(root / "study"),
    ]


@pytest.fixture(scope="session")
def report(sources, tmp_path_factory):
    """Build the report of all sources and return its folder."""
    from medpos.report import build

    out = tmp_path_factory.mktemp("report")
    assert build(sources, out) == out / "index.html"
    return out
