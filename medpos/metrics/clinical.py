"""Clinical indices, and how well predicted ones agree with the true ones (stand-in until the real module is merged)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medpos.cases import CaseView
from medpos.labels import Label


def indices(cases: Sequence[CaseView], labels: Sequence[Label]) -> list[dict[str, Any]]:
    """Volume (mL) or area (cm2) of every organ in every case."""
    rows = []
    for case in cases:
        unit, scale = ("mL", 1e-3) if case.truth.ndim == 3 else ("cm²", 1e-2)
        pixel = float(np.prod(case.spacing_mm)) * scale
        for label in labels[1:]:
            true, predicted = (float((part == label.index).sum()) * pixel for part in (case.truth, case.prediction))
            index = f"{label.title} {'volume' if case.truth.ndim == 3 else 'area'} {case.phase}".strip()
            rows.append(
                {
                    "subject": case.subject,
                    "case": case.case,
                    "index": index,
                    "unit": unit,
                    "true": true,
                    "predicted": predicted,
                }
            )
    return rows


def agreement(true: Sequence[float], predicted: Sequence[float]) -> dict[str, Any]:
    """Bias, limits of agreement and correlation."""
    one, other = np.asarray(true, float), np.asarray(predicted, float)
    difference = other - one
    bias, sd = float(difference.mean()), float(difference.std(ddof=1)) if one.size > 1 else 0.0
    varied = one.size > 1 and one.std() > 0 and other.std() > 0
    return {
        "n": int(one.size),
        "bias": bias,
        "sd": sd,
        "lower": bias - 1.96 * sd,
        "upper": bias + 1.96 * sd,
        "correlation": float(np.corrcoef(one, other)[0, 1]) if varied else None,
    }
