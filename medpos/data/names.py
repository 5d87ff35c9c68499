"""Check the names in the description of a data set, which come from anywhere."""

from collections.abc import Iterable, Mapping
from typing import Any

from medpos.core.labels import MEAN_OF_ORGANS
from medpos.core.names import find_faults
from medpos.data.schema import SPLITS


def find_name_faults(content: Mapping[str, Any]) -> list[str]:
    """Find the names of data set, classes, channels, cases and subjects that can't be used.

    Args:
        content: content of ``dataset.json`` or ``data.json``; keys that are missing or no lists are left to others.

    Returns:
        A line for each name that isn't a plain one, and for each class, channel and case listed twice.
    """
    cases = [case for part in SPLITS for case in _entries(content.get(part))]
    subjects = dict.fromkeys(str(case["subject"]) for case in cases if "subject" in case)
    classes = [label.get("name") for label in _entries(content.get("labels"))]
    return [
        *find_faults("name", [content["name"]] if "name" in content else [], of_files=True),
        *find_faults("class", classes),
        *[f"expected another name of a class than {name!r}" for name in classes if name == MEAN_OF_ORGANS],
        *find_faults("channel", content["channels"] if isinstance(content.get("channels"), list) else []),
        *find_faults("case", [case.get("case") for case in cases], of_files=True),
        *find_faults("subject", subjects, of_files=True),
    ]


def _entries(value: Any) -> Iterable[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
