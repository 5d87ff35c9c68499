"""Show how much of the variance of Dice each factor of a study explains, as a table and a figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from medpos.core.labels import data_title
from medpos.plotting.style import Drawing, styled
from medpos.statistics.variance import REST, decompose_table
from medpos.study.declaration import Study, Variant
from medpos.study.figures import line_style
from medpos.study.tables import Content

# Titles of factors by the keys of bundles, where they aren't the keys themselves.
_FACTORS = {"pe_alpha": "alpha", "padding_mode": "padding"}
_HATCHES = ("", "//", "..", "\\\\", "xx")


def decompose(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Decompose the variance of Dice over the factors of a study, where its file asks for it.

    Args:
        table: long table of the study.
        study: declaration of the study.

    Returns:
        Table from :func:`medpos.statistics.variance.decompose_table`; empty where there is none.
    """
    factors = find_factors(study.variants) if "variance" in study.figures else {}
    return decompose_table(table, factors) if factors and len(table) else pd.DataFrame()


def find_factors(variants: Sequence[Variant]) -> dict[str, dict[str, str]]:
    """Find what tells the models of a study apart: position channels, and the keys that they set to different values.

    Args:
        variants: models of the study; one with seeds of its own, such as a mean mask, is left out.

    Returns:
        Level of every model by name, for each factor with two levels or more; ``none`` where it has no such key.
    """
    compared = [variant for variant in variants if not variant.seeds]
    found = {"position": {v.name: "yes" if v.bundle.endswith("_pe") else "no" for v in compared}}
    for key in dict.fromkeys(key for v in compared for key in v.overrides):
        found[_FACTORS.get(key, key.replace("_", " "))] = {v.name: str(v.overrides.get(key, "none")) for v in compared}
    return {name: levels for name, levels in found.items() if len(set(levels.values())) > 1}


def tabulate(found: pd.DataFrame) -> list[Content]:
    """Tabulate the decomposition of the variance of Dice for each data set.

    Args:
        found: table from :func:`medpos.statistics.variance.decompose_table`.
    """
    out: list[Content] = []
    for data in dict.fromkeys(found["data"]) if len(found) else []:
        rows = found[found["data"] == data]
        first = rows.iloc[0]
        cells = [
            [row.conditions, row.term, row.df, f"{row.share:.3f}", *_f_test(row)]
            for row in rows.itertuples(index=False)
        ]
        left_out = f", {first['left_out']} left out without a value everywhere" if first["left_out"] else ""
        out.append(
            {
                "title": f"{data}: parts of the variance of mean Dice",
                "note": "share: of the sum of squares over models, severities, subjects and seeds; "
                f"{first['subjects']} subjects{left_out}, {first['seeds']} seeds; a factor is tested against how much "
                "its effect differs between subjects and seeds (exploratory, without a correction)",
                "columns": ["conditions", "term", "df", "share", "F", "df of the error", "p"],
                "rows": cells,
            }
        )
    return out


def _f_test(row: Any) -> list[str]:
    if pd.isna(row.f):
        return ["-"] * 3
    return [f"{row.f:.1f}", f"{row.df_error:.1f}", "< 0.001" if row.p < 0.001 else f"{row.p:.3f}"]


def draw(found: pd.DataFrame) -> list[Drawing]:
    """Draw the parts of the variance of Dice as one bar per kind of condition, for each data set.

    Args:
        found: table from :func:`medpos.statistics.variance.decompose_table`.
    """
    drawings = []
    for data in dict.fromkeys(found["data"]) if len(found) else []:
        rows = found[found["data"] == data]
        with styled():
            figure = _shares(rows)
        caption = f"Parts of the variance of mean Dice, {data_title(data)}"
        words = "; ".join(
            f"{kind}: {', '.join(f'{row.term} {row.share:.3f}' for row in part.itertuples(index=False))}"
            for kind, part in rows.groupby("conditions", sort=False)
        )
        drawings.append(Drawing(f"variance_{data}", caption, f"{caption}. {words}", figure))
    return drawings


def _shares(rows: pd.DataFrame) -> Figure:
    """Draw stacked bars, one per kind of condition, with a color and a hatching per term."""
    kinds = list(dict.fromkeys(rows["conditions"]))
    of_kinds = sorted((rows.loc[rows["conditions"] == kind, "term"] for kind in kinds), key=len, reverse=True)
    terms = list(dict.fromkeys(pd.concat(of_kinds)))
    shares = rows.set_index(["conditions", "term"])["share"]
    figure = Figure(figsize=(7.4, 1.3 + 0.42 * len(kinds) + 0.2 * -(-len(terms) // 3)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(kinds))
    for n, term in enumerate(terms):
        widths = np.array([shares.get((kind, term), 0.0) for kind in kinds])
        color = "#bbbbbb" if term == REST else line_style(n, len(terms))["color"]
        hatch = _HATCHES[n % len(_HATCHES)]
        axes.barh(kinds, widths, left=left, color=color, hatch=hatch, edgecolor="white", linewidth=0.5, label=term)
        left += widths
    axes.set(xlim=(0, 1), xlabel="share of the sum of squares")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
