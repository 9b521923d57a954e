"""Opens the results database and asks the questions of the query catalogue."""

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fa_tracking import catalogue
from fa_tracking.errors import FATrackError, StatementError, UsageError, first_line, meant, no_such
from fa_tracking.results.foreign import opened, shut_off
from fa_tracking.results.views import create_views

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

DEFAULT_DATABASE = "fa_results.duckdb"

WRITES = frozenset({"ALTER", "CREATE", "DELETE", "DROP", "INSERT", "MERGE_INTO", "TRANSACTION", "UPDATE", "VACUUM"})

WRITING = frozenset({"copy", "json_execute_serialized_sql"})
"""Words by which a statement of another kind writes."""

SQLITE = b"SQLite format 3\0"

PATTERN = "~"
"""Before a pattern of experiments' names, where the name of one may stand."""

KNOWN = "select distinct experiment, is_asked(experiment, $asked) from runs order by experiment"


@dataclass(frozen=True)
class Query:
    """One file of ``queries/``, asked of an experiment: ``$experiment`` in its SQL. Its header is its documentation.

    Attributes:
        columns: the columns of the answer, in order.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    sql: str

    @property
    def notes(self) -> str:
        """What its header says beyond its title and columns."""
        comments = itertools.takewhile(lambda line: line.startswith("--"), self.sql.splitlines())
        told = (line[2:].strip() for line in comments if not _HEADER.match(line))
        return " ".join(told)


def connect(path: str | Path = DEFAULT_DATABASE) -> "DuckDBPyConnection":
    """Open a read-only connection that reaches nothing outside the database: no files, no extensions, no network.

    Args:
        path: a database file; a folder of its tables, as ``<table>.parquet`` or as ``write_parquet`` lays them out; a
            folder of such folders; or a pattern of their names. Only the folders' files can be read.

    Raises:
        UsageError: there is no such file or folder, it is a SQLite file, or two folders hold one run or experiment.
        FATrackError: it cannot be read, a writer has locked it, or it is not a database.
    """
    import duckdb

    from fa_tracking.results.folders import find_folders, open_folders

    try:
        folders = [] if Path(path).is_file() else find_folders(path)
        if not folders:
            _refuse_other_files(Path(path))
        connection = open_folders(folders) if folders else opened(Path(path))
        if folders:
            create_views(connection)
        shut_off(connection)
        if not connection.execute("select current_setting('lock_configuration')").fetchall()[0][0]:
            connection.execute("set lock_configuration = true")  # once for all connections of a process to one file
    except (duckdb.Error, OSError) as error:
        raise FATrackError(f"the database {path} cannot be opened: {first_line(error)}") from error
    return connection


def _refuse_other_files(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"the folder {path} holds no runs.parquet, nor a folder runs as `export --parquet` writes it")
    if not path.is_file():
        raise UsageError(f"there is no database {path}: write it with `fa-track export --db {path}`")
    with path.open("rb") as file:
        if file.read(len(SQLITE)) == SQLITE:
            raise UsageError(
                f"{path} is a SQLite file, such as MLflow's store: `fa-track export` makes a database of one"
            )


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
        raise UsageError(no_such("query", name, queries()))
    return queries()[name]


def ask(connection: "DuckDBPyConnection", query: Query, experiment: str | None) -> "DuckDBPyRelation":
    """The answer of a query of the catalogue.

    Args:
        experiment: a name, or a tilde and a pattern of names, such as ``~reproduction*``; None: the only one.

    Raises:
        UsageError: no experiment is named where there are several, the database holds no such experiment, is of another
            version, or is no results database.
        FATrackError: the query failed while it ran.
    """
    try:
        if "$experiment" not in query.sql:
            raise UsageError(f"the SQL of the query {query.name!r} has no $experiment, of which it would be asked")
        experiment = experiment or only_experiment(connection)
        refuse_unknown(connection, experiment)
        return run_sql(connection, query.sql, {"experiment": experiment})
    except StatementError as error:  # the catalogue's own SQL is right: the database is another
        raise UsageError(f"{_what_else(connection)}; the query {query.name!r} does not fit: {error}") from error


def only_experiment(connection: "DuckDBPyConnection") -> str:
    """Give the name of the only experiment of a database.

    Raises:
        UsageError: it holds none, or several; the message lists them.
    """
    known = [name for name, _ in run_sql(connection, KNOWN, {"asked": f"{PATTERN}*"}).fetchall()]
    if len(known) == 1:
        return str(known[0])
    if not known:
        raise UsageError("the database holds no run: `fa-track export` brings those of the store")
    raise UsageError(
        f"the database holds several experiments, choose one by --experiment, or several by --experiment-glob: "
        f"{', '.join(known)}"
    )


def _what_else(connection: "DuckDBPyConnection") -> str:
    """What a database is that the catalogue's queries do not fit, and what to do."""
    tables = {name for (name,) in connection.execute("select table_name from information_schema.tables").fetchall()}
    if "exports" not in tables:
        return "the database is no results database, as `fa-track export` writes it: give another --db"
    return (
        "the database was written by another version of fa-track: `fa-track export` brings it up to date, or says that "
        "it must be made anew"
    )


def explain_query(query: Query, experiment: str | None) -> str:
    """The SQL of a query with the experiment as a literal, for any DuckDB client.

    Raises:
        UsageError: the experiment is missing.
    """
    if experiment is None:
        raise UsageError(f"the query {query.name!r} needs --experiment")
    return query.sql.replace("$experiment", "'" + experiment.replace("'", "''") + "'")


def refuse_unknown(connection: "DuckDBPyConnection", experiment: str) -> None:
    """Refuse a name or pattern of experiments that the database does not hold.

    Raises:
        UsageError: always then; the message lists what it holds.
    """
    known = run_sql(connection, KNOWN, {"asked": experiment}).fetchall()
    if not any(asked for _, asked in known):
        names = ", ".join(name for name, _ in known) or "none"
        if any(sign in experiment for sign in "*?[") and not experiment.startswith(PATTERN):
            advice = (
                f"a pattern is asked for by --experiment-glob {shlex.quote(experiment)}, in references by experiment~="
            )
        else:
            advice = "`fa-track export` brings it up to date"
        said = f"{experiment.removeprefix(PATTERN)!r}" if experiment.startswith(PATTERN) else f"{experiment!r}"
        near = meant(experiment, [name for name, _ in known])
        raise UsageError(f"the database holds no experiment {said}{near}; it holds: {names} ({advice})")


def run_sql(connection: "DuckDBPyConnection", sql: str, params: Mapping[str, Any] | None = None) -> "DuckDBPyRelation":
    """The answer to one SQL statement.

    Raises:
        StatementError: the statement is wrong, or would write.
        FATrackError: it failed while it ran.
    """
    with sql_errors():
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise StatementError("SQL: give one statement at a time")
        writes = {statements[0].type.name} & WRITES or _words(sql) & WRITING
        if writes:  # also where the tables are views over files, which a `copy` inside a `with` could reach
            raise StatementError(f"SQL: {min(writes).lower()}: the database is read-only")
        relation = connection.sql(sql, params=dict(params)) if params else connection.sql(sql)
        if relation is None:
            raise StatementError("SQL: the statement gives no rows; the database is read-only")
        return relation


def _words(sql: str) -> set[str]:
    """The keywords and names in a statement, in lower case."""
    import duckdb

    kinds = (duckdb.token_type.keyword, duckdb.token_type.identifier)
    text = sql.encode()  # DuckDB counts bytes
    starts = (offset for offset, kind in duckdb.tokenize(sql) if kind in kinds)
    found = (re.compile(rb'"?(\w+)').match(text, start) for start in starts)
    return {word[1].decode().lower() for word in found if word}


@contextmanager
def sql_errors() -> Iterator[None]:
    """Turn what DuckDB says of a statement, now or when its rows are fetched, into one line."""
    import duckdb

    try:
        yield
    except (duckdb.ProgrammingError, duckdb.PermissionException, duckdb.DataError) as error:
        raise StatementError(f"SQL: {first_line(error)}") from error
    except duckdb.Error as error:
        raise FATrackError(f"SQL: {first_line(error)}") from error


_HEADER = re.compile(r"^-- (title|columns):[ ]*(.*)$", re.MULTILINE)


def _parse(path: Path) -> Query:
    try:
        sql = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FATrackError(f"the query {path.name} is no UTF-8 text: {error.reason} at byte {error.start}") from None
    header = dict(_HEADER.findall(sql))
    columns = tuple(filter(None, re.split(r"[,\s]+", header.get("columns", ""))))
    return Query(path.stem, header.get("title", path.stem), columns, sql)
