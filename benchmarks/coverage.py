"""Count how often 95 % intervals of a mean over subjects and trainings hold the truth, in simulated studies.

python -m benchmarks.coverage [--repeats 20000]

A study has n subjects and K trainings (seeds). A value is the sum of an effect of the subject (standard deviation 1),
of the seed and a rest (0.5). Subjects' effects are normal, or as skewed as Dice near its upper end. With one seed the
truth is the mean of that training over all subjects.
"""

import argparse
import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy import stats

from medpos.metrics.intervals import spread

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

SUBJECTS, SEEDS = (8, 16, 20, 68), (1, 3, 5)
SEED_SDS = (0.0, 0.1, 0.3, 1.0, 3.0)
RESAMPLES = 1000


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw standard normal effects."""
    return rng.normal(size=shape)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw from a beta distribution of 8 and 2, standardized: skewness -0.83."""
    return (rng.beta(8, 2, shape) - 0.8) / math.sqrt(16 / 1100)


EFFECTS: dict[str, Draw] = {"normal": normal, "skewed": skewed}


def simulate(subjects: int, seeds: int, seed_sd: float, draw: Draw, repeats: int, rng: np.random.Generator) -> Array:
    """Draw the values of many studies less their truth, [repeats, subjects, seeds]."""
    of_seeds = rng.normal(0, seed_sd, (repeats, 1, seeds)) if seeds > 1 and seed_sd else 0.0
    return draw(rng, (repeats, subjects, 1)) + of_seeds + rng.normal(0, 0.5, (repeats, subjects, seeds))


def coverage(values: Array) -> float:
    """Return the share of studies in which the interval of :mod:`medpos.metrics.intervals` holds the truth, 0."""
    mean = values.mean(axis=(-2, -1), keepdims=True)
    variance, critical = spread(values - mean)
    return float(np.mean(np.abs(mean[:, 0, 0]) <= critical * np.sqrt(variance)))


def bootstrap_coverage(values: Array, rng: np.random.Generator) -> tuple[float, float]:
    """Return the same share for the percentile and the BCa bootstrap, of studies with one seed.

    Reference:
        B. Efron, "Better bootstrap confidence intervals", J. American Statistical Association 82(397), 1987.
        T. J. DiCiccio and B. Efron, "Bootstrap confidence intervals", Statistical Science 11(3), 1996.
    """
    held = np.array([_bootstrap_holds(study[:, 0], rng) for study in values])
    percentile, bca = held.mean(axis=0)
    return float(percentile), float(bca)


def _bootstrap_holds(values: Array, rng: np.random.Generator) -> tuple[bool, bool]:
    means = np.sort(values[rng.integers(0, values.size, (RESAMPLES, values.size))].mean(axis=1))
    residuals = values - values.mean()  # the jackknife's acceleration of a mean
    acceleration = (residuals**3).sum() / (6 * (residuals**2).sum() ** 1.5)
    bias = stats.norm.ppf(np.clip((means < values.mean()).mean(), 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    z = bias + stats.norm.ppf([0.025, 0.975])
    levels = stats.norm.cdf(bias + z / (1 - acceleration * z))
    (low, high), (bca_low, bca_high) = np.quantile(means, [0.025, 0.975]), np.quantile(means, levels)
    return bool(low <= 0 <= high), bool(bca_low <= 0 <= bca_high)


def tabulate(repeats: int) -> Iterator[str]:
    """Yield the rows of the table: lowest and highest coverage over the spreads of the seeds."""
    rng = np.random.default_rng(16)
    yield "| subjects' effects | seeds | n = " + " | n = ".join(map(str, SUBJECTS)) + " |"
    yield "|---" * (len(SUBJECTS) + 2) + "|"
    for name, draw in EFFECTS.items():
        for seeds in SEEDS:
            cells = []
            for subjects in SUBJECTS:
                sds = SEED_SDS if seeds > 1 else (0.0,)
                found = [coverage(simulate(subjects, seeds, sd, draw, repeats, rng)) for sd in sds]
                cells.append(" to ".join(f"{share:.3f}" for share in sorted({min(found), max(found)})))
            yield f"| {name} | {seeds} | {' | '.join(cells)} |"
        few = [bootstrap_coverage(simulate(n, 1, 0.0, draw, repeats // 10, rng), rng) for n in SUBJECTS]
        for n, kind in enumerate(("percentile bootstrap", "BCa bootstrap")):
            yield f"| {name}, {kind} | 1 | {' | '.join(f'{shares[n]:.3f}' for shares in few)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20000)
    for line in tabulate(parser.parse_args().repeats):
        print(line, flush=True)


if __name__ == "__main__":
    main()
