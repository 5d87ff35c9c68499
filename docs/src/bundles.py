"""Write docs/bundles.md and the table of README.md: each bundle, its network, the paper's result and ours.

usage: python docs/src/bundles.py

Parameters are counted in the networks, which are built on the meta device, without memory; the rest stands in
bundles.yaml. A test fails when a committed table is stale.
"""

import re
from pathlib import Path
from typing import Any

import monai.bundle
import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
SECTIONS: list[dict[str, Any]]
NOTES: dict[str, str]
SECTIONS, NOTES = (
    yaml.safe_load((Path(__file__).parent / "bundles.yaml").read_text(encoding="utf-8"))[key]
    for key in ("sections", "notes")
)
PAGE, README = ROOT / "docs/bundles.md", ROOT / "README.md"
IMAGENET_CLASSES = 1000  # the bundles count them in the data
START, END = "<!-- table: python docs/src/bundles.py -->\n", "<!-- end of table -->\n"
HEAD = """# The bundles

Made by `python docs/src/bundles.py` from [bundles.yaml](src/bundles.yaml) and the networks; do not edit. A test
compares it.

`python -m monai.bundle run --config_file bundles/NAME.json` runs any of them, on phantoms where there is no prepared
data. The position study has fourteen; each of the others has the complete recipe of its paper: loss, weighting,
augmentation, schedule, inference and metric ([stage by stage](explanation/recipes.md)). The [data
sets](../data_prep/README.md) are prepared from the published downloads. How much of the image each network sees:
[networks](networks.md).

"The paper" is the published value (above 1: in percent), "ours" the measured one, from 0 to 1; `-`: not given by the
paper, or not trained here. Data,
commands, seeds and intervals: [results](explanation/results.md).
"""


def parameters(name: str) -> int:
    """Count the parameters of a bundle's network."""
    config = monai.bundle.ConfigParser()
    config.read_config(str(ROOT / f"bundles/{name}.json"))
    if name.startswith("imagenet"):
        config["classes"] = IMAGENET_CLASSES
    with torch.device("meta"):
        network = config.get_parsed_content("network_def")
    return sum(parameter.numel() for parameter in network.parameters())


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Write a Markdown table."""
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *rows))


def notes(text: str) -> str:
    """Write the notes that a table refers to, one a line."""
    used = [f"{mark} {note}" for mark, note in NOTES.items() if mark in text]
    return "\n" + "  \n".join(used) + "\n" if used else ""


def page() -> str:
    """Write the page of all bundles."""
    parts = [HEAD]
    for section in SECTIONS:
        rows = [
            (
                f"`{name}`",
                row["network"],
                row["data"],
                f"{parameters(name):,}",
                row.get("paper", "-"),
                row.get("ours", "-"),
            )
            for name, row in section["bundles"].items()
        ]
        text = table(("bundle", "network", "data", "parameters", "the paper", "ours"), rows)
        parts.append(f"## {section['title']}\n\n[{section['paper']}]({section['address']})\n\n{text}{notes(text)}")
    return "\n".join(parts)


def readme(text: str) -> str:
    """Put the narrow table of the position study into the README.

    Args:
        text: the README, with the two comments that the table stands between.
    """
    rows = [
        (f"`{name}`", row["network"], row.get("paper", "-"), row.get("ours", "-"))
        for name, row in SECTIONS[0]["bundles"].items()
        if "paper" in row or "ours" in row
    ]
    made = table(("bundle", "network", "the paper", "ours"), rows)
    return re.sub(f"(?s)(?<={START}).*(?={END})", lambda _: f"{made}{notes(made)}", text)


def main() -> None:
    """Write both tables."""
    PAGE.write_text(page(), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
