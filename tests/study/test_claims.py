"""Judge the claims of the paper on constructed results, of which the right verdict is known."""

import re

import numpy as np
import pandas as pd
import pytest
from running import BUNDLES

from medpos.data.conditions import Condition, degradations, probes, shifts
from medpos.statistics import verdict
from medpos.study import declaration

SUBJECTS, SEEDS = 16, 3


def results(levels, data="jsrt"):
    """Make the table of a study from the Dice of each model under each condition, {model: {condition: Dice}}."""
    rng = np.random.default_rng(5)
    subject = rng.normal(0, 0.02, SUBJECTS)
    rows = []
    for model, by_condition in levels.items():
        seeds = 1 if model == "mean mask" else SEEDS
        noise = {organ: rng.normal(0, 0.01, (SUBJECTS, seeds)) for organ in ("heart", "left_lung")}
        rows += [
            {
                "data": data, "model": model, "seed": k, "case": f"c{n}", "subject": f"c{n}", "split": "test",
                "degradation": c.degradation, "severity": c.severity, "shift": c.shift, "organ": organ,
                "dice": value + subject[n] + noise[organ][n, k],
            }
            for c, value in by_condition.items() for organ in noise for n in range(SUBJECTS) for k in range(seeds)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def judged(name, table, network="small", data=()):
    study = declaration.load(BUNDLES / "studies", name, network, data)
    return verdict.decide_family(verdict.evaluate_criteria(table, study.criteria, study.declared))


def words(findings, data="jsrt"):
    return {f.criterion.text: f.verdict for f in findings if f.data == data and f.criterion.role == "primary"}


CLEAN = Condition()


def test_a_claim_about_two_data_sets_is_confirmed_for_one_at_most():
    table = results({"small CNN": {CLEAN: 0.95}, "small CNN + position": {CLEAN: 0.951}, "mean mask": {CLEAN: 0.8}})
    found = judged("table1", table, data=["jsrt"])
    assert set(words(found).values()) == {"confirmed"}
    assert set(words(found, "acdc").values()) == {"not measured"}
    assert verdict.overall_verdict(found) == "confirmed for JSRT"
    both = judged("table1", pd.concat([table, table.assign(data="acdc")]))
    assert verdict.overall_verdict(both) == "confirmed"


def test_robust_means_more_than_better_than_a_collapsed_network():
    """With position 0.5 of 0.9 are left under noise, and the mean mask has 0.8: better than 0.05, but not robust."""
    noisy = [c for c in degradations() if "noise" in c.degradation]

    def under(noise, clean):
        return {CLEAN: clean, **dict.fromkeys(noisy, noise)}

    table = results(
        {"small CNN": under(0.05, 0.5), "small CNN + position": under(0.5, 0.9), "mean mask": under(0.8, 0.8)}
    )
    found = judged("figure3", table)
    assert sorted(words(found).values()) == ["confirmed", "confirmed", "contradicted", "contradicted"]
    assert verdict.overall_verdict(found) == "contradicted"
    robust = results(
        {"small CNN": under(0.05, 0.5), "small CNN + position": under(0.86, 0.9), "mean mask": under(0.8, 0.8)}
    )
    assert verdict.overall_verdict(judged("figure3", robust)) == "confirmed for JSRT"


def test_a_shift_that_helps_near_and_hurts_far_is_mixed():
    gains = {8: 0.345, 16: 0.215, 32: -0.45, 64: -0.5}
    moved = shifts(list(gains))[1:]
    without = {CLEAN: 0.8, **dict.fromkeys(moved, 0.6)}
    position = {CLEAN: 0.9, **{c: 0.6 + gains[max(abs(c.shift_x), abs(c.shift_y))] for c in moved}}
    assert np.mean(list(position.values())[1:]) < 0.6
    found = judged("figure5", results({"small CNN": without, "small CNN + position": position}))
    [first] = [f for f in found if f.data == "jsrt" and "at each distance: small CNN + position" in f.criterion.text]
    assert first.verdict == "mixed"
    assert re.fullmatch(r"inside the range: shift (32|64) px; outside: shift (8|16) px", first.note)
    assert [round(p.estimate.value, 1) for p in first.parts] == [0.3, 0.2, -0.4, -0.5]


@pytest.mark.parametrize(("loss", "expected"), [(0.02, "confirmed for JSRT"), (0.08, "contradicted")])
def test_an_equal_loss_of_every_case_is_certain(loss, expected):
    models = ("small CNN + position", "small CNN + position, channel dropout")
    table = results({model: {c: 0.9 - loss * (c != CLEAN) for c in probes()} for model in models})
    found = judged("reliance", table)
    assert verdict.overall_verdict(found) == expected
    assert all(p.estimate.ci95 == pytest.approx([-loss, -loss]) for f in found for p in f.parts)
