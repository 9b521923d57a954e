"""Student's t interval in SQL, against scipy and against the interval of fa_tracking/results/statistics.py."""

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import empty_database
from scipy import stats
from test_queries import Run, write

from fa_tracking.results.database import ask, connect, find_query
from fa_tracking.results.statistics import summarise

NAN = math.nan

CELLS = {
    "three": [0.301, 0.296, 0.312],
    "two": [0.2, 0.6],
    "one": [0.5],
    "equal": [0.25, 0.25, 0.25, 0.25],
    "equal in decimals": [0.1, 0.1, 0.1],
    "one diverged": [0.31, NAN, 0.33, 0.35],
    "one left": [NAN, 0.4],
    "all diverged": [NAN, NAN],
    "beyond the table": [*np.random.default_rng(0).normal(0.4, 0.05, 30)],
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("intervals") / "r.duckdb"
    with empty_database(path) as connection:
        for method, values in CELLS.items():
            for seed, value in enumerate(values):
                write(connection, Run(method, seed, value, run_id=f"{method} {seed}"))
    return path


def test_the_quantile_of_t_is_scipys_within_a_millionth(database: Path) -> None:
    freedom = np.arange(1, 1001)
    with connect(database) as connection:
        found = connection.sql("select t_95(df) from range(1, 1001) r(df) order by df").fetchall()
        assert connection.sql("select t_95(0), t_95(-1), t_95(null)").fetchall() == [(None, None, None)]
    np.testing.assert_allclose([t for (t,) in found], stats.t.ppf(0.975, freedom), rtol=1e-6)


def test_the_interval_of_the_query_is_that_of_python(database: Path) -> None:
    with connect(database) as connection:
        relation = ask(connection, find_query("seeds"), "main")
        rows = [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
    assert {row["method"] for row in rows} == CELLS.keys()
    for row in rows:
        expected = summarise(CELLS[row["method"]])
        assert row["n"] == expected.n
        for name in ("mean", "sd", "low", "high"):
            value = getattr(expected, name)
            assert row[name] == (None if value is None else pytest.approx(value, rel=1e-6, abs=1e-12)), row["method"]
