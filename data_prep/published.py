"""Compare the counts of a published download with the published numbers."""

from collections.abc import Mapping


def describe_shortfall(found: Mapping[str, int], whole: Mapping[str, int]) -> str:
    """Describe how counts differ from the published ones, as the end of a line; empty if they are equal.

    Args:
        found: counts by kind, such as ``train``.
        whole: published counts by the same kinds.
    """
    counts = ", ".join(f"{found[what]} {what} (published: {count})" for what, count in whole.items())
    return "" if found == whole else f"; not the published number: {counts}"
