"""Fit a mixed model with random subjects and seeds: the second analysis of a criterion, by another estimator.

Where every subject has a value at every seed, its estimate is that of :mod:`medpos.metrics.intervals`, because the mean
squares then are the solution of restricted maximum likelihood, as long as none is negative. Where values are missing,
it weighs them by their information. Its interval uses the normal distribution and is too narrow for few subjects or
seeds, so it doesn't decide. It needs statsmodels (``pip install 'medpos[statistics]'``), which is an extra because it
takes 67 MB and no verdict depends on it.
"""

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats


@dataclass(frozen=True)
class Mixed:
    """Hold the estimates of a mixed model.

    Args:
        value: mean, the fixed effect.
        se: its standard error.
        ci95: bounds of its 95 % interval (normal distribution).
        sd_subject: standard deviation of the subjects' effects.
        sd_seed: standard deviation of the seeds' effects; None for one seed.
        sd_rest: standard deviation of the rest.
    """

    value: float
    se: float
    ci95: tuple[float, float]
    sd_subject: float
    sd_seed: float | None
    sd_rest: float


def fit_mixed(values: npt.ArrayLike, subjects: Sequence[Hashable] | npt.NDArray[np.intp]) -> Mixed | None:
    """Fit a mean with crossed random effects of subjects and seeds by restricted maximum likelihood.

    Args:
        values: value of each case and seed, [cases, seeds]; those that aren't finite are left out.
        subjects: subject of each case.

    Returns:
        The estimates. None without statsmodels, where there are fewer than three subjects or no replicates, where all
        values are equal, or where the fit doesn't converge.

    Reference:
        S. Seabold and J. Perktold, "statsmodels: Econometric and statistical modeling with Python", SciPy 2010.
    """
    array = np.asarray(values, np.float64)
    case, seed = np.nonzero(np.isfinite(array))
    names = pd.factorize(np.asarray(subjects))[0]
    frame = pd.DataFrame({"value": array[case, seed], "subject": names[case], "seed": seed, "whole": 0})
    count, seeds = frame["subject"].nunique(), frame["seed"].nunique()
    if find_spec("statsmodels") is None or count < 3 or len(frame) <= count or np.ptp(frame["value"]) < 1e-9:
        return None
    from statsmodels.regression.mixed_linear_model import MixedLM  # it takes a second to import

    effects = {"subject": "0 + C(subject)"} | ({"seed": "0 + C(seed)"} if seeds > 1 else {})
    scale = float(frame["value"].std())  # the optimizer's tolerances are absolute
    model = MixedLM.from_formula(
        "value ~ 1", frame.assign(value=frame["value"] / scale), groups="whole", vc_formula=effects, re_formula="0"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a variance of zero, at the end of its range, is a fit too
        fitted = model.fit(reml=True)
    if not fitted.converged:
        return None
    value, se = float(fitted.fe_params.iloc[0]) * scale, float(fitted.bse_fe.iloc[0]) * scale
    half = float(stats.norm.ppf(0.975)) * se
    sds = {name: float(np.sqrt(part)) * scale for name, part in zip(sorted(effects), fitted.vcomp, strict=True)}
    rest = float(np.sqrt(fitted.scale)) * scale
    return Mixed(value, se, (value - half, value + half), sds["subject"], sds.get("seed"), rest)
