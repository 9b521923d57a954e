"""What the demo says at its end: controls by name, numbers as the export has them, within 80 columns."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import empty_database
from test_queries import NAN, Run, write

from fa_tracking.cli import _found
from fa_tracking.results.database import connect, run_sql
from fa_tracking.tracking import names
from fa_tracking.trainers.study import grid

CELL = _found.CellScores("dfa", 0.0, False, 3, 0.162, 0.04, 4.32, 8778.4, 1.52e-8, -0.08, 0, 3, [0, 3, 3, 0, 1])
CONTROL = replace(CELL, is_control=True, accuracy=0.119, margin_pp=None, trustworthy=3, flagged=0, fired=[0] * 5)
BP = replace(CONTROL, method="bp", is_control=False, accuracy=0.93, margin_pp=71.58)
HELPED = replace(BP, method="dfa", penalty=0.01, accuracy=0.36, margin_pp=24.1)


def test_two_sentences_say_what_was_found() -> None:
    dfa, others = _found.sentences([BP, CELL, CONTROL, HELPED])
    assert dfa == (
        "DFA reached 16.2 %, 4.3 pp above its control with frozen blocks, and is flagged on 3 of 3 seeds, by (a) on 3, "
        "(b) on 3, (d) on 1; its residual stream grows 8,780 times within a block and its deepest gradient norm is "
        "1.52e-08."
    )
    assert others == (
        "BP reached 93.0 %, 71.6 pp above its control with frozen blocks, and is trustworthy on 3 of 3 seeds; DFA with "
        "the penalty reached 36.0 %, 24.1 pp above its control with frozen blocks, and is trustworthy on 3 of 3 seeds."
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"margin_pp": -0.5}, "0.5 pp below its control"),
        ({"margin_pp": None}, "DFA reached 16.2 % and is flagged"),
        ({"accuracy": None, "margin_pp": None}, "DFA diverged and is flagged on 3 of 3"),
        ({"trustworthy": 1, "flagged": 2}, "trustworthy on 1 and flagged on 2 of 3 seeds"),
        ({"flagged": 0, "fired": [0] * 5}, "inconclusive on 3 of 3 seeds"),
        ({"n": 1, "flagged": 1}, "flagged on 1 of 1 seed,"),
    ],
)
def test_the_sentences_follow_the_numbers(changes: dict[str, Any], says: str) -> None:
    assert says in _found.sentences([BP, replace(CELL, **changes), HELPED])[0]


def test_a_cell_that_was_not_run_is_no_number() -> None:
    assert _found.sentences([BP, CONTROL])[0] == "DFA was not run."


def test_the_table_names_controls_and_fits() -> None:
    text = _found.table([BP, replace(BP, is_control=True), CELL, CONTROL, HELPED], 80)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^dfa control .* 3✓$", text, re.MULTILINE)
    assert re.search(r"^dfa λ=0.01 ", text, re.MULTILINE) and "3⚑ a×3 b×3 d×1" in text


def test_the_cells_are_those_of_the_runs_with_these_configs(tmp_path: Path) -> None:
    runs = [
        Run("dfa", 1, 0.1, growth=100.0, grad=1e-9, experiment="x"),
        Run("dfa", 2, 0.3, growth=300.0, grad=3e-9, experiment="x"),
        Run("dfa", 3, NAN, growth=NAN, grad=NAN, experiment="x"),
        Run("dfa", 4, 0.9, experiment="x"),
        Run("dfa", 1, 0.2, frozen=True, experiment="x"),
    ]
    with empty_database(tmp_path / "x.duckdb") as connection:
        for number, run in enumerate(runs):
            run.run_id = f"{number:032x}"
            write(connection, run)
            digest = "older" if run.seed == 4 else f"digest {number}"
            connection.execute("insert into tags values (?, ?, ?)", [run.run_id, names.TAG_CONFIG_SHA256, digest])
    with connect(tmp_path / "x.duckdb") as connection:
        found = _found.cells(connection, "x", [f"digest {n}" for n in range(len(runs))])
        assert run_sql(connection, "select count(*) from runs").fetchall() == [(5,)]
    cell, control = found
    assert (cell.name, cell.n, control.name, control.n) == ("dfa", 3, "dfa control", 1)
    assert cell.accuracy == pytest.approx(0.2) and cell.growth == pytest.approx(200)


def test_the_names_of_a_study_s_runs_leave_out_what_all_of_a_method_share() -> None:
    configs = grid.load("demo").configs()
    told = grid.told_apart(configs)
    assert len({*told.values()}) == len(told) == len(configs) == 15
    assert {"bp, seed 42", "bp, frozen blocks, seed 42", "dfa λ=0.01, seed 42"} <= {*told.values()}
    for name in ("dfa_penalty", "cross_architecture", "depth_ladder"):
        several = grid.load(name).configs()
        assert len({*grid.told_apart(several).values()}) == len(several)
