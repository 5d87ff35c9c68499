"""Check criteria on tables made by hand: matching, parts, families, and what was not measured."""

import math
from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest

from medpos.core.errors import InputError
from medpos.metrics.intervals import Estimate, estimate_mean
from medpos.statistics import verdict
from medpos.statistics.criteria import Criterion
from medpos.statistics.judging import Part
from medpos.statistics.power import power_to_confirm

SUBJECTS = 12
CLEAN, NOISE = ("none", 0, "0"), "gaussian_noise"


def rows(model, dice, condition=CLEAN, data="jsrt", organ="heart"):
    """Make rows from values [case, seed]."""
    return [
        {
            "data": data,
            "model": model,
            "seed": seed,
            "case": f"c{n}",
            "subject": f"c{n}",
            "split": "test",
            **dict(zip(("degradation", "severity", "shift"), condition, strict=True)),
            "organ": organ,
            "dice": float(value),
        }
        for n, by_seed in enumerate(np.asarray(dice, float).reshape(len(dice), -1))
        for seed, value in enumerate(by_seed)
    ]


def table(*parts):
    return pd.DataFrame([row for part in parts for row in part])


def spread(mean, seeds=1, seed=0, sd=0.01):
    """Draw values [case, seed] with exactly this mean."""
    values = np.random.default_rng(seed).normal(0, sd, (SUBJECTS, seeds))
    return values - values.mean() + mean


def measure(whole, *criteria, data=("jsrt",)):
    found = [Criterion.from_json({"text": "t", **criterion}) for criterion in criteria]
    return verdict.decide_family(verdict.evaluate_criteria(whole, found, data))


def only(whole, **criterion):
    [finding] = measure(whole, criterion)
    return finding


def test_a_criterion_may_be_about_the_probabilities():
    """Of two networks of the same Dice one expects 0.2 more of itself."""
    whole = table(rows("a", spread(0.6)), rows("b", spread(0.6)))
    sure = {"model": "a", "minus": "b", "at_least": 0.0, "measure": "overconfidence"}
    assert only(whole, **sure).note == "no overconfidence was measured"
    whole["overconfidence"] = np.concatenate([spread(0.3, seed=1), spread(0.1, seed=2)]).ravel()
    found = only(whole, **sure)
    assert found.verdict == "confirmed"
    assert found.parts[0].estimate.value == pytest.approx(0.2)
    assert only(whole, **{**sure, "measure": "dice"}).parts[0].estimate.value == pytest.approx(0)
    whole["overconfidence"] = math.nan
    assert only(whole, **sure).verdict == "not measured"


def test_conditions_count_where_enough_dice_is_lost():
    """The lights ring for 9 of 12 images where the network fails, and for none where it doesn't."""
    strong, weak = (NOISE, 5, "0"), (NOISE, 1, "0")
    whole = table(rows("a", spread(0.8)), rows("a", spread(0.79), weak), rows("a", spread(0.5), strong))
    whole["dice_lost"] = 0.8 - whole["dice"]
    whole["alarm"] = [*[0.0] * SUBJECTS * 2, *[1.0] * 9, *[0.0] * 3]
    rings = {"model": "a", "measure": "alarm", "conditions": "changed", "at_least": 0.3, "margin": 0.1}
    found = only(whole, **rings, min_dice_lost=0.1)
    assert [(part.label, part.estimate.value) for part in found.parts] == [("Gaussian noise, severity 5", 0.75)]
    assert (found.verdict, found.organs) == ("confirmed", ())
    assert [part.estimate.value for part in only(whole, **rings).parts] == [0, 0.75]
    nowhere = only(whole, **rings, min_dice_lost=0.4)
    assert (nowhere.verdict, nowhere.note) == ("not measured", "no condition loses 0.4 of Dice")
    quiet = only(whole, model="a", measure="alarm", at_most=0.15, margin=0.1)
    assert quiet.parts[0].estimate.value == 0
    assert quiet.verdict == "undecided"  # of 12 images none rings, but one in five might
    lost = only(whole, model="a", measure="dice_lost", conditions="noise", at_least=0.2, margin=0.1)
    assert [round(part.estimate.value, 6) for part in lost.parts] == [0.01, 0.3]
    assert lost.verdict == "mixed"


class TestMatching:
    def test_a_change_within_a_network_is_matched_seed_by_seed(self):
        """Every case loses exactly 0.02, while the seeds differ by 0.2: nothing is uncertain."""
        level = np.linspace(0.4, 0.9, SUBJECTS)[:, None] + np.array([-0.1, 0, 0.1])
        whole = table(rows("a", level), rows("a", level - 0.02, (NOISE, 1, "0")))
        found = only(whole, model="a", conditions="noise", minus_conditions="clean", at_least=-0.05)
        [part] = found.parts
        assert part.estimate.ci95 == pytest.approx([-0.02, -0.02])
        assert found.verdict == "confirmed"
        assert part.estimate.seeds == 3

    def test_an_organ_that_one_model_lacks_shifts_nothing(self):
        """b is worse by 0.10 wherever both have a value; where it alone has the easy organ, it must not gain."""
        hard, easy = np.full(SUBJECTS, 0.3), np.full(SUBJECTS, 0.9)
        nothing = np.full(SUBJECTS, math.nan)
        whole = table(
            rows("a", hard + 0.1, organ="heart"),
            rows("a", nothing, organ="lung"),
            rows("b", hard, organ="heart"),
            rows("b", easy, organ="lung"),
        )
        found = only(whole, model="b", minus="a", at_most=0.0)
        assert found.parts[0].estimate.value == pytest.approx(-0.1)
        assert found.verdict == "confirmed"
        assert (found.left_out.only_a, found.left_out.only_b) == (SUBJECTS, 0)
        assert found.to_json()["left_out"] == {"only_a": 12, "only_b": 0, "infinite": 0, "seeds_a": 0, "seeds_b": 0}

    def test_an_organ_that_is_missing_under_one_condition_shifts_nothing(self):
        clean, noisy = np.full(SUBJECTS, 0.5), np.full(SUBJECTS, 0.4)
        whole = table(
            rows("a", clean, organ="heart"),
            rows("a", np.full(SUBJECTS, 0.9), organ="lung"),
            rows("a", noisy, (NOISE, 1, "0"), organ="heart"),
            rows("a", np.full(SUBJECTS, math.nan), (NOISE, 1, "0"), organ="lung"),
        )
        found = only(whole, model="a", conditions="noise", minus_conditions="clean", at_most=0.0)
        assert found.parts[0].estimate.value == pytest.approx(-0.1)
        assert dict(found.organs)["lung"].value is None

    def test_only_common_seeds_are_matched_and_the_others_are_counted(self):
        whole = table(rows("a", spread(0.8, 5)), rows("b", spread(0.5, 3, seed=1)))
        found = only(whole, model="a", minus="b", at_least=0.0)
        assert (found.parts[0].estimate.seeds, found.left_out.seeds_a, found.left_out.seeds_b) == (3, 2, 0)
        expected = spread(0.8, 5)[:, :3] - spread(0.5, 3, seed=1)
        assert astuple(found.parts[0].estimate) == pytest.approx(astuple(estimate_mean(expected, range(SUBJECTS))))

    def test_a_single_training_is_matched_with_every_seed(self):
        whole = table(rows("a", spread(0.8, 3)), rows("mean mask", spread(0.5, 1, seed=1)))
        found = only(whole, model="a", minus="mean mask", at_least=0.0)
        assert (found.parts[0].estimate.seeds, found.left_out.seeds_a) == (3, 0)


class TestParts:
    def shifted(self, gains, **criterion):
        """Model a gains this much over b at each shift to the right."""
        parts = [rows(m, spread(0.8, seed=n)) for n, m in enumerate("ab")]
        for pixels, gain in gains.items():
            parts += [
                rows("a", spread(0.5 + gain, seed=pixels), ("none", 0, f"x+{pixels}")),
                rows("b", spread(0.5, seed=pixels + 1), ("none", 0, f"x+{pixels}")),
            ]
        return only(table(*parts), model="a", minus="b", conditions="shifted", at_most=0.0, **criterion)

    GAINS = {8: 0.345, 16: 0.215, 32: -0.4, 64: -0.5}  # noqa: RUF012

    @pytest.mark.parametrize("judge", ["each", "dose", "mean"])
    def test_a_reversal_makes_the_verdict_mixed(self, judge):
        assert sum(self.GAINS.values()) < 0
        found = self.shifted(self.GAINS, judge=judge)
        assert found.verdict == "mixed"
        assert "range" in found.note or "above and below zero" in found.note

    def test_an_average_reports_its_conditions(self):
        found = self.shifted(self.GAINS, judge="mean")
        [part] = found.to_json()["parts"]
        assert part["is_reversed"]
        assert {c["label"]: round(c["value"], 3) for c in part["conditions"]} == {
            "shifted 8 px right": 0.345,
            "shifted 16 px right": 0.215,
            "shifted 32 px right": -0.4,
            "shifted 64 px right": -0.5,
        }

    def test_inside_and_outside_are_mixed_only_after_correction(self):
        """Outside by an uncorrected p of 0.04, or inside by one: what remains is undecided, or contradicted."""
        clear, edge = 0.05, 0.012
        (inside,), (outside,) = ([self.shifted({8: g}).p for g in (sign * edge,)] for sign in (-1, 1))
        assert 0.03 < inside < 0.05
        assert 0.03 < outside < 0.05
        assert self.shifted({8: -clear, 16: edge}).verdict == "undecided"
        assert self.shifted({8: -edge, 16: clear}).verdict == "contradicted"
        assert self.shifted({8: -clear, 16: clear}).verdict == "mixed"

    def test_an_average_without_a_reversal_is_confirmed(self):
        assert self.shifted(dict.fromkeys(self.GAINS, -0.1), judge="mean").verdict == "confirmed"

    def test_each_condition_must_lie_inside(self):
        found = self.shifted({8: 0.0, 16: -0.1, 32: -0.2})
        assert found.verdict == "undecided"
        assert found.parts[found.decisive].label == "shifted 8 px right"
        assert [round(p.estimate.value, 6) for p in found.parts] == [0, -0.1, -0.2]

    def test_a_dose_averages_its_directions(self):
        parts = []
        for direction, loss in (("x+8", 0.1), ("x-8", 0.3), ("y+16", 0.2)):
            parts.append(rows("a", spread(0.8 - loss, seed=1), ("none", 0, direction)))
        whole = table(rows("a", spread(0.8, seed=1)), *parts)
        about = {"conditions": "shifted", "minus_conditions": "clean", "at_most": 0.0}
        found = only(whole, model="a", judge="dose", **about)
        assert [(p.label, round(p.estimate.value, 6)) for p in found.parts] == [
            ("shift 8 px", -0.2),
            ("shifted 16 px down", -0.2),
        ]

    def test_a_slope_is_that_of_least_squares(self):
        levels = {0: 0.9, 1: 0.8, 2: 0.6, 3: 0.5}
        whole = table(*(rows("a", spread(v, seed=n), (NOISE if n else "none", n, "0")) for n, v in levels.items()))
        [part] = only(whole, model="a", conditions="noise", judge="slope", at_most=-0.05).parts
        assert part.estimate.value == pytest.approx(np.polyfit(list(levels), list(levels.values()), 1)[0])
        by_case = [
            np.polyfit(range(4), [spread(v, seed=n)[case, 0] for n, v in levels.items()], 1)[0]
            for case in range(SUBJECTS)
        ]
        assert part.estimate.se == pytest.approx(np.std(by_case, ddof=1) / SUBJECTS**0.5)

    def test_an_area_is_relative_to_the_clean_value(self):
        """The curve 1, 0.5, 0 times a clean Dice of 0.8 has half of its area, with or without the factor."""
        clean = spread(0.8)
        whole = table(
            rows("a", clean), rows("a", clean / 2, (NOISE, 1, "0")), rows("a", clean * 0, (NOISE, 2, "0")),
            rows("b", clean), rows("b", clean, (NOISE, 1, "0")), rows("b", clean, (NOISE, 2, "0")),
        )  # fmt: skip
        area = {"conditions": "noise", "judge": "area", "at_least": 0.4}
        [part] = only(whole, model="a", **area).parts
        assert part.estimate.value == pytest.approx(0.5)
        assert part.estimate.se == pytest.approx(0, abs=1e-9)
        [part] = only(whole, model="b", minus="a", **area).parts
        assert part.estimate.value == pytest.approx(0.5)

    def test_an_area_has_the_standard_error_of_the_jackknife(self):
        rng = np.random.default_rng(3)
        clean, noisy = rng.uniform(0.5, 0.9, 40), rng.uniform(0.2, 0.5, 40)
        whole = table(rows("a", clean), rows("a", noisy, (NOISE, 1, "0")))
        [part] = only(whole, model="a", conditions="noise", judge="area", at_least=0.0).parts
        height = (clean + noisy) / 2
        left = [np.delete(height, n).sum() / np.delete(clean, n).sum() for n in range(40)]
        assert part.estimate.value == pytest.approx(height.sum() / clean.sum())
        assert part.estimate.se == pytest.approx(math.sqrt(39 / 40 * np.sum((left - np.mean(left)) ** 2)), rel=0.05)

    def test_position_probes_have_their_distance_as_dose(self):
        whole = table(
            rows("a", spread(0.8)),
            rows("a", spread(0.7), ("position_shifted_x", 2, "0")),
            rows("a", spread(0.6), ("position_shifted_y", 2, "0")),
        )
        about = {"conditions": ["position_shifted_x", "position_shifted_y"], "minus_conditions": "clean"}
        [part] = only(whole, model="a", judge="dose", at_least=-0.05, **about).parts
        assert (part.label, [name for name, _ in part.conditions]) == (
            "position shifted 16 px",
            ["position shifted x 16 px", "position shifted y 16 px"],
        )


class TestNotMeasured:
    WHOLE = table(rows("a", spread(0.8)), rows("b", spread(0.5, seed=1)))

    @pytest.mark.parametrize(
        ("criterion", "why"),
        [
            ({"model": "c", "minus": "a"}, "no result of c"),
            ({"model": "a", "conditions": "noise", "minus_conditions": "clean"}, "not tested"),
            ({"model": "a", "organ": "liver"}, "not tested"),
        ],
    )
    def test_a_model_or_condition_is_missing(self, criterion, why):
        found = only(self.WHOLE, at_least=0.0, **criterion)
        assert (found.verdict, found.p, found.p_holm, found.power) == ("not measured", None, None, None)
        assert why in found.note
        assert found.to_json()["value"] is None

    def test_a_data_set_that_was_not_run_does_not_vanish(self):
        found = measure(self.WHOLE, {"model": "a", "minus": "b", "at_least": 0.0}, data=("jsrt", "acdc"))
        assert [(f.data, f.verdict) for f in found] == [("jsrt", "confirmed"), ("acdc", "not measured")]
        assert verdict.overall_verdict(found) == "confirmed for JSRT"

    def test_a_criterion_for_the_other_data_set_limits_the_claim(self):
        criteria = [
            {"model": "a", "minus": "b", "at_least": 0.0, "data": "jsrt"},
            {"model": "a", "minus": "b", "at_least": 0.0, "data": "acdc"},
        ]
        assert verdict.overall_verdict(measure(self.WHOLE, *criteria, data=("jsrt", "acdc"))) == "confirmed for JSRT"

    def test_no_row_at_all(self):
        empty = self.WHOLE.iloc[:0]
        assert verdict.overall_verdict(measure(empty, {"model": "a", "at_least": 0.0})) == "not measured"

    def test_a_condition_that_the_other_model_lacks_is_not_measured(self):
        whole = pd.concat([self.WHOLE, table(rows("a", spread(0.6), (NOISE, 1, "0")))])
        found = only(whole, model="a", minus="b", conditions="noise", at_least=0.0)
        assert found.verdict == "not measured"


class TestFamily:
    def gains(self, *gains):
        """Make pairs of models with these gains and a standard error of about 0.01."""
        parts = [rows(f"a{n}", spread(0.5 + gain, seed=n, sd=0.035)) for n, gain in enumerate(gains)]
        return table(*parts, rows("b", np.full(SUBJECTS, 0.5)))

    def criterion(self, n, **more):
        return {"model": f"a{n}", "minus": "b", "at_least": 0.0, "margin": 0.02, **more}

    def test_the_correction_runs_over_the_primary_criteria_alone(self):
        whole = self.gains(0.028, 0.03, 0.001, 0.002)
        alone = measure(whole, self.criterion(0), self.criterion(1))
        [first, second] = alone
        assert first.p_holm == pytest.approx(max(2 * min(first.p, second.p), first.p))
        more = [self.criterion(n, role="exploratory") for n in (2, 3)] * 20
        found = measure(whole, self.criterion(0), self.criterion(1), *more)
        assert [f.p_holm for f in found[:2]] == [f.p_holm for f in alone]
        assert {(f.verdict, f.p, f.p_holm, f.power) for f in found[2:]} == {("exploratory", None, None, None)}
        assert found[2].to_json()["ci95"] is not None
        assert verdict.overall_verdict(found) == "confirmed"

    def test_the_correction_can_undo_a_verdict(self):
        whole = self.gains(0.025, *[0.001] * 11)
        assert only(whole, **self.criterion(0)).verdict == "confirmed"
        found = measure(whole, *(self.criterion(n) for n in range(12)))
        assert found[0].verdict == "undecided"

    def test_a_data_set_that_was_not_run_belongs_to_the_family(self):
        [here, _] = measure(self.gains(0.03), self.criterion(0), data=("jsrt", "acdc"))
        assert here.p_holm == pytest.approx(2 * here.p)

    def test_conditions_of_a_criterion_need_no_correction(self):
        """All must lie inside, so the criterion has the largest p of its parts (an intersection-union test)."""
        part = [rows("a", spread(0.5 + g, seed=n), (NOISE, n, "0")) for n, g in enumerate((0.1, 0.01, 0.2), 1)]
        whole = table(*part, *(rows("b", np.full(SUBJECTS, 0.5), (NOISE, n, "0")) for n in (1, 2, 3)))
        found = only(whole, model="a", minus="b", conditions="noise", at_least=0.0)
        assert found.p == pytest.approx(max(2 * p.estimate.p_above(0) for p in found.parts))
        assert found.parts[found.decisive].label == "Gaussian noise, severity 2"

    def test_power_for_the_margin(self):
        few = only(self.gains(0.0), **self.criterion(0))
        many = only(self.gains(0.0), **self.criterion(0, margin=0.06))
        assert few.power < 0.7 < 0.95 < many.power
        corrected = measure(self.gains(0.0, 0.0), self.criterion(0), self.criterion(1))
        assert corrected[0].power < few.power
        assert only(self.gains(0.0), **self.criterion(0, margin=None)).power is None

    def test_equivalence_states_its_power(self):
        """Eight images with a true difference of zero confirm a margin of 0.03 in less than half of all studies."""
        rng = np.random.default_rng(0)
        found = []
        for _ in range(200):
            part = Part("clean", estimate_mean(rng.normal(0, 0.033, (8, 1)), range(8)), 8)
            about = Criterion("t", model="a", low=-0.03, high=0.03)
            found.append(verdict.decide_family([verdict.weigh_parts("jsrt", about, [part])])[0])
        share = np.mean([f.verdict == "confirmed" for f in found])
        assert share == pytest.approx(power_to_confirm(0.033 / math.sqrt(8), 7, -0.03, 0.03, 0.0), abs=0.06)
        of_first = found[0].parts[0].estimate
        assert found[0].power == power_to_confirm(of_first.se, of_first.df, -0.03, 0.03, 0.0)
        assert 0.2 < share < 0.5


def finding(word, data="jsrt", role="primary"):
    return verdict.Finding(data, Criterion("t", model="a", low=0.0, role=role), word)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("confirmed", "confirmed"), "confirmed"),
        (("confirmed", "undecided"), "undecided"),
        (("confirmed", "not measured"), "undecided"),
        (("confirmed", "mixed", "undecided"), "mixed"),
        (("confirmed", "contradicted", "mixed"), "contradicted"),
        (("not measured", "not measured"), "not measured"),
        ((), "not measured"),
    ],
)
def test_overall(words, found):
    assert verdict.overall_verdict([finding(word) for word in words]) == found


def test_exploratory_findings_decide_nothing():
    found = [finding("confirmed"), finding("exploratory", role="exploratory")]
    assert verdict.overall_verdict([*found, finding("not measured", "acdc", "exploratory")]) == "confirmed"


@pytest.mark.parametrize(
    ("value", "se", "found"),
    [(0.1, 0.01, "confirmed"), (-0.1, 0.01, "contradicted"), (0.01, 0.01, "undecided"), (0.1, None, "undecided")],
)
def test_the_interval_decides(value, se, found):
    part = Part("clean", Estimate(value, se, None if se is None else 20.0, 21, 1), 21)
    [decided] = verdict.decide_family([verdict.weigh_parts("jsrt", Criterion("t", model="a", low=0.0), [part])])
    assert decided.verdict == found
    if se is not None:
        assert (decided.p < 0.05) == (not part.estimate.ci95[0] < 0 < part.estimate.ci95[1])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "no case has a value: everywhere"),
        (["shift 64 px"], "no case has a value: shift 64 px"),
        ([f"shift {n} px" for n in range(5)], "no case has a value: shift 0 px, shift 1 px, shift 2 px and 2 more"),
    ],
)
def test_a_criterion_without_a_value_under_a_condition_names_it(labels, words):
    known = Part("clean", Estimate(0.1, 0.01, 20.0, 21, 1), 21)
    parts = [known, *(Part(label, Estimate(None, None, None, 0, 0), 0) for label in labels)] if labels else []
    found = verdict.weigh_parts("jsrt", Criterion("t", model="a", low=0.0), parts)
    assert (found.verdict, found.note) == ("not measured", words)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "expected a range, got none"),
        ({"at_least": 0, "conditions": "fog"}, "expected clean, noise"),
        ({"at_least": 0, "judge": "median"}, "judge: expected each, dose, mean, slope, area, got 'median'"),
        ({"at_least": 10**400}, "expected a number, got 1000"),
        ({"at_least": 0, "role": "main"}, "role: expected primary, exploratory"),
        ({"at_least": 0, "margins": 1}, "remove margins"),
    ],
)
def test_a_wrong_criterion_is_refused(entry, words):
    with pytest.raises(InputError, match=words):
        Criterion.from_json({"text": "t", "model": "a", **entry})


def test_several_reference_conditions_are_refused():
    whole = table(
        rows("a", spread(0.8)), rows("a", spread(0.7), (NOISE, 1, "0")), rows("a", spread(0.6), (NOISE, 2, "0"))
    )
    with pytest.raises(InputError, match="expected one condition such as clean, got 2"):
        only(whole, model="a", minus_conditions="noise", at_least=0.0)
