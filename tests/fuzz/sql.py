"""`fa-track sql`: statements that would read files, write, attach, install or change a setting."""

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fa_tracking.results.database import run_sql, sql_errors

from . import _database
from ._values import texts

TITLE = "SQL of users"
WEIGHT = 8

FUNCTIONS = ["read_csv", "read_text", "read_blob", "read_json", "read_parquet", "parquet_scan", "glob", "sniff_csv"]
FUNCTIONS += [
    "read_csv_auto",
    "read_ndjson",
    "parquet_metadata",
    "sqlite_scan",
    "arrow_scan",
    "query",
    "query_table",
    "getenv",
]
STATEMENTS = [
    "select * from {f}('{p}')",
    "from '{p}'",
    'from "{p}"',
    "select * from '{p}' union all select 1",
    "select (select string_agg(column0, '') from {f}('{p}'))",
    "copy runs to '{p}x'",
    "copy (select 1) to '{p}x' (format csv)",
    "copy runs from '{p}'",
    "attach '{p}' as other",
    "attach ':memory:' as other",
    "install httpfs",
    "load httpfs",
    "load '{p}'",
    "export database '{p}'",
    "import database '{p}'",
    "set enable_external_access = true",
    "set allowed_directories = ['/']",
    "reset lock_configuration",
    "pragma enable_external_access",
    "pragma database_list",
    "call {f}('{p}')",
    "create table t as select 1",
    "create temp table t as from '{p}'",
    "create macro m() as table from '{p}'",
    "create secret s (type s3)",
    "insert into runs by name select 'x' as run_id",
    "update runs set method = 'x'",
    "delete from runs",
    "drop table runs",
    "prepare p as select * from '{p}'",
    "execute p",
    "explain analyze select * from {f}('{p}')",
    "select 1; select * from '{p}'",
    "checkpoint",
    "vacuum",
    "use memory",
    "begin transaction",
    "select * from {f}(getvariable('p'))",
    "set variable p = '{p}'",
    "select getenv('HOME')",
    "select current_setting('{f}')",
    "with r as (from '{p}') from r",
    "select * from duckdb_secrets()",
    "describe '{p}'",
    "summarize '{p}'",
    "pivot '{p}' on a",
    "{t}",
    "select {t}",
    "select * from {t}",
]


def inputs() -> st.SearchStrategy[str]:
    _database.connection()
    places = st.sampled_from(
        ["{secret}", "/etc/passwd", "/*", "s3://b/x.parquet", "https://127.0.0.1/x.csv", "file:/etc/passwd"]
    )
    return st.builds(
        lambda statement, f, p, t: statement.replace("{f}", f).replace("{p}", p).replace("{t}", t),
        st.sampled_from(STATEMENTS),
        st.sampled_from(FUNCTIONS),
        places,
        texts,
    )


def feed(value: str, folder: Path) -> None:
    secret = _database.folder() / "secret.csv"
    connection = _database.connection()
    before = {path.name for path in _database.folder().iterdir()}
    rows: list[Any] = []
    try:
        with sql_errors():
            rows = run_sql(connection, value.replace("{secret}", str(secret))).limit(100).fetchall()
    finally:
        assert {path.name for path in _database.folder().iterdir()} == before
        assert not any(folder.iterdir())
    shown = str(rows)
    assert _database.SECRET not in shown
    assert "root:" not in shown
    assert "passwd" not in shown or "passwd" in value
