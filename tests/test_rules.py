"""A rule that is asked in Python and in SQL says the same in both, also of what is not finite or not known."""

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from conftest import empty_database
from torch import nn

from fa_tracking.protocol.diagnostics import direction_stability, frozen_control, grad_norm, residual_norm
from fa_tracking.protocol.knockout import MOST_BLOCKS, Knockout, knockout
from fa_tracking.protocol.report import PartialReport
from fa_tracking.results.database import ask, connect, find_query
from fa_tracking.tracking import audited, names

NAN, INF = math.nan, math.inf


def report(**known: Any) -> PartialReport:
    """Of a network of which no more is known."""
    nothing = {"residual_norms": (), "bp_grad_norms": (None,), "cross_batch_stability": None, "headline_acc": None}
    nothing |= {"stability_layer": None, "frozen_baseline_acc": None}
    return PartialReport("", "", **{**nothing, **known})


SMALL = (None, 0.0, 1e-9, 1e-7, 2e-7, 1.0, INF, NAN)
RULES: dict[str, tuple[str, list[tuple[list[float | None], bool | None]]]] = {
    "b": (
        "fires('b', judged_grad($1, at_chance($2, $3)), 1e-7)",
        [
            ([g, gain, chance], grad_norm.fires(report(bp_grad_norms=(g,), grad_gain=gain, chance_error=chance)))
            for g, gain, chance in product(SMALL, SMALL, (None, 0.0, 0.5, INF, NAN))
        ],
    ),
    "a": (
        "fires('a', judged_growth($1, $2), 50.0)",
        [
            ([growth, stream], residual_norm.fires(report(residual_norms=(1.0, growth), stream_growth=stream)))
            for growth, stream in product((None, 0.0, 50.0, 51.0, INF, NAN), (None, 1.0, 50.0, 60.0, INF, NAN))
        ],
    ),
    "c": (
        "fires('c', $1, 0.3)",
        [
            ([cosine], direction_stability.fires(report(cross_batch_stability=cosine)))
            for cosine in (None, -1.0, 0.3, 0.31, NAN)
        ],
    ),
    "d": (
        "fires('d', judged_margin($1), 2.0)",
        [
            ([100 * (accuracy - 0.5)], frozen_control.fires(report(headline_acc=accuracy, frozen_baseline_acc=0.5)))
            for accuracy in (0.3, 0.5199, 0.52, 0.5201, NAN, INF)
        ],
    ),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "r.duckdb"
    with empty_database(path) as connection:
        connection.execute(
            "insert into runs by name select unnest(['stored', 'none']) as run_id, 's' as source, 'e' as experiment, "
            "'FINISHED' as status, 'bp' as method, 'c' as cell"
        )
        connection.execute(
            "insert into audits by name select unnest(['stored', 'none']) as run_id, 'trustworthy' as verdict, "
            "'' as flags, 1e-3 as deepest_grad_norm, 1e-7 as g_norm_floor, unnest([true, null]) as fires_b"
        )
    return path


@pytest.mark.parametrize("flag", RULES)
def test_a_diagnostic_fires_in_sql_where_it_fires_in_a_report(flag: str, database: Path) -> None:
    sql, known = RULES[flag]
    assert {fires for _, fires in known} >= {True, False}
    with connect(database) as connection:
        for numbers, fires in known:
            (found,) = connection.execute(f"select {sql}", numbers).fetchone() or (None,)
            assert found == fires, numbers


def test_the_queries_read_the_flag_that_an_audit_stored(database: Path) -> None:
    with connect(database) as connection:
        rows = ask(connection, find_query("threshold_groups"), "e").df().set_index(["flag", "run_id"])
    assert rows.loc[("b", "stored"), "state"] == "flagged" and rows.loc[("b", "none"), "state"] == "not measured"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '"x"', "[" * 100_000, '{"fired": 1, "kinds": [], "x": {}}']
)
def test_what_an_audit_did_not_store_as_it_does_is_empty(text: str) -> None:
    tags = {names.TAG_VERDICT: "trustworthy", names.TAG_MEASURED: text, names.TAG_THRESHOLDS: text}
    stored = audited.read(tags)
    assert (stored.fired, stored.kinds, stored.inexact, stored.epoch, stored.number("x")) == ({}, {}, {}, None, None)
    assert stored.shown_verdict == "trustworthy" and audited.read({}).shown_verdict is None


@pytest.mark.parametrize(
    ("value", "number"), [("NaN", NAN), ("-Infinity", -INF), (3, 3.0), ("x", None), (10**400, None)]
)
def test_a_number_is_read_as_an_audit_stores_it(value: Any, number: float | None) -> None:
    tags = {names.TAG_MEASURED: json.dumps({"stability": value, "epoch": INF}), names.TAG_THRESHOLDS: "{}"}
    stored = audited.read(tags)
    assert stored.number("stability") == pytest.approx(number, nan_ok=True) and stored.epoch is None


class Blocks(nn.Module):
    def __init__(self, blocks: Any) -> None:
        super().__init__()
        self.blocks = blocks


@pytest.mark.parametrize(
    ("blocks", "problem"),
    [
        ((), "the model has no blocks to take out"),
        (("a", "b"), "the model's blocks are no modules"),
        ([nn.Identity()] * (MOST_BLOCKS + 1), f"the model has {MOST_BLOCKS + 1} blocks"),
        (3, "'int' object is not iterable"),
    ],
)
def test_blocks_that_cannot_be_taken_out_are_a_problem_of_the_knockout(blocks: Any, problem: str) -> None:
    found = knockout(Blocks(blocks), [])
    assert found.problem is not None and problem in found.problem and math.isnan(found.whole)
    assert found.to_dict() == {"not_measured": f"not measured: {found.problem}"} and str(found).startswith(
        "not measured"
    )


def test_a_knockout_is_stored_by_its_numbers_alone() -> None:
    found = Knockout(8, 0.5, (0.25, NAN), 0.125)
    assert found.to_dict() == {"samples": 8, "whole": 0.5, "without": [0.25, "NaN"], "without_all": 0.125}
