"""Match the values of two models, or of one model under two conditions, by case, organ, condition and seed."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medpos.statistics.grid import Array, Samples, mean


@dataclass(frozen=True)
class LeftOut:
    """Count the values (cases times organs, conditions and seeds) without a finite partner.

    Args:
        only_a: number of values that only the first side has.
        only_b: number of values that only the second side has.
        infinite: number of pairs in which a value is infinite.
        seeds_a: number of trainings that only the first side has.
        seeds_b: number of trainings that only the second side has.
    """

    only_a: int
    only_b: int
    infinite: int
    seeds_a: int
    seeds_b: int


@dataclass(frozen=True, eq=False)
class Pairs:
    """Hold matched values [..., organ, case, seed] of two sides; both are NaN where either isn't finite.

    Args:
        a: values of the first side.
        b: values of the second side.
        is_infinite: whether either value of a pair is infinite.
        left_out: numbers of values without a partner.
    """

    a: Array
    b: Array
    is_infinite: npt.NDArray[np.bool_]
    left_out: LeftOut

    def mean_of_organs(self) -> "Pairs":
        """Average the organs that both sides have, case by case; a case with an infinite value is left out."""
        infinite = np.asarray(self.is_infinite.any(axis=-3, keepdims=True))
        a, b = (np.where(infinite, np.nan, np.expand_dims(mean(side, -3), -3)) for side in (self.a, self.b))
        return Pairs(a, b, infinite, self.left_out)

    def complete(self) -> "Pairs":
        """Keep each organ, case and seed that has a value under every condition, the first axis."""
        kept = ~np.isnan(self.a).any(axis=0, keepdims=True)
        return replace(self, a=np.where(kept, self.a, np.nan), b=np.where(kept, self.b, np.nan))

    def organ(self, place: int) -> "Pairs":
        """Keep one organ."""
        chosen = slice(place, place + 1)
        a, b = self.a[..., chosen, :, :], self.b[..., chosen, :, :]
        return Pairs(a, b, self.is_infinite[..., chosen, :, :], self.left_out)


def match(a: Samples, b: Samples) -> Pairs:
    """Match two sides by case, organ, condition and seed.

    Trainings with the same seed are matched, because they share the order of the data and whatever else the seed
    decides. A side with one training, such as a mean mask, is matched with every training of the other: the interval
    then holds for that one. Where no seed is common, both sides are first averaged over their seeds.

    Args:
        a: values of the first side, [..., organ, case, seed], of the same shape as ``b`` but for the seeds.
        b: values of the second side.
    """
    first, second = a.values, b.values
    common = [name for name in a.names if name in b.names]
    lone_a, lone_b = 0, 0
    if len(a.names) > 1 and len(b.names) > 1:
        if common:
            first = first[..., [a.names.index(name) for name in common]]
            second = second[..., [b.names.index(name) for name in common]]
            lone_a, lone_b = len(a.names) - len(common), len(b.names) - len(common)
        else:
            first, second = (mean(side, -1)[..., None] for side in (first, second))
    first, second = np.broadcast_arrays(first, second)
    has_a, has_b = ~np.isnan(first), ~np.isnan(second)
    infinite = has_a & has_b & (np.isinf(first) | np.isinf(second))
    kept = has_a & has_b & ~infinite
    only_a, only_b = int((has_a & ~has_b).sum()), int((has_b & ~has_a).sum())
    left_out = LeftOut(only_a, only_b, int(infinite.sum()), lone_a, lone_b)
    return Pairs(np.where(kept, first, np.nan), np.where(kept, second, np.nan), infinite, left_out)
