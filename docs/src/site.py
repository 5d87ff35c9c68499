"""Assemble the site's pages in build/: those of docs/, the files beside it, and one page of the API a package.

usage: python docs/src/site.py

Writes build/pages and build/mkdocs.yml, which ``mkdocs build`` reads; ``make docs`` does both. No module is imported:
the API's pages follow from the tree of packages, and mkdocstrings reads the sources.
"""

import ast
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Files that stay where readers of the repository look for them, and their pages.
PAGES = {
    "README.md": "index.md",
    "data_prep/README.md": "reference/data_sets.md",
    "bundles/studies/README.md": "reference/study_files.md",
    "benchmarks/README.md": "explanation/speed.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "CODE_OF_CONDUCT.md": "project/code_of_conduct.md",
}
LINK = re.compile(r"(?<=\]\()[^)\s]+")
API = "API"  # the entry of the navigation that lists the packages


def sources() -> dict[str, str]:
    """Give the page of every source file, both as paths: of the repository and of the site."""
    docs = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
    return {path: path.removeprefix("docs/") for path in docs} | PAGES


def packages() -> Iterator[str]:
    """Yield the dotted names that get a page: the packages and modules right below medpos, and data_prep."""
    for path in sorted((ROOT / "medpos").iterdir()):
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and not path.name.startswith("_"):
            yield f"medpos.{path.stem}"
    yield "data_prep"


def api_page(name: str) -> str:
    """Write the directives for a package: what it defines itself, then each of its modules.

    Args:
        name: dotted name of a package, or of a module.
    """
    path = ROOT / name.replace(".", "/")
    if not path.is_dir():
        return f"# {name}\n\n::: {name}\n"
    parts = [f"# {name}\n\n::: {name}\n    options:\n      members: {defined(path / '__init__.py') or 'false'}\n"]
    for file in sorted(path.rglob("*.py")):
        module = file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        if module != name and not file.stem.startswith("__main"):
            parts.append(
                f"::: {module}\n    options:\n      show_root_heading: true\n      show_root_toc_entry: true\n"
            )
            if file.stem == "__init__":
                parts[-1] += f"      members: {defined(file) or 'false'}\n"
    return "\n".join(parts)


def defined(file: Path) -> list[str]:
    """Name the public functions and classes that a file defines."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [name for name in names if not name.startswith("_")]


def moved_text(source: str, repository: str) -> str:
    """Read a source file with its links as its page needs them."""
    text = (ROOT / source).read_text(encoding="utf-8")
    return LINK.sub(lambda link: moved_link(link.group(), source, repository), text)


def moved_link(link: str, source: str, repository: str) -> str:
    """Translate a link of a source file to one of its page.

    Args:
        link: as written: relative to the source, or an address of the public repository.
        source: path of the file in the repository.
        repository: address of the public repository.

    Returns:
        A link relative to the page where the site has the target, else an address.
    """
    address, mark, anchor = link.partition("#")
    path = path_of(address, source, repository)
    if path is None:
        return link
    known = sources() | {name.replace(".", "/"): f"reference/api/{name}.md" for name in packages()}
    if path in known or path.startswith("docs/figures/"):
        page = known.get(path, path.removeprefix("docs/"))
        return Path(os.path.relpath(page, Path(known[source]).parent)).as_posix() + mark + anchor
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{repository}/{kind}/main/{path}{mark}{anchor}"


def path_of(address: str, source: str, repository: str) -> str | None:
    """Find the file of the repository that a link without its anchor leads to; None where it leads elsewhere."""
    raw = repository.replace("//github.com", "//raw.githubusercontent.com")
    for start in (f"{repository}/blob/main/", f"{repository}/tree/main/", f"{raw}/main/"):
        if address.startswith(start):
            return address.removeprefix(start).rstrip("/")
    if not address or ":" in address:
        return None
    return Path(os.path.relpath((ROOT / source).parent / address, ROOT)).as_posix()


def assemble(build: Path) -> None:
    """Write the pages and the configuration of the site.

    Args:
        build: folder of ``pages/`` and ``mkdocs.yml``; pages of before are removed.
    """
    config: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = build / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(ROOT / "docs/figures", pages / "figures")
    shutil.copy(ROOT / "docs/src/site.css", pages)
    for source, page in sources().items():
        write(pages / page, moved_text(source, config["repo_url"]))
    names = list(packages())
    for name in names:
        write(pages / f"reference/api/{name}.md", api_page(name))
    for part in config["nav"]:
        for entry in next(iter(part.values())):
            if isinstance(entry, dict) and API in entry:
                entry[API] = [f"reference/api/{name}.md" for name in names]
    write(build / "mkdocs.yml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def write(path: Path, text: str) -> None:
    """Write a text file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    assemble(ROOT / "build")
