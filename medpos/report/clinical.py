"""Compute clinical indices for a report: agreement, Bland-Altman plots and the worst cases, per model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from medpos.metrics.agreement import agreement, category_agreement
from medpos.metrics.clinical import CTR, indices
from medpos.report.figures import bland_altman
from medpos.report.sources import Evaluation, Run
from medpos.report.tables import Cell, Table, count_cell, interval_cell, number_cell, stated_cell, text_cell
from medpos.trust.failure import LEAST

_WORST = 5
_OF_FEW = ("n", "missing", "bias", "sd", "bias_ci95", "mean_absolute_error")  # stated of any number of cases
ENLARGED = 0.5  # cardiothoracic ratio above which a heart counts as enlarged


@dataclass(frozen=True, eq=False)
class Index:
    """Hold one clinical index of one model.

    Args:
        data: name of the data set.
        model: name of the model in the tables.
        name: name of the index.
        unit: unit of the index, empty for a ratio.
        found: agreement from :func:`medpos.metrics.clinical.agreement`.
        rows: ``subject``, ``case``, ``true``, ``predicted`` and ``difference``, the largest difference first.
        skipped: number of cases in which the index can't be computed for ground truth or prediction.
    """

    data: str
    model: str
    name: str
    unit: str
    found: dict[str, Any]
    rows: pd.DataFrame
    skipped: int

    def figure(self) -> Figure:
        """Draw the Bland-Altman plot."""
        return bland_altman(
            self.rows["true"].tolist(),
            self.rows["predicted"].tolist(),
            self.found,
            self.unit,
            self.rows["case"].astype(str).tolist(),
        )

    @property
    def alt(self) -> str:
        """Description of the plot in words."""
        name = f"{self.name} in {self.unit}" if self.unit else self.name
        return (
            f"Bland-Altman plot of {name}, {self.model} on {self.data}, {self.found['n']} cases: "
            f"bias {self._of('bias')}, {self.limits}"
        )

    @property
    def limits(self) -> str:
        """The limits of agreement in words, or why there are none."""
        if self.found["n"] < LEAST:
            return f"no limits of agreement: {self.found['n']} cases, and they are stated from {LEAST} on"
        return f"limits of agreement {self._of('lower')} to {self._of('upper')}"

    @property
    def digits(self) -> int:
        """Number of decimals to show: 4 for a ratio, which lies within 0 to 1."""
        return 2 if self.unit else 4

    def _of(self, key: str) -> str:
        return number_cell(self.found.get(key), self.digits).text

    @property
    def worst(self) -> list[str]:
        """The cases with the greatest differences, as text."""
        unit = f" {self.unit}" if self.unit else ""
        return [
            f"{row.case}: true {row.true:.3g}, predicted {row.predicted:.3g} ({row.difference:+.3g}){unit}"
            for row in self.rows.head(_WORST).itertuples()
        ]


def measure_indices(runs: Sequence[Run]) -> list[Index]:
    """Compute the indices of each model and data set, from the first run with saved cases.

    In a cross-validation the runs of the other folds, with the same seed and other cases, are added.
    """
    chosen: dict[tuple[str, str], list[tuple[Run, Evaluation]]] = {}
    for run in runs:
        for evaluation in [evaluation for evaluation in run.pooled if evaluation.has_cases]:
            kept = chosen.setdefault((evaluation.data, run.model), [])
            known = {case for _, other in kept for case in other.table["case"]}
            if not kept or (run.seed == kept[0][0].seed and known.isdisjoint(evaluation.table["case"])):
                kept.append((run, evaluation))
    return [
        index
        for (data, model), kept in chosen.items()
        for index in _of_evaluations(data, model, [evaluation for _, evaluation in kept])
    ]


def _of_evaluations(data: str, model: str, evaluations: Sequence[Evaluation]) -> list[Index]:
    labels = evaluations[0].labels
    rows = pd.DataFrame(indices([case for evaluation in evaluations for case in evaluation.cases()], labels))
    if rows.empty:
        return []
    out = []
    for (name, unit), part in rows.groupby(["index", "unit"], sort=False):
        values = part.assign(**{key: pd.to_numeric(part[key]) for key in ("true", "predicted")})
        values = values.assign(difference=values["predicted"] - values["true"])
        sound = values[values["difference"].abs() < math.inf]
        if sound.empty:
            continue
        sound = sound.sort_values("difference", key=lambda d: -d.abs(), ignore_index=True)
        found = _stated(agreement(sound["true"].tolist(), sound["predicted"].tolist()))
        skipped = len(values) - len(sound)
        out.append(Index(data, model, str(name), str(unit), found, sound, skipped))
    return out


def _stated(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out limits of agreement, slope and correlations of too few cases to state any."""
    return found if found["n"] >= LEAST else {key: found[key] if key in _OF_FEW else None for key in found}


def tabulate_agreement(found: Sequence[Index]) -> Table:
    """Tabulate bias, limits and correlation of every index."""
    rows, records = [], []
    for index in found:
        values, digits, n = index.found, index.digits, index.found["n"]
        rows.append(
            (
                Cell(index.name, index.name),
                *map(text_cell, (index.unit, index.data, index.model)),
                number_cell(values.get("bias"), digits, values.get("sd")),
                interval_cell(values.get("bias_ci95"), digits),
                *(stated_cell(values.get(name), n, digits) for name in ("lower", "upper")),
                stated_cell(values.get("proportional_bias"), n),
                interval_cell(values.get("proportional_bias_ci95")),
                *(stated_cell(values.get(name), n) for name in ("correlation", "ccc", "icc")),
                *map(count_cell, (values.get("n"), index.skipped)),
            )
        )
        identity = {"data": index.data, "model": index.model, "index": index.name, "unit": index.unit}
        records.append({**identity, **_flat(values), "skipped": index.skipped})
    return Table(
        "clinical_agreement",
        "Agreement of clinical indices",
        "predicted - true; bias ± sd of the differences; limits of agreement (95 %); slope: of the difference over the "
        "mean of both; Pearson correlation; CCC: Lin's concordance; ICC: absolute agreement; skipped: the index can't "
        "be computed for truth or prediction; limits, slope, correlation, CCC and ICC are stated from "
        f"{LEAST} cases on; the CSV file has all intervals",
        (
            *("index", "unit", "data", "model", "bias", "95 % interval", "lower limit", "upper limit", "slope"),
            *("95 % interval of the slope", "correlation", "CCC", "ICC", "n", "skipped"),
        ),
        tuple(rows),
        pd.DataFrame(records),
    )


def tabulate_categories(found: Sequence[Index]) -> Table:
    """Tabulate on which side of 0.5 the true and the predicted cardiothoracic ratio are."""
    rows, records = [], []
    for index in (one for one in found if one.name == CTR):
        values = category_agreement(index.rows["true"].tolist(), index.rows["predicted"].tolist(), ENLARGED)
        counts = ("both_above", "true_above", "predicted_above", "both_below", "n")
        rows.append(
            (
                Cell(index.data, index.data),
                text_cell(index.model),
                *(count_cell(values[name]) for name in counts),
                number_cell(values["agreement"]),
                stated_cell(values["kappa"], values["n"]),
            )
        )
        if values["n"] < LEAST:
            values["kappa"] = None
        records.append({"data": index.data, "model": index.model, **values})
    return Table(
        "clinical_categories",
        f"{CTR.capitalize()} above {ENLARGED}",
        "an enlarged heart by convention; numbers of cases; kappa: Cohen's, empty where truth and prediction are all "
        "on the same side",
        ("data", "model", "both above", "truth alone", "prediction alone", "both below", "n", "agreement", "kappa"),
        tuple(rows),
        pd.DataFrame(records),
    )


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Spread intervals over two columns: ``bias_low`` and ``bias_high``."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if key.endswith("_ci95"):
            low, high = value or (None, None)
            out |= {key.replace("_ci95", "_low"): low, key.replace("_ci95", "_high"): high}
        else:
            out[key] = value
    return out


def tabulate_cases(found: Sequence[Index]) -> pd.DataFrame:
    """Tabulate every index of every case, for CSV."""
    parts = [index.rows.assign(data=index.data, model=index.model) for index in found]
    keys = ["data", "model", "subject", "case", "index", "unit", "true", "predicted", "difference"]
    return pd.concat(parts, ignore_index=True)[keys] if parts else pd.DataFrame(columns=keys)
