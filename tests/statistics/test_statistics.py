"""Check the statistics of a study by hand, against second implementations of their definitions, and their speed."""

import itertools
import math
import time

import numpy as np
import pandas as pd
import pytest

from medpos.core.errors import InputError
from medpos.core.labels import MEAN_OF_ORGANS
from medpos.metrics.intervals import estimate_mean
from medpos.statistics.effects import adjust_primary, compare_models, summarize_over_seeds
from medpos.statistics.paired import holm, signed_rank, smallest_p


def long_table(values, organs=("heart",), data="jsrt", conditions=(("none", 0, "0"),), per_subject=1, metric="dice"):
    """Make rows from {model: [condition][organ][case][seed]}."""
    return pd.DataFrame(
        {
            "data": data,
            "model": model,
            "seed": k,
            "case": f"c{n:03}",
            "subject": f"s{n // per_subject:03}",
            "split": "test",
            **dict(zip(("degradation", "severity", "shift"), condition, strict=True)),
            "organ": organ,
            metric: float(value),
        }
        for model, nested in values.items()
        for condition, by_organ in zip(conditions, nested, strict=True)
        for organ, by_case in zip(organs, by_organ, strict=True)
        for n, by_seed in enumerate(by_case)
        for k, value in enumerate(by_seed)
    )


def row(frame, **where):
    for name, value in where.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


class TestSignedRank:
    def test_by_hand(self):
        # Differences 1, 2, 3, 4, 5, -6: rank sums 15 and 6. Of the 64 signs as many as 28 give 6 or less, or 15 or
        # more: the distinct subsets of 1..6 with sum 0 to 6 are 1+1+1+2+2+3+4 = 14, twice that by symmetry.
        p, effect_size = signed_rank([1, 2, 3, 4, 5, -6])
        assert p == pytest.approx(28 / 64)
        assert effect_size == pytest.approx((15 - 6) / 21)

    def test_ties_survive_rounding(self):
        # 0.3 - 0.2 and 0.2 - 0.1 differ in the last bit: ranks 1.5, 1.5 and 3.
        _, effect_size = signed_rank([0.3 - 0.2, 0.1 - 0.2, 0.9 - 0.5])
        assert effect_size == pytest.approx((1.5 - 1.5 + 3) / 6)

    def test_too_few_or_no_difference(self):
        assert signed_rank([1, 2, 3, 4, 5]) == (None, 1)
        assert signed_rank(np.zeros(25)) == (None, None)
        assert signed_rank([]) == (None, None)

    @pytest.mark.parametrize("seed", range(10))
    def test_wilcoxon_by_enumeration(self, seed):
        differences = np.random.default_rng(seed).normal(0.3, 1, 9)
        ranks = np.abs(differences).argsort().argsort() + 1
        center = ranks.sum() / 2
        found = abs(ranks[differences > 0].sum() - center)
        sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=9)]
        expected = np.mean([abs(s - center) >= found for s in sums])
        p, effect_size = signed_rank(differences)
        assert p == pytest.approx(expected)
        assert signed_rank(-differences) == (p, pytest.approx(-effect_size))

    @pytest.mark.parametrize("subjects", [6, 8, 16])
    def test_the_smallest_p(self, subjects):
        assert signed_rank(np.arange(1, subjects + 1))[0] == pytest.approx(smallest_p(subjects))


class TestHolm:
    def test_by_hand(self):
        # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, which must not fall below 0.06.
        assert holm([0.04, 0.01, None, 0.03, 0.02]) == pytest.approx([0.06, 0.04, None, 0.06, 0.06])

    def test_at_most_one(self):
        assert holm([0.9, 0.6]) == [1, 1]

    def test_no_test(self):
        assert holm([]) == []
        assert holm([None, math.nan]) == [None, None]

    @pytest.mark.parametrize("seed", range(10))
    def test_closed_bonferroni(self, seed):
        """Compare Holm with the closure of Bonferroni: the maximum over all families with the hypothesis."""
        p = np.random.default_rng(seed).uniform(0, 0.3, 6)
        families = [f for size in range(1, 7) for f in itertools.combinations(range(6), size)]
        expected = [max(min(1, len(f) * min(p[list(f)])) for f in families if i in f) for i in range(6)]
        assert holm(p.tolist()) == pytest.approx(expected)

    def test_no_probability(self):
        with pytest.raises(InputError, match="0 to 1"):
            holm([0.5, 1.5])


class TestCompare:
    def test_by_hand(self):
        # One condition, organs heart and lung, three cases, two seeds of a, one of b, which stands beside both.
        a = [[[[0.8, 1.0], [0.6, 0.6], [0.4, 0.6]], [[0.5, 0.7], [0.4, 0.4], [1.0, 1.0]]]]
        b = [[[[0.7], [0.7], [math.nan]], [[0.4], [0.4], [0.8]]]]
        frame = compare_models(long_table({"a": a, "b": b}, ("heart", "lung")), "a", "b")
        assert frame["organ"].tolist() == ["heart", "lung", MEAN_OF_ORGANS]
        heart, lung, mean = (frame.iloc[n] for n in range(3))
        # Heart: a 0.9, 0.6 against b 0.7, 0.7; the third case is missing in b.
        assert (heart.n, heart.missing, heart.seeds_a, heart.seeds_b) == (2, 1, 2, 1)
        assert (heart.mean_a, heart.mean_b, heart.mean_difference) == pytest.approx((0.75, 0.7, 0.05))
        assert heart.effect_size == pytest.approx((2 - 1) / 3)
        assert (heart.only_a, heart.only_b) == (2, 0)
        # Lung: a 0.6, 0.4, 1.0 against 0.4, 0.4, 0.8.
        assert (lung.n, lung.mean_difference, lung.effect_size) == (3, pytest.approx(0.4 / 3), 1)
        # Mean of the organs that both have: differences 0.2, -0.05 and, of the lung alone, 0.2.
        assert (mean.n, mean.missing, mean.mean_difference) == (3, 0, pytest.approx((0.2 - 0.05 + 0.2) / 3))
        assert np.isnan(mean.p)
        assert frame["small"].all()

    def test_the_interval_is_that_of_the_matched_differences(self):
        rng = np.random.default_rng(3)
        values = {"a": rng.uniform(0.5, 1, (2, 2, 10, 3)), "b": rng.uniform(0.4, 1, (2, 2, 10, 3))}
        conditions = (("none", 0, "0"), ("none", 0, "x+8"))
        frame = compare_models(long_table(values, ("heart", "lung"), conditions=conditions), "a", "b")
        assert len(frame) == 6
        found = row(frame, shift="x+8", organ=MEAN_OF_ORGANS)
        differences = (values["a"] - values["b"])[1].mean(axis=0)
        expected = estimate_mean(differences, range(10))
        assert [found.mean_difference, found.ci95_low, found.ci95_high] == pytest.approx(
            [expected.value, *expected.ci95]
        )
        assert (found.p, found.effect_size) == pytest.approx(signed_rank(differences.mean(axis=1)))

    def test_the_primary_comparisons_are_one_family(self):
        rng = np.random.default_rng(4)
        parts = []
        for data in ("jsrt", "acdc"):
            values = {m: rng.uniform(0.5, 1, (1, 2, 10, 1)) for m in "abc"}
            whole = long_table(values, ("heart", "lung"), data)
            parts += [compare_models(whole, "a", other).assign(b=other) for other in "bc"]
        frame = pd.concat(parts, ignore_index=True)
        is_primary = frame["organ"] == MEAN_OF_ORGANS
        found = adjust_primary(frame, is_primary)
        assert found["p_holm"][is_primary].tolist() == pytest.approx(holm(frame["p"][is_primary].tolist()))
        assert found[["p", "p_holm"]][~is_primary].isna().all(axis=None)
        assert (found["tests"] == 4).all()
        assert found["ci95_low"].notna().all()

    def test_different_seeds_are_averaged(self):
        table = pd.concat([long_table({"a": [[[[1, 3], [2, 4]]]]}), long_table({"b": [[[[1, 1], [0, 2]]]]})])
        table.loc[table["model"] == "b", "seed"] += 5
        found = row(compare_models(table, "a", "b"), organ="heart")
        assert (found.mean_difference, found.n, found.only_a) == (1.5, 2, 0)

    def test_case_of_one_model_is_missing(self):
        table = long_table({"a": [[[[1], [2], [3]]]], "b": [[[[1], [1], [1]]]]})
        table = table[~((table["model"] == "b") & (table["case"] == "c002"))]
        frame = compare_models(table, "a", "b")
        assert (frame["n"].tolist(), frame["missing"].tolist(), frame["only_a"].tolist()) == ([2, 2], [1, 1], [1, 1])

    def test_condition_of_one_model_is_left_out(self):
        conditions = (("none", 0, "0"), ("gaussian_blur", 1, "0"))
        table = long_table({m: [[[[1], [2]]], [[[1], [2]]]] for m in "ab"}, conditions=conditions)
        table = table[~((table["model"] == "b") & (table["severity"] == 1))]
        assert compare_models(table, "a", "b")["severity"].tolist() == [0, 0]

    def test_infinite_distances(self):
        inf, nan = math.inf, math.nan
        a = [[[[1.0, 3.0], [inf, inf], [2.0, 2.0]], [[3.0, nan], [1.0, 1.0], [nan, nan]]]]
        b = [[[[1.0], [1.0], [1.0]], [[1.0], [1.0], [1.0]]]]
        table = long_table({"a": a, "b": b}, ("heart", "lung"), metric="hd95_mm")
        heart, lung, mean = (compare_models(table, "a", "b", "hd95_mm").iloc[n] for n in range(3))
        assert (heart.n, heart.infinite, heart.missing, heart.mean_difference) == (2, 1, 0, 1)
        # The first seed has 2 and 0, the second 0.
        assert (lung.n, lung.infinite, lung.missing, lung.mean_difference) == (2, 0, 1, 0.5)
        # Case 0: seeds (0 + 2) / 2 and, of the heart alone, 2; case 1 is infinite; case 2: 1, of the heart alone.
        assert (mean.n, mean.infinite, mean.mean_difference) == (2, 1, 1.25)

    def test_shift_read_as_number_is_the_same_condition(self):
        table = long_table({m: [[[[1], [2]]]] for m in "ab"})
        table["shift"] = table["shift"].astype(object)
        table.loc[table["model"] == "a", "shift"] = 0
        assert len(compare_models(table, "a", "b")) == 2

    def test_nothing_in_common(self):
        a, b = long_table({"a": [[[[1]]]]}), long_table({"b": [[[[1]]]]}, data="acdc")
        with pytest.raises(InputError, match="in common"):
            compare_models(pd.concat([a, b]), "a", "b")


class TestOverSeeds:
    def test_by_hand(self):
        # Cases 1, 2, 3 and 3, 4, 8 at two seeds: means 2 and 5, sd of these 3 / sqrt(2).
        frame = summarize_over_seeds(long_table({"a": [[[[1, 3], [2, 4], [3, 8]]]]}))
        found = row(frame, organ="heart")
        assert (found["mean"], found.sd) == pytest.approx((3.5, math.sqrt(4.5)))
        assert (found.seeds, found.n, found.subjects, found.missing, found.infinite) == (2, 3, 3, 0, 0)
        # Case means 2, 3, 5.5 around 3.5, seed means 2, 5. Residuals of the first seed 0.5, 0.5, -1, of the second the
        # opposite: sum of squares 3, over (3 - 1)(2 - 1) is 1.5. Mean square of cases 2 * 6.5 / 2 = 6.5, of seeds
        # 3 * 4.5 / 1 = 13.5; components (6.5 - 1.5) / 2 and (13.5 - 1.5) / 3.
        assert found.variance_residual == pytest.approx(1.5)
        assert found.variance_case == pytest.approx(2.5)
        assert found.variance_seed == pytest.approx(4)
        # The mean of organs of one organ is that organ.
        columns = ["mean", "sd", "ci95_low", "ci95_high", "variance_seed"]
        assert row(frame, organ=MEAN_OF_ORGANS)[columns].tolist() == found[columns].tolist()

    def test_negative_component_is_zero(self):
        # Seed means are equal, so the residual alone explains the rest.
        found = summarize_over_seeds(long_table({"a": [[[[1, 2], [2, 1]]]]})).iloc[0]
        assert (found.variance_seed, found.variance_case, found.variance_residual) == (0, 0, pytest.approx(1))

    def test_the_interval_is_that_of_the_mean(self):
        values = np.random.default_rng(1).uniform(size=(12, 3))
        found = summarize_over_seeds(long_table({"a": [[values]]}, per_subject=2)).iloc[0]
        expected = estimate_mean(values, np.arange(12) // 2)
        assert [found["mean"], found.ci95_low, found.ci95_high] == pytest.approx([expected.value, *expected.ci95])
        assert (found.n, found.subjects, found.small) == (12, 6, True)

    def test_one_seed_has_no_spread(self):
        found = summarize_over_seeds(long_table({"a": [[[[1], [2]]]]})).iloc[0]
        assert np.isnan([found.sd, found.variance_seed, found.variance_case, found.variance_residual]).all()

    def test_left_out(self):
        nan, inf = math.nan, math.inf
        table = long_table({"a": [[[[1, 2], [3, nan], [nan, nan], [inf, 4]]]]}, metric="hd95_mm")
        found = row(summarize_over_seeds(table, "hd95_mm"), organ="heart")
        # First seed 1, 3, second 2, 4.
        assert (found["mean"], found.sd) == (pytest.approx(2.5), pytest.approx(math.sqrt(0.5)))
        assert (found.n, found.missing, found.infinite) == (3, 3, 1)

    def test_nothing_to_measure(self):
        found = summarize_over_seeds(long_table({"a": [[[[math.nan], [math.nan]]]]})).iloc[0]
        assert (found.n, found.subjects, found.missing, found.seeds) == (0, 0, 2, 1)
        assert np.isnan([found["mean"], found.sd, found.ci95_low]).all()

    def test_components_are_recovered_from_simulated_data(self):
        rng = np.random.default_rng(5)
        found = []
        for _ in range(60):
            values = rng.normal(0, 2, (30, 1)) + rng.normal(0, 1, (1, 10)) + rng.normal(0, 0.5, (30, 10))
            found.append(summarize_over_seeds(long_table({"a": [[values]]})).iloc[0])
        means = pd.DataFrame(found)[["variance_case", "variance_seed", "variance_residual"]].mean()
        assert means.tolist() == pytest.approx([4, 1, 0.25], rel=0.2)

    def test_seeds_of_a_condition(self):
        conditions = (("none", 0, "0"), ("gaussian_blur", 1, "0"))
        table = long_table({"a": np.ones((2, 1, 3, 2))}, conditions=conditions)
        table = table[(table["severity"] == 0) | (table["seed"] == 0)]
        frame = summarize_over_seeds(table)
        assert frame["seeds"].tolist() == [2, 2, 1, 1]
        assert frame["missing"].tolist() == [0, 0, 0, 0]

    def test_several_data_sets(self):
        frame = pd.concat([long_table({"a": [[[[1]]]]}), long_table({"a": [[[[2]]]]}, ("rv_cavity",), "acdc")])
        found = summarize_over_seeds(frame)
        assert found[["data", "organ"]].to_numpy().tolist() == [
            ["jsrt", "heart"],
            ["jsrt", MEAN_OF_ORGANS],
            ["acdc", "rv_cavity"],
            ["acdc", MEAN_OF_ORGANS],
        ]


class TestTable:
    def test_no_column(self):
        with pytest.raises(InputError, match="no column subject, iou"):
            summarize_over_seeds(long_table({"a": [[[[1]]]]}).drop(columns="subject"), "iou")
        with pytest.raises(InputError, match="none"):
            compare_models(pd.DataFrame(), "a", "b")

    def test_no_rows(self):
        with pytest.raises(InputError, match="no rows"):
            summarize_over_seeds(long_table({"a": [[[[1]]]]}).iloc[:0])

    def test_repeated_rows(self):
        table = long_table({"a": [[[[1]]]]})
        with pytest.raises(InputError, match="drop_duplicates"):
            summarize_over_seeds(pd.concat([table, table]))

    def test_two_splits(self):
        table = long_table({"a": [[[[1], [2]]]]})
        table.loc[0, "split"] = "training"
        with pytest.raises(InputError, match="one split, got test, training"):
            summarize_over_seeds(table)

    def test_two_subjects_of_a_case(self):
        table = long_table({"a": [[[[1, 2]]]]})
        table.loc[0, "subject"] = "other"
        with pytest.raises(InputError, match="several subjects"):
            summarize_over_seeds(table)

    def test_empty_key(self):
        table = long_table({"a": [[[[1, 2]]]]})
        table["organ"] = [None, "heart"]
        with pytest.raises(InputError, match="empty cells in organ"):
            summarize_over_seeds(table)

    def test_text_for_a_number(self):
        table = long_table({"a": [[[[1]]]]})
        table["dice"] = "high"
        with pytest.raises(InputError, match="expected numbers"):
            summarize_over_seeds(table)


def test_quick():
    rng = np.random.default_rng(0)
    conditions = [("none", 0, "0"), *((d, s, "0") for d in ("noise", "blur", "shot") for s in range(1, 6))]
    values = {m: rng.uniform(size=(16, 3, 68, 6)) for m in ("a", "b", "c", "d", "e")}
    table = long_table(values, ("heart", "left_lung", "right_lung"), conditions=conditions)
    assert len(table) == 97920
    for task in (
        lambda: compare_models(table, "a", "b"),
        lambda: summarize_over_seeds(table),
    ):
        assert seconds(task) < 2 or seconds(task) < 2  # the machine may have been busy


def seconds(task):
    began = time.process_time()
    task()
    return time.process_time() - began
