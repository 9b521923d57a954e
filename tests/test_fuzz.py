"""A few hundred hostile inputs to every reader, the same each time; `python -m tests.fuzz` gives them 100,000."""

from collections import Counter

import fuzz
import pytest

CASES = 20


@pytest.mark.parametrize("name", fuzz.targets())
def test_hostile_input_is_read_or_refused_in_one_line(name: str) -> None:
    outcomes: Counter[str] = Counter()
    target = fuzz.targets()[name]
    fuzz.test_of(target, CASES * target.WEIGHT, outcomes, derandomize=True)()
    assert outcomes.total() >= CASES * target.WEIGHT // 2
