"""Write the tables of the pages of results from the CSV files in docs/results, and check the pages' numbers.

usage: python docs/src/results.py [--check | --take STUDY_FOLDER NAME]

The pages are results.md, trust.md and one a claim in claims/, all in docs/explanation. A table stands between
``<!-- table: NAME -->`` and ``<!-- end of table -->``: the file ``docs/results/NAME.csv`` as it is, or one of ``VIEWS``
of it. docs/results/README.md says which command made each file. With ``--check`` nothing is written, and the exit code
is 1 if a table is stale or a measured number of the pages is in no table. With ``--take`` the criteria, their
conditions and the tables of a study's ``study.json`` become ``docs/results/NAME_criteria.csv`` and so on.
"""

import csv
import json
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
FOLDER, PAGE = ROOT / "docs/results", ROOT / "docs/explanation/results.md"
CLAIM_PAGES, LIGHTS = PAGE.parent / "claims", PAGE.parent / "trust.md"
# Pages with the column "ours", made by docs/src/bundles.py.
OURS = (ROOT / "README.md", ROOT / "docs/bundles.md")
# Words in the titles of those tables of a study that are taken, and the ends of the names of their files.
KINDS = {
    "Chosen on": "choice",
    "Dice on clean": "organs",
    "slice by slice": "slices",
    "parts of the variance": "variance",
    "alarms and Dice lost": "lights",
}
# Conditions of the table of doubt, degradation, severity and shift; of several the mean.
DOUBTED = {
    "clean": [("none", 0, "0")],
    "Gaussian noise 1": [("gaussian_noise", 1, "0")],
    "Gaussian noise 5": [("gaussian_noise", 5, "0")],
    "shifted 8 px": [("none", 0, f"{direction}8") for direction in ("x+", "x-", "y+", "y-")],
    "shifted 32 px": [("none", 0, f"{direction}32") for direction in ("x+", "x-", "y+", "y-")],
}
# Beginnings of the names of taken studies, and what they were run on.
SOURCES = {
    "unet_hearts": "U-Net, 80 hearts, two seeds",
    "unet_folds3_xrays": "U-Net, 28 chest X-rays, 3 folds",
    "small_hearts": "small CNN, 80 hearts",
    "small_xrays": "small CNN, 28 chest X-rays",
    "folds_xrays": "small CNN, 28 chest X-rays, 5 folds",
    "folds3_xrays": "small CNN, 28 chest X-rays, 3 folds",
}
# The paper's claims, then those beyond it.
CLAIMS = (
    "table1",
    "table2",
    "figure2",
    "figure3",
    "figure4",
    "figure5",
    "intensities",
    "encodings",
    "reliance",
    "trust",
    "noticed",
)
# Conditions whose alarms docs/explanation/trust.md shows.
_LIT = re.compile(r"clean|.* severity [125]|shifted (?:8|16|32|64) px (?:right|up)")
_CHANGE = "## What would change the verdict\n\n"
_TABLE = re.compile(r"(?s)(?P<start><!-- table: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end of table -->\n)")
_NUMBER = re.compile(r"(?<![\w.])-?\d\.\d{3}(?!\d|\.\d)")
# Code, quotations, and sentences that begin with the paper's numbers.
_NOT_OURS = re.compile(r'(?m)^    .*$|^>.*$|`[^`\n]*`|"[^"\n]*"|\bThe paper\b(?:[^.]|\.(?=\d))*\.')


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table; the first row is its head."""
    head, *body = [f"| {' | '.join(map(str, row))} |\n".replace("|  |", "| |") for row in rows]
    return "".join([head, f"|{'---|' * len(rows[0])}\n", *body])


def read(name: str) -> list[list[str]]:
    """Read the rows of a file in docs/results, the head first."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def tabulate_severities(name: str) -> list[list[str]]:
    """Average a table of figure 2 over organs and seeds, for some of its conditions."""
    table = pd.read_csv(FOLDER / f"{name}.csv")
    chosen = {
        "clean": ("none", 0),
        "noise 1": ("gaussian_noise", 1),
        "noise 3": ("gaussian_noise", 3),
        "noise 5": ("gaussian_noise", 5),
        "blur 5": ("gaussian_blur", 5),
        "shot 5": ("shot_noise", 5),
    }
    means = table.groupby(["model", "degradation", "severity"])["dice"].mean()
    models = sorted(dict.fromkeys(table["model"]), key=lambda name: float(name.partition("alpha ")[2] or 0))
    rows = [[model, *(f"{means[(model, *condition)]:.3f}" for condition in chosen.values())] for model in models]
    return [["mean Dice", *chosen], *rows]


def find_verdicts(claim: str) -> dict[str, dict[str, str]]:
    """Read the verdicts on a claim that were taken, by the beginning of their names."""
    paths = {source: FOLDER / f"{source}_{claim}_verdict.csv" for source in SOURCES}
    found = {source: read(path.stem) for source, path in paths.items() if path.is_file()}
    return {source: dict(zip(*rows, strict=True)) for source, rows in found.items()}


def tabulate_claims() -> list[list[str]]:
    """List the claims with the verdict from each source, and what would change it as the claim's page says."""
    rows = [["the paper", "claim", "verdicts", "what would change the verdict"]]
    for name in CLAIMS:
        verdicts = find_verdicts(name)
        about = next(iter(verdicts.values()))
        found = "<br>".join(f"**{found['verdict']}**: {SOURCES[source]}" for source, found in verdicts.items())
        page = CLAIM_PAGES / f"{name}.md"
        change = page.read_text(encoding="utf-8").partition(_CHANGE)[2].partition("\n\n")[0]
        link = f"[{about['paper']}]({CLAIM_PAGES.name}/{page.name})"
        rows.append([link, about["claim"], found, " ".join(change.split())])
    return rows


def tabulate_verdicts(claim: str) -> list[list[str]]:
    """List the verdicts on a claim from each source, with command and commit."""
    rows = [["network, data", "verdict", "command", "commit"]]
    for source, about in find_verdicts(claim).items():
        rows.append([SOURCES[source], f"**{about['verdict']}**", f"`{about['command']}`", about["commit"]])
    return rows


def tabulate_lights(name: str) -> list[list[str]]:
    """List alarms and Dice lost under some of the conditions of a taken study."""
    head, *rows = read(name)
    return [head, *(row for row in rows if _LIT.fullmatch(row[0]))]


VIEWS: dict[str, Callable[[], list[list[str]]]] = {
    **{name: partial(tabulate_severities, name) for name in ("acdc_unet_figure2", "unet_hearts_figure2")},
    **{f"verdicts_{name}": partial(tabulate_verdicts, name) for name in CLAIMS},
    "claims": tabulate_claims,
    "lights": partial(tabulate_lights, "unet_folds3_xrays_noticed_lights"),
}


def list_pages() -> list[Path]:
    """List the pages with tables, the one that quotes the others last."""
    return [*(CLAIM_PAGES / f"{name}.md" for name in CLAIMS), LIGHTS, PAGE]


def fill(text: str) -> str:
    """Put the present tables into a page."""
    return _TABLE.sub(lambda found: found["start"] + markdown(make(found["name"])) + found["end"], text)


def make(name: str) -> list[list[str]]:
    """Return the rows of a table by its name."""
    return VIEWS[name]() if name in VIEWS else read(name)


def find_numbers(text: str) -> list[str]:
    """Find the measured numbers of three decimals in the text of a page, without tables and what a paper published."""
    return _NUMBER.findall(_NOT_OURS.sub("", _TABLE.sub("", text)))


def find_ours(text: str) -> list[str]:
    """Find the numbers of three decimals in the last column of a page's tables."""
    return [
        number for line in text.splitlines() if line.startswith("|") for number in _NUMBER.findall(line.split("|")[-2])
    ]


def find_known() -> set[str]:
    """Collect the numbers of all tables, with and without sign."""
    names = {path.stem for path in FOLDER.glob("*.csv")}
    cells = [cell for name in names for rows in (read(name), make(name)) for row in rows for cell in row]
    numbers = {number for cell in cells for number in _NUMBER.findall(cell)}
    return numbers | {number.removeprefix("-") for number in numbers} | {f"-{number}" for number in numbers}


def find_faults() -> list[str]:
    """List the stale tables, the tables without a file, and the measured numbers that are in no table."""
    faults, found = [], []
    for page in list_pages():
        text = page.read_text(encoding="utf-8")
        rest = _TABLE.sub("", text)
        faults += [] if fill(text) == text else [f"{page.name}: a table is stale; run python docs/src/results.py"]
        faults += [
            f"{page.name}: not from a file of docs/results: {line}"
            for line in rest.splitlines()
            if line[:1] == "|" and page != LIGHTS  # it explains the detectors in tables of words
        ]
        found += [(page.name, number) for number in find_numbers(text)]
    found += [(page.name, number) for page in OURS for number in find_ours(page.read_text(encoding="utf-8"))]
    known = find_known()
    return faults + [
        f"{name}: {number} is in no table of docs/results" for name, number in found if number not in known
    ]


def take(folder: Path, name: str) -> list[Path]:
    """Write the criteria and tables of a study into docs/results, and return their paths.

    Args:
        folder: folder of the study, with ``study.json``.
        name: beginning of the names of the files.
    """
    content = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    about = [content[key] for key in ("title", "paper", "claim", "verdict_text", "command", "commit", "created")]
    tables = {
        "verdict": [["study", "paper", "claim", "verdict", "command", "commit", "created"], about],
        "criteria": tabulate_criteria(content["criteria"]),
        "parts": tabulate_parts(content["criteria"]),
    }
    for table in content["tables"]:
        for kind in (kind for word, kind in KINDS.items() if word in table["title"]):
            tables[kind] = [table["columns"], *table["rows"]]
    if (folder / "csv/failures.csv").is_file() and any("overconfidence" in c["text"] for c in content["criteria"]):
        tables["doubt"] = tabulate_doubt(folder / "csv")
    paths = []
    for kind, rows in ((kind, rows) for kind, rows in tables.items() if len(rows) > 1):
        paths.append(FOLDER / f"{name}_{kind}.csv")
        with paths[-1].open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)
    return paths


def tabulate_doubt(folder: Path) -> list[list[str]]:
    """List for some conditions whether the interval of an organ's size holds it, and what the expected Dice tells.

    Args:
        folder: folder with the tables of the study's page.
    """
    keys = ["model", "degradation", "severity", "shift", "organ"]
    tables = (
        pd.read_csv(folder / f"{name}.csv", dtype={"shift": str}) for name in ("calibration_conditions", "failures")
    )
    sizes, failures = (table.set_index(keys) for table in tables)
    rows = [
        ["model", "images", "organ", "size in 90 % interval", "width", "expected Dice", "Dice", "failures", "AUROC"]
    ]
    for model in dict.fromkeys(failures.index.get_level_values("model")):
        for images, conditions in DOUBTED.items():
            for organ in dict.fromkeys(failures.index.get_level_values("organ")):
                places = [(model, *condition, organ) for condition in conditions]
                size, found = (table.loc[places] for table in (sizes, failures))
                values = (size["coverage_mean"], size["width_mean"], found["expected"], found["dice"])
                auroc = "-" if found["auroc"].isna().all() else f"{found['auroc'].mean():.3f}"
                count = f"{found['failures'].sum()} of {found['n'].sum()}"
                means = (f"{value.mean():.3f}" for value in values)
                rows.append([model, images, organ.replace("_", " "), *means, count, auroc])
    return rows


def tabulate_criteria(findings: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Tabulate the criteria of a study on the data sets that were run, the head first; n is the number of subjects."""
    rows = [["data", "criterion", "where", "value", "95 % interval", "n", "p (Holm)", "power", "verdict"]]
    for found in findings:
        if found["value"] is not None:
            numbers = ["" if found[key] is None else f"{found[key]:.3f}" for key in ("p_holm", "power")]
            verdict = found["verdict"] + (f": {found['note']}" if found["note"] else "")
            value = f"{found['value']:.3f}"
            about = [found["data"], found["text"], found["where"]]
            rows.append([*about, value, _interval(found["ci95"]), str(found["subjects"]), *numbers, verdict])
    return rows


def tabulate_parts(findings: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Tabulate each condition, dose or curve of the criteria that have several, the head first."""
    rows = [["data", "criterion", "where", "value", "95 % interval", "n"]]
    for found in findings:
        for part in found["parts"] if len(found["parts"]) > 1 else []:
            about = [found["data"], found["text"], part["label"]]
            rows.append([*about, f"{part['value']:.3f}", _interval(part["ci95"]), str(part["subjects"])])
    return rows


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else " to ".join(f"{end:.3f}" for end in ends)


def main() -> int:
    """Run the command line; returns its exit code."""
    if "--take" in sys.argv[1:]:
        folder, name = sys.argv[sys.argv.index("--take") + 1 :]
        sys.stdout.writelines(f"{path}\n" for path in take(Path(folder), name))
        return 0
    if "--check" in sys.argv[1:]:
        faults = find_faults()
        sys.stdout.writelines(f"{fault}\n" for fault in faults)
        return int(bool(faults))
    for page in list_pages():
        page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
