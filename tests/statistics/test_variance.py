"""Decompose the variance of constructed tables, and compare with statsmodels."""

import itertools

import numpy as np
import pandas as pd
import pytest

from medpos.metrics.intervals import estimate_mean
from medpos.statistics.variance import decompose, decompose_table

# Without position, and with it at two strengths: the design of figure 2.
POSITION, ALPHA = ["no", "yes", "yes"], ["", "1", "10"]
FACTORS = {"position": [p for p in POSITION for _ in range(2)], "alpha": [a for a in ALPHA for _ in range(2)]}
FACTORS["severity"] = ["1", "2"] * 3


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def by_name(terms):
    return {term.term: term for term in terms}


def frame(values, factors):
    """Tabulate values [cells, subjects, seeds], a row each."""
    rows = []
    for cell, subject, seed in itertools.product(*map(range, values.shape)):
        levels = {name: levels[cell] for name, levels in factors.items()}
        rows.append({**levels, "cell": cell, "subject": subject, "seed": seed, "dice": values[cell, subject, seed]})
    return pd.DataFrame(rows)


def test_known_components():
    """Effects without noise: +-0.2 of position, +-0.1 of subjects, +-0.05 of seeds; squares by hand."""
    signs = np.array([-1.0, 1.0])
    values = 0.5 + 0.2 * signs[:, None, None] + 0.1 * signs[None, :, None] + 0.05 * signs[None, None, :]
    found = by_name(decompose(values, {"position": ["no", "yes"]}))
    shares = {name: term.sum_of_squares for name, term in found.items()}
    assert shares == pytest.approx(
        {
            "position": 8 * 0.04,
            "subject": 8 * 0.01,
            "seed": 8 * 0.0025,
            "factors x subject": 0,
            "factors x seed": 0,
            "rest": 0,
        },
        abs=1e-12,
    )
    assert found["position"].share == pytest.approx(0.04 / 0.0525)
    assert sum(term.df for term in found.values()) == values.size - 1


def anova(values, factors, formula):
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    return anova_lm(ols(f"dice ~ {formula}", frame(values, factors)).fit(), typ=1)["sum_sq"]


def test_sums_of_squares_are_those_of_statsmodels():
    factors = {"position": ["no", "no", "yes", "yes"], "padding": ["zeros", "reflect"] * 2}
    values = noise(4, 5, 3) + noise(4, 1, 1, seed=1) + noise(1, 5, 1, seed=2)
    terms = decompose(values, factors)
    cell = "C(position):C(padding)"
    expected = anova(
        values,
        factors,
        f"C(position) * C(padding) + C(subject) + C(seed) + {cell}:C(subject) + {cell}:C(seed)",
    )
    pairs = {
        "position": "C(position)",
        "padding": "C(padding)",
        "position x padding": cell,
        "subject": "C(subject)",
        "seed": "C(seed)",
        "factors x subject": f"{cell}:C(subject)",
        "factors x seed": f"{cell}:C(seed)",
        "rest": "Residual",
    }
    assert [term.term for term in terms] == list(pairs)
    for term in terms:
        assert term.sum_of_squares == pytest.approx(expected[pairs[term.term]]), term.term
    assert sum(term.share for term in terms) == pytest.approx(1)
    assert sum(term.df for term in terms) == values.size - 1


def test_strengths_of_position_are_nested_in_it():
    """A number codes alpha within position, because statsmodels takes a nested factor for an incomplete design."""
    values = noise(6, 5, 3)
    terms = by_name(decompose(values, FACTORS))
    coded = {**FACTORS, "within": [0, 0, -1, -1, 1, 1]}
    expected = anova(values, coded, "C(position) + within + C(severity) + C(position):C(severity) + within:C(severity)")
    pairs = {
        "position": "C(position)",
        "alpha": "within",
        "severity": "C(severity)",
        "position x severity": "C(position):C(severity)",
        "alpha x severity": "within:C(severity)",
    }
    for name, other in pairs.items():
        assert terms[name].sum_of_squares == pytest.approx(expected[other]), name
        assert terms[name].df == 1


def test_factors_are_tested_as_statsmodels_tests_repeated_measures():
    from statsmodels.stats.anova import AnovaRM

    factors = {"position": ["no", "no", "yes", "yes"], "padding": ["zeros", "reflect"] * 2}
    values = noise(4, 7, 1)
    expected = AnovaRM(frame(values, factors), "dice", "subject", ["position", "padding"]).fit().anova_table
    found = by_name(decompose(values, factors))
    for name, other in (("position", "position"), ("padding", "padding"), ("position x padding", "position:padding")):
        term = found[name]
        row = expected.loc[other]
        assert (term.f, term.df, term.df_error) == pytest.approx((row["F Value"], row["Num DF"], row["Den DF"]))
        assert term.p == pytest.approx(row["Pr > F"])
    assert found["subject"].f is None  # one training can't tell subjects from chance


@pytest.mark.parametrize("sd_seed", [0.0, 2.0])
def test_two_models_have_the_square_of_their_difference_over_its_error(sd_seed):
    values = noise(2, 9, 3) + sd_seed * noise(2, 1, 3, seed=1)
    difference = estimate_mean(values[1] - values[0], range(9))
    [position, *_] = decompose(values, {"position": ["no", "yes"]})
    assert position.f == pytest.approx((difference.value / difference.se) ** 2)


def test_a_factor_without_effect_is_rarely_significant():
    """Effects differ between subjects and between trainings, which a residual as denominator would miss."""
    tested = []
    for n in range(300):
        values = noise(2, 12, 4, seed=n) + noise(2, 12, 1, seed=1000 + n) + noise(2, 1, 4, seed=2000 + n)
        tested.append(decompose(values, {"position": ["no", "yes"]})[0].p)
    assert np.mean(np.array(tested) < 0.05) < 0.1


def long_table(values, subjects):
    """Tabulate the Dice [models, severities, cases, seeds] of one organ."""
    rows = []
    for model, severity, case, seed in itertools.product(*map(range, values.shape)):
        about = {"data": "jsrt", "model": f"m{model}", "seed": seed, "case": case, "subject": subjects[case]}
        condition = {"degradation": "gaussian_noise" if severity else "none", "severity": severity, "shift": "0"}
        rows.append({**about, **condition, "organ": "heart", "dice": values[model, severity, case, seed]})
    return pd.DataFrame(rows)


def test_each_kind_of_condition_is_decomposed_and_incomplete_subjects_are_left_out():
    values = noise(2, 3, 8, 2)
    values[1, 2, 0, 1] = np.nan
    # Two cases a subject; the first subject still has its other case, the second has none.
    values[0, 1, 2:4, 0] = np.nan
    table = long_table(values, np.repeat(range(4), 2))
    found = decompose_table(table, {"position": {"m0": "no", "m1": "yes"}})
    assert list(dict.fromkeys(found["conditions"])) == ["clean", "Gaussian noise"]
    noisy = found[found["conditions"] == "Gaussian noise"]
    assert list(noisy["term"])[:3] == ["position", "severity", "position x severity"]
    assert set(noisy["subjects"]) == {3}
    assert set(noisy["left_out"]) == {1}
    clean = found[found["conditions"] == "clean"]
    means = values[:, 0].reshape(2, 4, 2, 2).mean(axis=2)
    [position, *_] = decompose(means, {"position": ["no", "yes"]})
    assert clean.iloc[0]["sum_of_squares"] == pytest.approx(position.sum_of_squares)
    assert "severity" not in set(clean["term"])


def test_a_data_set_without_one_of_the_models_has_no_rows():
    table = long_table(noise(2, 1, 4, 2), range(4))
    assert decompose_table(table, {"position": {"m0": "no", "m2": "yes"}}).empty
