"""Write the tables of docs/explanation/reliability.md: how many attacks and damaged files were tried and survived.

usage: python docs/src/attacks.py build/torture.xml [AGAIN.xml ...] [build/fuzz/counts.json]

``make torture`` writes the first file, ``make fuzz`` the last. Further reports are of attacks that were tried again:
what they say counts. A test fails when a list of attacks is missing.
"""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/explanation/reliability.md"
LISTS = ROOT / "tests/reliability"
END = "<!-- end of table -->\n"


def start(name: str) -> str:
    """Return the line before a table."""
    return f"<!-- {name}: python docs/src/attacks.py -->\n"


def put(text: str, name: str, rows: Iterable[tuple[object, ...]]) -> str:
    """Replace the rows of a table in a page.

    Args:
        text: the page.
        name: name of the table.
        rows: its cells, the head first.
    """
    head, *body = rows
    lines = "".join(f"| {' | '.join(map(str, row))} |\n" for row in (head, ("---",) * len(head), *body))
    found = re.compile(re.escape(start(name)) + ".*?" + re.escape(END), re.DOTALL)
    return found.sub(lambda _: start(name) + lines + END, text)


def describe(path: Path) -> str:
    """Return the first sentence of a module."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ").rstrip(".").replace("|", "\\|")


def collect() -> Counter[str]:
    """Count the attacks of all lists by module, without trying any."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "torture or not torture", str(LISTS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return Counter(Path(line.partition("::")[0]).stem for line in done.stdout.splitlines() if "::" in line)


def count_attacks(reports: Iterable[Path], listed: Mapping[str, int]) -> list[tuple[object, ...]]:
    """Count the attacks of each list that were tried, and those that were survived.

    Args:
        reports: reports of pytest in JUnit's format; of an attack in several of them the last one counts.
        listed: number of attacks by module.
    """
    tried, survived = Counter[str](), Counter[str]()
    cases = [case for report in reports for case in ElementTree.parse(report).iter("testcase")]
    for case in {(case.get("classname"), case.get("name")): case for case in cases}.values():
        name = case.get("classname", "").removeprefix("tests.reliability.").split(".")[0]
        if case.find("skipped") is None:
            tried[name] += 1
            survived[name] += case.find("failure") is None and case.find("error") is None
    paths = sorted(LISTS.glob("test_*.py"))
    rows = [(f"`{p.name}`: {describe(p)}", listed[p.stem], tried[p.stem], survived[p.stem]) for p in paths]
    return [("list", "attacks", "tried", "survived"), *rows, ("all", *(sum(row[n] for row in rows) for n in (1, 2, 3)))]


def count_files(counts: Path) -> list[tuple[object, ...]]:
    """Count the damaged files of each reader.

    Args:
        counts: file that the fuzzing has written.
    """
    content = json.loads(counts.read_text(encoding="utf-8"))
    keys = ("tried", "refused", "read")
    rows = [(name, *(entry[key] for key in keys)) for name, entry in content.items()]
    return [
        ("reader", "tried", "refused in one line", "read"),
        *rows,
        ("all", *(sum(row[n] for row in rows) for n in (1, 2, 3))),
    ]


def main(arguments: list[str]) -> None:
    """Rewrite the page from the reports."""
    text = PAGE.read_text(encoding="utf-8")
    reports = [Path(name) for name in arguments if name.endswith(".xml")]
    text = put(text, "attacks", count_attacks(reports, collect()))
    for name in arguments:
        if name.endswith(".json"):
            text = put(text, "files", count_files(Path(name)))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
