"""Opens the results database and asks the questions of the query catalogue."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fa_tracking import catalogue
from fa_tracking.errors import FATrackError, UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

DEFAULT_DATABASE = "fa_results.duckdb"


@dataclass(frozen=True)
class Query:
    """One file of ``queries/``. Its header is its documentation.

    Attributes:
        params: the named parameters, ``$name`` in the SQL.
        columns: the columns of the answer, in order.
    """

    name: str
    title: str
    params: tuple[str, ...]
    columns: tuple[str, ...]
    sql: str


def connect(path: str | Path = DEFAULT_DATABASE) -> "DuckDBPyConnection":
    """A read-only connection that can reach nothing outside the database: no files, no extensions, no network.

    Args:
        path: a database file, or a folder of its tables as ``<table>.parquet``.

    Raises:
        UsageError: there is no such file or folder.
        FATrackError: it is locked by a writer, or is no database.
    """
    import duckdb

    folder = Path(path).is_dir()
    if not folder and not Path(path).is_file():
        raise UsageError(f"there is no database {path}: write it with `fa-track export --db {path}`")
    try:
        connection = _from_parquet(Path(path)) if folder else duckdb.connect(str(path), read_only=True)
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
    except duckdb.Error as error:
        raise FATrackError(f"the database {path} cannot be opened: {first_line(error)}") from error
    return connection


def _from_parquet(folder: Path) -> "DuckDBPyConnection":
    """The tables of a folder in memory."""
    import duckdb

    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise UsageError(f"the folder {folder} holds no tables as Parquet")
    connection = duckdb.connect()
    for file in files:
        connection.execute(f'create table "{file.stem}" as select * from read_parquet($file)', {"file": str(file)})
    return connection


@cache
def queries() -> dict[str, Query]:
    """The catalogue, by name: every file of ``queries/``."""
    return {path.stem: _parse(path) for path in sorted(catalogue.folder("queries").glob("*.sql"))}


def find_query(name: str) -> Query:
    """The query ``name``.

    Raises:
        UsageError: there is none; the message lists what there is.
    """
    if name not in queries():
        raise UsageError(f"no query named {name!r}; there are: {', '.join(queries())}")
    return queries()[name]


def ask(connection: "DuckDBPyConnection", query: Query, params: Mapping[str, Any]) -> "DuckDBPyRelation":
    """The answer of a query of the catalogue.

    Raises:
        UsageError: a parameter is missing, or the experiment is not in the database.
    """
    missing = [p for p in query.params if params.get(p) is None]
    if missing:
        raise UsageError(f"the query {query.name!r} needs {' and '.join(f'--{p}' for p in missing)}")
    if "experiment" in query.params:
        known = [row[0] for row in connection.execute("select distinct experiment from runs order by 1").fetchall()]
        if params["experiment"] not in known:
            raise UsageError(
                f"the database holds no experiment {params['experiment']!r}; it holds: {', '.join(known) or 'none'}"
                " (`fa-track export` brings it up to date)"
            )
    return run_sql(connection, query.sql, {p: params[p] for p in query.params})


def run_sql(connection: "DuckDBPyConnection", sql: str, params: Mapping[str, Any] | None = None) -> "DuckDBPyRelation":
    """The answer to one SQL statement.

    Raises:
        UsageError: the statement is wrong, or would write.
        FATrackError: it failed while it ran.
    """
    with sql_errors():
        if len(connection.extract_statements(sql)) != 1:
            raise UsageError("SQL: give one statement at a time")
        relation = connection.sql(sql, params=dict(params)) if params else connection.sql(sql)
        if relation is None:
            raise UsageError("SQL: the statement gives no rows; the database is read-only")
        return relation


@contextmanager
def sql_errors() -> Iterator[None]:
    """Turn what DuckDB says of a statement, now or when its rows are fetched, into one line."""
    import duckdb

    try:
        yield
    except (duckdb.ProgrammingError, duckdb.PermissionException, duckdb.DataError) as error:
        raise UsageError(f"SQL: {first_line(error)}") from error
    except duckdb.Error as error:
        raise FATrackError(f"SQL: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


_HEADER = re.compile(r"^-- (title|params|columns):[ ]*(.*)$", re.MULTILINE)


def _parse(path: Path) -> Query:
    sql = path.read_text()
    header = dict(_HEADER.findall(sql))
    lists = {key: tuple(filter(None, re.split(r"[,\s]+", header.get(key, "")))) for key in ("params", "columns")}
    return Query(path.stem, header.get("title", path.stem), lists["params"], lists["columns"], sql)
