"""Few-seed statistics against scipy and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fa_tracking.results.statistics import (
    difference,
    holm,
    probability_of_improvement,
    summarise,
)

ROWS = np.random.default_rng(0).normal(size=(20_000, 10))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_covers_as_often_as_it_says(n: int) -> None:
    found = [summarise(row[:n]) for row in ROWS[:4000]]
    covered = sum(s.low <= 0 <= s.high for s in found) / len(found)
    assert 0.94 <= covered <= 0.96
    s, (low, high) = found[0], stats.t.interval(0.95, n - 1, ROWS[0, :n].mean(), stats.sem(ROWS[0, :n]))
    assert (s.low, s.high) == pytest.approx((low, high))
    assert (s.bootstrap is None) == (n < 10)


def test_what_diverged_is_counted_and_in_no_mean() -> None:
    s = summarise([0.2, math.nan, 0.4, math.inf])
    assert (s.n, s.n_diverged, s.mean) == (2, 2, pytest.approx(0.3))
    assert summarise([0.5]).sd is None and summarise([0.5]).low is None
    assert summarise([math.nan]).mean is None


def test_cells_that_share_seeds_are_paired_and_others_are_not() -> None:
    a, b = dict(enumerate([0.30, 0.31, 0.33])), dict(enumerate([0.25, 0.27, 0.28]))
    d, paired = difference(a, b), stats.ttest_rel(list(a.values()), list(b.values()))
    assert d.paired and d.p == pytest.approx(paired.pvalue)
    interval = paired.confidence_interval()
    assert (d.low, d.high) == pytest.approx((interval.low, interval.high))
    assert d.conclusion == "above"
    other = {seed + 10: v for seed, v in b.items()}
    w, welch = difference(a, other), stats.ttest_ind(list(a.values()), list(other.values()), equal_var=False)
    assert not w.paired and w.p == pytest.approx(welch.pvalue)
    interval = welch.confidence_interval()
    assert (w.low, w.high) == pytest.approx((interval.low, interval.high))


def test_a_difference_says_which_seed_it_left_out_and_when_it_cannot_tell() -> None:
    a, b = {1: 0.3, 2: 0.4, 3: 0.5, 4: math.nan}, {1: 0.31, 2: 0.38, 4: 0.2}
    d = difference(a, b)
    assert (d.paired, d.n_a, d.left_out, d.conclusion) == (True, 2, (3, 4), "inconclusive")
    assert difference({1: 2.5, 2: 2.6}, {1: 0.0, 2: 0.11}, threshold=2.0).conclusion == "above"
    with pytest.raises(ValueError, match="two seeds a cell"):
        difference({1: 0.3}, {2: 0.1, 3: 0.2})


@pytest.mark.parametrize("seeds", [2, 3, 30])
def test_equal_differences_show_no_spread_and_give_no_interval(seeds: int) -> None:
    """Also where the same step, taken from other accuracies, is off by a rounding."""
    a = {seed: 0.5 + 0.01 * seed for seed in range(seeds)}
    for b, is_paired in ((a, True), ({seed + 100: v for seed, v in a.items()}, False)):
        found = difference({seed: v + 0.1 for seed, v in a.items()}, b)
        assert found.paired is is_paired
        if is_paired:
            assert (found.low, found.high, found.p, found.conclusion) == (None, None, None, "inconclusive")
            assert found.mean == pytest.approx(0.1)
    assert difference(dict.fromkeys(range(seeds), 0.4), dict.fromkeys(range(9, 9 + seeds), 0.3)).low is None
    equal = summarise([0.1 + 0.2, 0.3] * seeds)
    assert (equal.low, equal.high, equal.n) == (None, None, 2 * seeds) and equal.mean == pytest.approx(0.3)


def test_holm_adjusts_as_the_textbook_says() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_keeps_the_order_and_never_lowers_a_p_value(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(x <= y <= 1 for x, y in zip(p, adjusted, strict=True))
    by_p = sorted(range(len(p)), key=lambda i: p[i])
    assert [adjusted[i] for i in by_p] == sorted(adjusted)


def test_a_comparison_over_tasks_needs_several_tasks() -> None:
    a, b = {"x": [1.0, 2.0, 3.0, 4.0], "y": [5.0, 6.0, 7.0, 8.0]}, {"x": [0.0, 2.0], "y": [9.0, 9.0]}
    wins = [sum((u > v) + (u == v) / 2 for u in a[t] for v in b[t]) / 8 for t in ("x", "y")]
    assert probability_of_improvement(a, b) == pytest.approx(sum(wins) / 2)
    for wrong in ({"x": [1.0]}, {"x": [1.0], "y": [math.nan]}, {"x": [1.0], "y": []}):
        with pytest.raises(ValueError, match="task"):
            probability_of_improvement(wrong, wrong)


@pytest.mark.parametrize("size", [1e-170, 1e-300, 1e150])
def test_spreads_of_any_size_divide_by_nothing(size: float) -> None:
    found = difference({1: 1 * size, 2: 3 * size}, {3: 12 * size, 4: 15 * size, 5: 17 * size})
    assert math.isfinite(found.mean) and found.n_a == 2
    tiny = difference({1: 0.5, 2: 0.5 + 1e-9}, {3: 0.4, 4: 0.4})
    assert tiny.conclusion in ("above", "inconclusive")
