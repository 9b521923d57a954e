"""A few hundred hostile inputs to every reader, the same each time; `python -m tests.fuzz` gives them 100,000."""

from collections import Counter

import fuzz
import pytest

pytestmark = pytest.mark.fuzz

CASES = 500
"""Of all readers together, by their weights."""


@pytest.mark.parametrize("name", fuzz.targets())
def test_hostile_input_is_read_or_refused_in_one_line(name: str) -> None:
    outcomes: Counter[str] = Counter()
    target = fuzz.targets()[name]
    cases = CASES * target.WEIGHT // sum(t.WEIGHT for t in fuzz.targets().values())
    fuzz.test_of(target, cases, outcomes, derandomize=True)()
    assert outcomes["refused"] > 0 and outcomes.total() >= cases // 2
