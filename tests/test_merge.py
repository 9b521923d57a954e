"""Several exports in one database, and several folders of Parquet asked at once, over real stores."""

import math
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import Cli
from mlflow import MlflowClient
from runs import log_run
from stores import new_store

from fa_tracking.dashboards.page import write_html
from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.results.database import ask, connect, queries, run_sql
from fa_tracking.results.export.export import export
from fa_tracking.results.export.merge import merge
from fa_tracking.results.export.parquet import ORDERS, write_parquet

ACCURACY = {"a": 0.25, "b": 0.5}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two laboratories' stores: one experiment of one name in both, its runs alike but for what was measured."""
    found = {}
    for laboratory, accuracy in ACCURACY.items():
        uri = new_store(tmp_path_factory.mktemp(laboratory))
        client = MlflowClient(uri)
        control = add_run(client, "both", 0, accuracy, "")
        for seed in (1, 2):
            add_run(client, "both", seed, accuracy, control)
        add_run(client, f"only {laboratory}", 1, math.nan, control)
        found[laboratory] = uri
    return found


def add_run(client: MlflowClient, experiment: str, seed: int, accuracy: float, control: str) -> str:
    logged = {
        0: {"accuracy/test": 0.1, "residual_norm/h1": math.inf},
        1: {"accuracy/test": accuracy, "residual_norm/h1": -math.inf},
    }
    measured = f'{{"headline_accuracy": {accuracy}, "fired": {{"a": false}}}}'
    tags = {"fa.verdict": "trustworthy", "fa.measured": measured.replace("nan", "NaN"), "fa.control_runs": control}
    params = {"method": "dfa", "architecture": "resmlp", "seed": seed, "frozen_blocks": not control}
    return log_run(client, experiment, logged, tags=tags, **params)


@pytest.fixture
def exports(stores: dict[str, str], tmp_path: Path) -> dict[str, Path]:
    """``a.duckdb``, and ``b`` as Parquet. The first run of each experiment of b has the id of a's."""
    for laboratory, uri in stores.items():
        export(tmp_path / f"{laboratory}.duckdb", uri)
    clash(tmp_path / "a.duckdb", tmp_path / "b.duckdb")
    write_parquet(tmp_path / "b.duckdb", tmp_path / "b")
    return {"a": tmp_path / "a.duckdb", "b": tmp_path / "b"}


def clash(there: Path, here: Path) -> None:
    ids = "select run_id from runs order by experiment, seed"
    with duckdb.connect(str(there)) as a, duckdb.connect(str(here)) as b:
        pairs = zip(b.execute(ids).fetchall(), a.execute(ids).fetchall(), strict=True)
        for (old,), (new,) in pairs:
            for table in ORDERS:
                b.execute(f"update {table} set run_id = $1 where run_id = $2", [new, old])
            b.execute("update audits set control_runs = [$1] where list_contains(control_runs, $2)", [new, old])


def rows(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with connect(database) as connection:
        return run_sql(connection, sql).fetchall()


def rounded(value: Any) -> str:
    """A row as text: the order of a sum may change its last digits."""
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, dict):
        return rounded([*value.items()])
    return str([rounded(v) for v in value]) if isinstance(value, list | tuple) else str(value)


def content(database: Path) -> dict[str, list[str]]:
    return {table: sorted(map(str, rows(database, f"from {table}"))) for table in (*ORDERS, "exports")}


@pytest.mark.matrix
def test_two_laboratories_runs_stay_apart_in_every_query_and_nothing_is_lost(
    exports: dict[str, Path], tmp_path: Path
) -> None:
    database, said = tmp_path / "all.duckdb", []
    done = merge([str(exports["a"]), f"b={exports['b']}"], database, said.append)
    assert [(one.label, one.runs, one.what, one.renamed) for one in done] == [("a", 4, "new", 0), ("b", 4, "new", 4)]
    assert any("4 runs of b=" in line for line in said) and any("both is of several" in line for line in said)
    runs = rows(database, "select run_id, split_part(source, '=', 1) from runs")
    assert len(runs) == len({*runs}) == 8
    assert all(run.endswith("@b") == (laboratory == "b") for run, laboratory in runs)
    for table in ("metrics", "layers", "tags", "audits"):
        held = rows(database, f"select count(*) from {table}")[0][0]
        assert held == sum(rows(path, f"select count(*) from {table}")[0][0] for path in exports.values()) > 0
    values = rows(database, "select distinct value::varchar from metrics order by all")
    assert {v for (v,) in values} >= {"nan", "inf", "-inf"}
    named = rows(database, "select run_id, unnest(control_runs) from audits where len(control_runs) > 0")
    assert named and all(run.endswith("@b") == control.endswith("@b") for run, control in named)
    with connect(database) as connection:
        cells = ask(connection, queries()["cross_seed"], "both").project("also, n, accuracy_mean")
        assert {also: mean for also, n, mean in cells.fetchall() if n == 2} == {
            f"laboratory={laboratory}": accuracy for laboratory, accuracy in ACCURACY.items()
        }


@pytest.mark.matrix
def test_a_merge_again_changes_nothing_and_a_newer_export_replaces_its_own_rows(
    stores: dict[str, str], exports: dict[str, Path], tmp_path: Path
) -> None:
    database = tmp_path / "all.duckdb"
    given = [str(path) for path in exports.values()]
    merge(given, database)
    before = content(database)
    assert {one.what for one in merge(given[::-1], database)} == {"held"} and content(database) == before
    merge([str(database)], tmp_path / "again.duckdb")
    assert content(tmp_path / "again.duckdb") == before

    client = MlflowClient(stores["a"])
    gone = client.search_runs([client.get_experiment_by_name("only a").experiment_id])[0].info.run_id
    client.delete_run(gone)
    newer = tmp_path / "another_name.duckdb"  # the same store: it is known by its address and runs
    export(newer, stores["a"])
    (done,) = merge([str(newer)], database)
    assert (done.label, done.what, done.runs) == ("a", "newer", 3)
    after = content(database)
    assert [row for row in before["runs"] if gone not in row or "@b" in row] == after["runs"]
    (done,) = merge([str(exports["a"])], database)
    assert done.what == "older" and content(database) == after
    client.restore_run(gone)


def test_what_could_not_be_told_apart_is_refused_and_the_database_stays(
    exports: dict[str, Path], stores: dict[str, str], tmp_path: Path
) -> None:
    database, other = tmp_path / "all.duckdb", tmp_path / "elsewhere" / "a.duckdb"
    merge([str(exports["a"])], database)
    before = database.read_bytes()
    other.parent.mkdir()
    with duckdb.connect(str(other)) as connection:
        connection.execute(f"attach '{tmp_path / 'b.duckdb'}' as b (read_only)")
        connection.execute("copy from database b to a")
    for given, message in {
        str(other): "would be called a",
        f"a b={other}": "no name of a laboratory",
        f"x={database}": "into",
        str(tmp_path / "nothing.duckdb"): "there is no database",
    }.items():
        with pytest.raises(UsageError, match=message):
            merge([given], database)
    with duckdb.connect(str(other)) as connection:
        connection.execute("update runs set source = $1, run_id = 'x' || run_id", [stores["a"]])
        connection.execute("update exports set source = $1", [stores["a"]])
    with pytest.raises(UsageError, match="share none"):
        merge([f"a={other}"], database)
    with duckdb.connect(str(other)) as connection:
        connection.execute("update schema_digest set digest = 'older'")
    with pytest.raises(UsageError, match="another version"):
        merge([f"b={other}"], database)
    with pytest.raises(UsageError, match="merge that"):
        export(database, stores["a"])
    assert database.read_bytes() == before


def test_a_store_under_two_addresses_is_exported_once(stores: dict[str, str], tmp_path: Path) -> None:
    database, uri = tmp_path / "r.duckdb", stores["a"]
    export(database, uri)
    before = content(database)
    moved = uri.replace("sqlite:///", "sqlite+pysqlite:///")
    export(database, moved)
    after = content(database)
    assert after["metrics"] == before["metrics"] and len(after["runs"]) == len(before["runs"])
    assert sorted(rows(database, "select runs, metrics from exports")) == [(0, 0), (4, 16)]


@pytest.mark.matrix
def test_links_lead_to_the_run_in_its_own_store(exports: dict[str, Path], tmp_path: Path) -> None:
    with duckdb.connect(str(exports["a"])) as connection:
        connection.execute("update runs set source = 'http://a.example:5000'")
    database, page = tmp_path / "all.duckdb", tmp_path / "page.html"
    merge([str(exports["b"]), str(exports["a"])], database)
    (run,) = rows(database, "select run_id from runs where run_id like '%@a' limit 1")[0]
    (experiment,) = rows(database, f"select experiment from runs where run_id = '{run}'")[0]
    write_html(experiment, page, database)
    assert f'http://a.example:5000/#/runs/{run.removesuffix("@a")}"' in page.read_text()


@pytest.mark.matrix
def test_folders_of_parquet_are_read_where_they_lie_and_answer_as_a_database(
    stores: dict[str, str], tmp_path: Path
) -> None:
    database = tmp_path / "a.duckdb"
    export(database, stores["a"])
    (tmp_path / "copies").mkdir()
    write_parquet(database, tmp_path / "copies" / "a")
    for path in (tmp_path / "copies" / "a", tmp_path / "cop*" / "*"):
        assert rows(path, "select count(*) from runs") == [(4,)]
    with connect(database) as there, connect(tmp_path / "copies") as here:
        assert here.sql("select count(*) from duckdb_tables() where table_name = 'metrics'").fetchall() == [(0,)]
        for query in queries().values():
            one, two = (ask(c, query, "both").fetchall() for c in (there, here))
            assert sorted(map(rounded, one)) == sorted(map(rounded, two)), query.name
    inside = next((tmp_path / "copies").rglob("runs/*/data.parquet"))
    before = inside.read_bytes()
    with connect(tmp_path / "copies") as connection:
        for sql in (
            f"with x as (copy (select 1) to '{inside}' (use_tmp_file false)) from x",
            f"explain analyze copy (select 1) to '{inside}' (use_tmp_file false)",
            f"from read_text('{Path(__file__)}')",
            "set enable_external_access = true",
        ):
            with pytest.raises((UsageError, FATrackError)):
                run_sql(connection, sql).fetchall()
    assert inside.read_bytes() == before


def test_folders_that_hold_one_experiment_are_merged_before_they_are_asked(
    exports: dict[str, Path], tmp_path: Path, cli: Cli
) -> None:
    (tmp_path / "x").mkdir()
    for name in ("a", "b"):
        write_parquet(tmp_path / f"{name}.duckdb", tmp_path / "x" / name)
    asked = cli("query", "cross_seed", "--experiment", "both", "--db", str(tmp_path / "x"))
    assert asked.returncode == 2 and "fa-track merge" in asked.stderr and asked.stderr.count("\n") == 1
    done = cli("merge", str(tmp_path / "x" / "a"), str(tmp_path / "x" / "b"), "--db", str(tmp_path / "all.duckdb"))
    assert done.returncode == 0 and "b: 4 runs, new" in done.stdout and "Traceback" not in done.stderr
    again = cli("query", "cross_seed", "--experiment", "both", "--db", str(tmp_path / "all.duckdb"), "--format", "csv")
    assert "laboratory=a" in again.stdout and "laboratory=b" in again.stdout
