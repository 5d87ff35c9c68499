"""Write docs/reference/keys.md from bundles/src/keys.yaml: every key of the bundles, its values, what it is.

usage: python docs/src/keys.py

A test fails when the committed page is stale.
"""

from pathlib import Path
from typing import Any

from medpos.bundle.fragments import load_keys
from medpos.core.rules import describe

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reference/keys.md"
HEAD = """# Keys of a bundle

Made by `python docs/src/keys.py` from `bundles/src/keys.yaml`; do not edit. A test compares it.

The keys at the top of a bundle's file that are plain values. Each can be given on the command line, `--KEY VALUE`, in
an overlay, and in a study's `set` and `--set`. Keys and values are checked before anything is read or trained: a
mistyped key is refused and the closest known one suggested, a wrong value with those that are allowed.
`python -m medpos bundles show NAME` prints the keys of a bundle with their defaults. Parts (`network_def`, `train`,
`inferer` and so on) are changed by `--PART#NAME VALUE` or an overlay ([change a bundle](../how-to/change_a_bundle.md)).

A value that begins with `$` is a Python expression, one that begins with `@` refers to another key, one that begins
with `%` to a file; a path of such a name is written `./$name`. A text is taken as it is
typed, `--run_name 1e5` too.

A user's own keys are checked as well, where the `metadata.json` beside the bundle describes them under `keys`, in the
words of JSON Schema: `"keys": {"width": {"type": "number", "maximum": 4, "description": "factor of the channels"}}`.

More: [prepared data](../../data_prep/README.md#the-prepared-folder), [CRF](../how-to/crf.md), [published
weights](../explanation/recipes.md).
"""
PHANTOM = """
The section `phantom` holds the values that a bundle uses on phantoms, such as a smaller `image_size`; overrides and
edited values win.
"""


def page() -> str:
    """Write the page."""
    sections = load_keys(ROOT / "bundles/src")
    first, *others = [f"\n## {title}\n\n{table(keys)}" for title, keys in sections.items()]
    return "".join((HEAD, first, PHANTOM, *others))


def table(keys: dict[str, dict[str, Any]]) -> str:
    """Write the table of a section."""
    rows = [f"| `{key}` | {describe(rule)} | {rule['description']} |\n" for key, rule in keys.items()]
    return "".join(("| key | values | what |\n|---|---|---|\n", *rows))


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
