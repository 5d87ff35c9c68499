"""Check documentation without building the site: links, tables of names, the code of the README."""

import json
import re
from collections import Counter

import pytest
import torch
import yaml
from running import ALL, BUNDLES, ROOT, load_docs_script

from data_prep.__main__ import app

REPOSITORY = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["repo_url"]
KNOWN = ("known_keys", "imports")  # which users don't change


site = load_docs_script("site")
SOURCES = site.sources()


def links(source):
    return site.LINK.findall((ROOT / source).read_text())


@pytest.mark.parametrize("source", SOURCES)
def test_every_link_leads_to_a_file(source):
    paths = [site.path_of(link.partition("#")[0], source, REPOSITORY) for link in links(source)]
    assert [path for path in paths if path is not None and not (ROOT / path).exists()] == []


def test_the_readme_has_no_relative_links():
    """Check for package indexes, which show the README without the files beside it."""
    assert [link for link in links("README.md") if not link.startswith("https://")] == []


def test_the_site_points_links_at_its_own_pages():
    moved = lambda link, source: site.moved_link(link, source, REPOSITORY)  # noqa: E731
    assert moved("../../data_prep/README.md#your-own-data", "docs/how-to/own_data.md") == (
        "../reference/data_sets.md#your-own-data"
    )
    assert moved(f"{REPOSITORY}/blob/main/docs/bundles.md", "README.md") == "bundles.md"
    raw = REPOSITORY.replace("github.com", "raw.githubusercontent.com")
    assert moved(f"{raw}/main/docs/figures/demo_worst.png", "README.md") == "figures/demo_worst.png"
    assert moved("../../medpos/networks", "docs/explanation/metrics.md") == "../reference/api/medpos.networks.md"
    assert moved("../bundles", "docs/networks.md") == f"{REPOSITORY}/tree/main/bundles"
    assert moved("../Makefile", "docs/networks.md") == f"{REPOSITORY}/blob/main/Makefile"
    assert moved("https://monai.io", "README.md") == "https://monai.io"
    assert moved("#install", "README.md") == "#install"


def test_every_package_has_a_page(tmp_path):
    site.assemble(tmp_path)
    names = [path.stem for path in (tmp_path / "pages/reference/api").glob("*.md")]
    packages = {f"medpos.{path.parent.name}" for path in (ROOT / "medpos").glob("*/__init__.py")}
    assert packages | {"data_prep"} <= set(names)
    config = yaml.safe_load((tmp_path / "mkdocs.yml").read_text())
    [listed] = [entry["API"] for part in config["nav"] for entry in next(iter(part.values())) if "API" in entry]
    assert sorted(listed) == sorted(f"reference/api/{name}.md" for name in names)


def test_the_code_of_the_readme_runs():
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    scope = {}
    exec(code, scope)
    assert len([line for line in code.splitlines() if line]) == 6
    assert scope["inputs"].shape == (3, 256, 256)
    assert scope["logits"].shape == (1, 4, 256, 256)
    assert scope["inputs"][1:].aminmax() == (torch.tensor(-3.0), torch.tensor(3.0))


def test_every_data_set_is_documented():
    page = (ROOT / "data_prep/README.md").read_text()
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert [name for name in commands if f"python -m data_prep {name} " not in page] == []


def plain(value):
    if isinstance(value, list):
        return all(plain(part) for part in value)
    return (
        value is None or isinstance(value, int | float) or (isinstance(value, str) and not value.startswith(("$", "@")))
    )


def test_the_page_of_the_keys_is_fresh():
    keys = load_docs_script("keys")
    assert keys.PAGE.read_text(encoding="utf-8") == keys.page(), "run python docs/src/keys.py"


def test_every_key_is_documented():
    bundles = [json.loads((BUNDLES / f"{name}.json").read_text()) for name in (*ALL, "crf", "multi_gpu")]
    bundles += [yaml.safe_load(path.read_text()) for path in sorted(BUNDLES.glob("stage_*.yaml"))]
    keys = {
        key for bundle in bundles for key, value in bundle.items() if plain(value) and re.fullmatch(r"[a-z]\w*", key)
    }
    rows = re.findall(r"^\| (`.*?`) \|", (ROOT / "docs/reference/keys.md").read_text(), re.M)
    documented = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    assert sorted(keys - {*KNOWN, *documented}) == []
    assert [key for key in documented if not any(key in bundle for bundle in bundles)] == []
    assert len(documented) == len(set(documented))


def test_the_workflow_of_ci():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow[True] == {"push": {"branches": ["main"]}, "pull_request": None}  # YAML reads "on" as true
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"]
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python-version"] == ["3.10", "3.11", "3.13"]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    called = re.findall(r"make ([a-z-]+)", (ROOT / ".github/workflows/ci.yml").read_text())
    assert sorted(set(called) - set(targets)) == []
    assert "docs" in called


def test_every_list_of_attacks_is_counted_and_survived(tmp_path):
    attacks = load_docs_script("attacks")
    page = attacks.PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(test_\w+\.py)`: .* \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert {row[0] for row in rows} == {path.name for path in attacks.LISTS.glob("test_*.py")}, "run make torture"
    assert [row for row in rows if row[2] != row[3] or int(row[2]) > int(row[1])] == []
    report = '<testsuite><testcase classname="tests.reliability.test_bombs" name="a"/>{}</testsuite>'
    failed = '<testcase classname="tests.reliability.test_locks" name="b"><failure/></testcase>'
    (tmp_path / "a.xml").write_text(report.format(failed))
    counted = attacks.count_attacks([tmp_path / "a.xml"], Counter(test_bombs=5, test_locks=1))
    assert counted[-1] == ("all", 6, 2, 1)
    changed = attacks.put(page, "attacks", counted)
    assert re.search(r"`test_locks\.py`: .* \| 1 \| 1 \| 0 \|", changed)
    assert attacks.start("files") in changed
