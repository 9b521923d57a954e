"""Few-seed statistics: spread, intervals and differences that a reviewer would accept, on top of scipy.

Values are one number a seed. What is not finite is counted as diverged and is in no mean. Intervals are Student's t;
the spread is the sample standard deviation (n − 1), with n beside it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.95
INCONCLUSIVE = "inconclusive"
SPREAD = 1e-12
"""Below this share of their size values are equal, and what differs in them is rounding."""
BOOTSTRAP_FROM = 10
"""Below this n a bootstrap interval is too narrow to be quoted (Agarwal et al. 2021, arXiv:2108.13264)."""


@dataclass(frozen=True)
class Summary:
    """Holds one cell's statistics over its seeds.

    Attributes:
        n: seeds with a finite value.
        n_diverged: seeds without one.
        mean, sd: None without a value; the sd also for n = 1.
        low, high: the mean's interval; None for n = 1, and for equal values, which show no spread.
        bootstrap: a second opinion for n ≥ 10, BCa; None below.
    """

    n: int
    n_diverged: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    bootstrap: tuple[float, float] | None


@dataclass(frozen=True)
class Difference:
    """Holds the mean of A minus the mean of B.

    Attributes:
        paired: True: by common seeds; False: Welch's unequal variances.
        n_a, n_b: values used; equal if paired.
        left_out: seeds with a finite value in only one cell; a paired difference cannot use them.
        low, high: the interval; None where the values show no spread: equal differences of two seeds are chance.
        p: two-sided, for the hypothesis that the difference is ``threshold``; None if there is no interval.
        conclusion: "above" or "below" the threshold, or "inconclusive" if the interval holds the threshold.
    """

    paired: bool
    n_a: int
    n_b: int
    left_out: tuple[object, ...]
    mean: float
    low: float | None
    high: float | None
    p: float | None
    threshold: float
    conclusion: str


def summarise(values: Sequence[float], level: float = LEVEL) -> Summary:
    """Compute mean, spread and interval of one value per seed."""
    import numpy as np
    from scipy import stats

    finite = np.array([v for v in values if math.isfinite(v)], dtype=float)
    n, diverged = len(finite), len(values) - len(finite)
    if n < 2:
        return Summary(n, diverged, float(finite[0]) if n else None, None, None, None, None)
    mean, sd = float(finite.mean()), float(finite.std(ddof=1))
    if sd <= SPREAD * abs(mean):
        return Summary(n, diverged, mean, sd, None, None, None)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * sd / math.sqrt(n)
    second = None
    if n >= BOOTSTRAP_FROM and sd > 0:
        found = stats.bootstrap((finite,), np.mean, confidence_level=level, rng=np.random.default_rng(0))
        second = (float(found.confidence_interval.low), float(found.confidence_interval.high))
    return Summary(n, diverged, mean, sd, mean - half, mean + half, second)


def difference(
    a: Mapping[object, float], b: Mapping[object, float], threshold: float = 0.0, level: float = LEVEL
) -> Difference:
    """Test A − B for two cells with values by seed: paired by common seeds, else by Welch's test.

    Raises:
        ValueError: a cell has fewer than two seeds with a finite value.
    """
    import numpy as np
    from scipy import stats

    a, b = ({seed: v for seed, v in cell.items() if math.isfinite(v)} for cell in (a, b))
    shared = [seed for seed in a if seed in b]
    paired = len(shared) >= 2
    if not paired and min(len(a), len(b)) < 2:
        raise ValueError(
            f"a difference needs two seeds a cell with a finite value, and there are {len(a)} and {len(b)}"
        )
    if paired:
        steps = np.array([a[seed] - b[seed] for seed in shared])
        mean, freedom = float(steps.mean()), len(steps) - 1.0
        error = float(steps.std(ddof=1)) / math.sqrt(len(steps))
    else:
        x, y = np.array(list(a.values())), np.array(list(b.values()))
        mean, (u, v) = float(x.mean() - y.mean()), (float(s.var(ddof=1)) / len(s) for s in (x, y))
        error = math.sqrt(u + v)
        share = u / (u + v) if error else 0.5  # of the larger numbers' squares the smaller ones' are nothing
        freedom = 1 / (share**2 / (len(x) - 1) + (1 - share) ** 2 / (len(y) - 1))
    left_out = tuple(seed for seed in {**a, **b} if seed not in shared) if paired else ()
    n_a, n_b = (len(shared), len(shared)) if paired else (len(a), len(b))
    if error <= SPREAD * max(map(abs, [*a.values(), *b.values()])):
        return Difference(paired, n_a, n_b, left_out, mean, None, None, None, threshold, INCONCLUSIVE)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(mean - threshold) / error, freedom))
    low, high = mean - half, mean + half
    conclusion = "above" if low > threshold else "below" if high < threshold else INCONCLUSIVE
    return Difference(paired, n_a, n_b, left_out, mean, low, high, p, threshold, conclusion)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust a family's p-values by Holm's method (Holm 1979, Scand. J. Statist. 6), in the given order."""
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def probability_of_improvement(a: Mapping[str, Sequence[float]], b: Mapping[str, Sequence[float]]) -> float:
    """P(a run of A beats a run of B), ties counting half, averaged over the tasks (Agarwal et al. 2021).

    Raises:
        ValueError: fewer than two tasks, not the same tasks, or a score that is not finite.
    """
    from scipy import stats

    if a.keys() != b.keys():
        raise ValueError(f"the tasks differ: {', '.join(sorted(a.keys() ^ b.keys()))}")
    pairs = zip(_tasks(a), _tasks({task: b[task] for task in a}), strict=True)
    wins = [float(stats.mannwhitneyu(x, y).statistic) / (len(x) * len(y)) for x, y in pairs]
    return sum(wins) / len(wins)


def _tasks(scores: Mapping[str, Sequence[float]]) -> list[Sequence[float]]:
    if len(scores) < 2:
        raise ValueError(f"an aggregate over tasks needs two or more, and there are {len(scores)}")
    if any(not values or not all(map(math.isfinite, values)) for values in scores.values()):
        raise ValueError("a task has no score, or one that is not finite")
    return list(scores.values())


def without_noise(mean: float, sd: float) -> float:
    """The standard deviation as it is printed: 0 where it is of the size of the rounding of equal values."""
    return 0.0 if sd <= SPREAD * abs(mean) < math.inf else sd
