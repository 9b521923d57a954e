"""An experiment is asked for by its very name; a pattern only where one is asked for."""

from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from conftest import empty_database
from mlflow import MlflowClient
from runs import log_run
from stores import new_store

from fa_tracking.cli import main
from fa_tracking.errors import UsageError
from fa_tracking.publishing.reference import Answers, parse
from fa_tracking.results.compare import compare
from fa_tracking.results.database import Query, ask, connect, explain_query, find_query
from fa_tracking.results.export.export import export

NAMES = ["x[1]", "x1", "x*", "xy", "x?", "it's 100 %", "~x1", "a b"]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two methods in each experiment; the accuracy is 0.01 times the place of its name."""
    here = tmp_path_factory.mktemp("names")
    client = MlflowClient(new_store(here))
    for place, name in enumerate(NAMES):
        for method in ("bp", "dfa"):
            for seed in (1, 2):
                accuracy = 0.01 * place + 0.001 * seed
                tags = {"fa.verdict": "trustworthy", "fa.measured": f'{{"headline_accuracy": {accuracy}}}'}
                params = {"method": method, "architecture": "net", "seed": seed}
                log_run(client, name, {1: {"accuracy/test": accuracy}}, tags=tags, **params)
    export(here / "r.duckdb", f"sqlite:///{here}/mlflow.db")
    return here / "r.duckdb"


def rows(database: Path, asked: str, query: str = "cross_seed") -> list[dict[str, Any]]:
    with connect(database) as connection:
        answer = ask(connection, find_query(query), asked)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.fetchall()]


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("~")])
def test_a_name_brings_its_own_runs_alone(database: Path, name: str) -> None:
    found = rows(database, name)
    assert [row["n"] for row in found] == [2, 2]
    assert found[0]["accuracy_mean"] == pytest.approx(0.01 * NAMES.index(name) + 0.0015)
    with connect(database) as connection:
        compared = compare(connection, "accuracy/test", "method=bp", "method=dfa", name)
        assert compared.difference.n_a == 2
        answers = Answers(connection, name)
        assert answers.find(parse("cross_seed[method=bp].n")).value == 2
    done = CliRunner().invoke(main, ["query", "runs", "--experiment", name, "--format", "csv", "--db", str(database)])
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 5


def test_a_pattern_is_asked_for_by_its_own_option_and_sign(database: Path) -> None:
    db = ["--format", "csv", "--db", str(database)]
    done = CliRunner().invoke(main, ["query", "runs", "--experiment-glob", "x?", *db])
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 1 + 4 * 4
    with connect(database) as connection:
        said = parse("cross_seed[experiment~=x?,method=bp].count(n)")
        assert Answers(connection).find(said).rows == 1
        assert Answers(connection).find(said).value == 1


@pytest.mark.parametrize("asked", ["nope*", "y[0-9]", "zz?"])
def test_a_bare_pattern_gets_one_line_that_names_the_option(database: Path, asked: str) -> None:
    done = CliRunner().invoke(main, ["query", "runs", "--experiment", asked, "--db", str(database)])
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
    assert f"--experiment-glob '{asked}'" in done.stderr
    with connect(database) as connection, pytest.raises(UsageError, match="experiment~="):
        ask(connection, find_query("runs"), asked)


def test_both_at_once_are_refused(database: Path) -> None:
    both = ["--experiment", "x1", "--experiment-glob", "x*"]
    done = CliRunner().invoke(main, ["query", "runs", *both, "--db", str(database)])
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1


def test_a_query_that_is_asked_of_no_experiment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    with empty_database(path):
        pass
    with connect(path) as connection, pytest.raises(UsageError, match=r"'mine' has no \$experiment"):
        ask(connection, Query("mine", "t", ("one",), "select 1 as one"), "e")


@pytest.mark.parametrize("experiment", ["it's", "~a*", "$experiment"])
def test_the_explained_query_holds_the_experiment_as_a_literal(experiment: str) -> None:
    query = Query("mine", "t", ("e", "f"), "select $experiment as e, $experiment as f")
    with duckdb.connect() as connection:
        assert connection.sql(explain_query(query, experiment)).fetchall() == [(experiment, experiment)]
    with pytest.raises(UsageError, match="'mine' needs --experiment"):
        explain_query(query, None)
