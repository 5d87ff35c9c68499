"""Split a table of Dice into the panels of curves: one per kind of degradation, or one per axis of a shift."""

from dataclasses import dataclass

import pandas as pd

from medpos.core.labels import kind_title

_AXES = {"x": "shift to the right, px", "y": "shift down, px"}


@dataclass(frozen=True, eq=False)
class Panel:
    """Hold one panel of a figure.

    Args:
        title: title of the panel.
        label: label of the horizontal axis.
        rows: rows of the table with the column ``at``, the place on the horizontal axis.
    """

    title: str
    label: str
    rows: pd.DataFrame


def severity_panels(table: pd.DataFrame) -> list[Panel]:
    """Make one panel per kind of degradation, each beginning with severity 0.

    Args:
        table: rows without shifts, with the columns ``degradation`` and ``severity``.
    """
    panels = []
    for kind in (kind for kind in dict.fromkeys(table["degradation"]) if kind != "none"):
        rows = table[(table["degradation"] == kind) | (table["severity"] == 0)]
        panels.append(Panel(kind_title(kind), "severity", rows.assign(at=rows["severity"])))
    return panels


def shift_panels(table: pd.DataFrame) -> list[Panel]:
    """Make one panel per axis with shifts; rows with shifts along both axes are left out.

    Args:
        table: rows without degradations, with the column ``shift``.
    """
    panels = []
    for axis, label in _AXES.items():
        at = table["shift"].str.extract(rf"^{axis}([+-]\d+)$", expand=False).where(table["shift"] != "0", "0")
        rows = table.assign(at=pd.to_numeric(at)).dropna(subset=["at"])
        if rows["at"].nunique() > 1:
            panels.append(Panel(label.split(",")[0], label, rows))
    return panels
