"""An experiment too large to be looked at: what a picture leaves out, and that it says so."""

import pandas as pd

from fa_tracking.dashboards.thin import CELLS, ROWS, first_groups, thinned


def test_of_many_epochs_some_are_drawn_with_the_last_of_each_run() -> None:
    rows = pd.DataFrame(
        [("dfa", run, epoch, 0.5) for run, epochs in {"long": 30_000, "short": 7}.items() for epoch in range(epochs)],
        columns=["method", "run_id", "epoch", "accuracy"],
    )
    few, said = thinned(rows)
    assert len(few) < 300 and dict(few.groupby("run_id")["epoch"].max()) == {"long": 29_999, "short": 6}
    assert "30,000 epochs every 150th" in said


def test_of_many_cells_the_first_are_drawn_whole() -> None:
    rows = pd.DataFrame(
        [("dfa", f"lr={cell}", f"{cell}.{seed}") for cell in range(500) for seed in range(3)],
        columns=["method", "also", "run_id"],
    )
    few, said = thinned(rows)
    assert len(few) == 3 * CELLS and set(few.groupby("also").size()) == {3} and "of 500 cells" in said
    one = pd.concat([rows.assign(also="one")] * 10)
    few, said = thinned(one)
    assert len(few) == ROWS and "15,000 rows" in said


def test_what_is_not_large_is_drawn_whole_and_without_a_word() -> None:
    rows = pd.DataFrame({"method": ["dfa", None], "epoch": [1, 2]})
    few, said = thinned(rows)
    assert few.equals(rows) and said == ""
    assert [*first_groups([9, 1, 1], int, 3)] == [9] and [*first_groups([1, 1, 9], int, 3)] == [1, 1]
