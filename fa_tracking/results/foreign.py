"""What another laboratory's database file may hold: the tables that this version writes, their rows, and nothing else.

A view, a trigger, a default or a function that stands before one of DuckDB's own would be run by whoever uses the file,
with what that person may read. So a file is looked at before it is used: attached to an empty database, in which its
own names stand before nobody's, on a connection that reaches nothing but this file.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.errors import UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SETTINGS = ("enable_external_access", "autoinstall_known_extensions", "autoload_known_extensions")

HELD = "held"
"""The name of the file that is looked at."""

LOGS = ("", ".wal", ".wal.checkpoint", ".wal.recovery")
"""What DuckDB opens together with a file."""

TABLES = "select table_name, sql from system.main.duckdb_tables() where database_name = $1 and schema_name = 'main'"
FUNCTIONS = """
select lower(function_name), function_type from system.main.duckdb_functions()
where database_name = $1 and not internal
"""
COLUMNS = """
select table_name, column_name, data_type, is_nullable
from system.main.duckdb_columns() where database_name = 'memory' order by table_name, column_index
"""
KEYS = """
select table_name, constraint_column_names from system.main.duckdb_constraints()
where database_name = 'memory' and constraint_type = 'PRIMARY KEY'
"""

OTHERS = {
    "schema": "select schema_name from system.main.duckdb_schemas() where database_name = $1 and not internal",
    "view": "select view_name from system.main.duckdb_views() where database_name = $1 and not internal",
    "trigger": "select trigger_name from system.main.duckdb_triggers() where database_name = $1",
    "sequence": "select sequence_name from system.main.duckdb_sequences() where database_name = $1",
    "type": "select type_name from system.main.duckdb_types() where database_name = $1 and not internal",
    "index": "select index_name from system.main.duckdb_indexes() where database_name = $1",
    "coordinate system": "select crs_name from system.main.duckdb_coordinate_systems() where database_name = $1",
}
"""What else DuckDB keeps in a file, of which an export makes none."""

KINDS = "select function_name from system.main.duckdb_functions() where starts_with(function_name, 'duckdb_')"

SMALL = ("exports", "schema_digest", "marks", "runs", "params", "tags", "knockouts", "functional", "audits")
"""Tables whose rows are looked at each time; those of the others where they are taken over."""

FIRST, LAST = "0001-01-01", "9999-12-31 23:59:59.999999"
"""The times that Python and every export can tell; an infinite one is none of them."""


def opened(path: Path) -> "DuckDBPyConnection":
    """A read-only connection to a database file, which reaches nothing outside it from its beginning.

    The path is made absolute: DuckDB takes ``md:x``, ``postgres:x`` or ``s3:x`` for an address elsewhere.
    """
    import duckdb

    named = str(path.resolve())
    # DuckDB takes what stands behind a question mark for no part of a file's name, and looks elsewhere for its log
    off: dict[str, str | bool | int | float | list[str]] = {} if "?" in named else dict.fromkeys(SETTINGS, "false")
    connection = duckdb.connect(named, read_only=True, config=off)
    shut_off(connection)
    return connection


@contextmanager
def beside(path: Path, folder: Path | None = None) -> "Iterator[DuckDBPyConnection]":
    """An empty database with the file ``path`` attached as ``HELD``, which reaches nothing else; and may write into
    ``folder``, where one is given.
    """
    import duckdb

    with duckdb.connect() as connection:
        if folder:
            connection.execute(f"set allowed_directories = {texts([str(folder.absolute())])}")
        shut_off(connection, opens(path))
        connection.execute(attaching(path, HELD))
        yield connection


def shut_off(connection: "DuckDBPyConnection", readable: Sequence[str] = ()) -> None:
    """From here on the connection reaches nothing outside the files that it has open, and those that are named: no
    other file, no extension, no network.

    What another connection of this process has shut off already may be locked, and stays as it is.
    """
    if readable:
        connection.execute(f"set allowed_paths = {texts(readable)}")
    for setting in SETTINGS:
        ((is_on,),) = connection.execute(f"select current_setting('{setting}')").fetchall()
        if is_on:
            connection.execute(f"set {setting} = false")


def opens(path: Path) -> list[str]:
    """The files that DuckDB opens where it opens ``path``; it puts what it adds to a name before a question mark."""
    begins, mark, rest = str(path.resolve()).partition("?")
    return [f"{begins}{log}{mark}{rest}" for log in LOGS]


def attaching(path: Path, name: str) -> str:
    """The statement that opens a database file under a name, to be read alone."""
    return f"attach {_text(str(path.resolve()))} as {name} (read_only)"


def refuse_what_is_no_table(connection: "DuckDBPyConnection", path: Path, database: str = HELD) -> None:
    """Hold what a file has in it against what an export makes, without reading from it.

    Args:
        path: of the file, for the message.
        database: its name in the connection, whose own database is another one.

    Raises:
        UsageError: a table is a view or is made otherwise, or there is anything but the tables and functions.
    """
    found = dict(connection.execute(TABLES, [database]).fetchall())
    wrong = [name for name, sql in made().tables.items() if found.get(name) != sql]
    if wrong:
        raise UsageError(f"{path} holds no table {', '.join(wrong)} as `fa-track export` makes it: it is not read")
    functions = set(connection.execute(FUNCTIONS, [database]).fetchall())
    others = [f"the function {name}" for name, _ in sorted(functions - _functions())]
    others += [f"the table {name}" for name in sorted(found.keys() - made().tables.keys())]
    known = {name for (name,) in connection.execute(KINDS).fetchall()}
    for kind, asked in OTHERS.items():
        if asked.split("system.main.")[1].partition("(")[0] in known:  # an earlier DuckDB has fewer kinds
            others += [f"the {kind} {name}" for (name,) in connection.execute(asked, [database]).fetchall()]
    if others:
        said = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise UsageError(
            f"{path} holds what `fa-track export` does not make ({said}): it is not used; drop it, or give another"
        )


def refuse_wrong_rows(connection: "DuckDBPyConnection", path: Path, schema: str, asked: Iterable[str]) -> None:
    """Refuse rows that no export writes, for they would break a query or a merge later.

    Args:
        path: for the message.
        schema: where the tables stand, with its dot; empty where they are those in use.
        asked: names of tables.

    Raises:
        UsageError: a time is infinite or beyond what can be told, a column that is never empty is, or a key stands
            there twice.
    """
    for table in asked:
        tests = {}
        for name, kind, is_nullable in made().columns[table]:
            if not is_nullable:
                tests[f"no {name}"] = f"{name} is null"
            if kind == "TIMESTAMP":
                tests[f"times outside the years 1 to 9999 ({name})"] = (
                    f"not ({name} between timestamp '{FIRST}' and timestamp '{LAST}')"
                )
        if table == "exports":
            tests["times that are yet to come (exported_at)"] = (
                "exported_at > now() at time zone 'UTC' + interval 1 day"
            )
        counts = ", ".join(f"count(*) filter ({test})" for test in tests.values())
        found = connection.execute(f"select {counts} from {schema}{table}").fetchone() or ()
        for what, number in zip(tests, found, strict=True):
            if number:
                raise UsageError(f"{path} is not read: {number} rows of {table} have {what}; export it anew")
        if key := ", ".join(made().keys.get(table, ())):
            twice = f"select 1 from {schema}{table} group by {key} having count(*) > 1 limit 1"
            if connection.execute(twice).fetchone():
                raise UsageError(f"{path} holds too much: rows of {table} stand there twice ({key}); copy it anew")


@dataclass(frozen=True)
class Made:
    """What an export makes.

    Attributes:
        tables: by name, as DuckDB writes them down.
        columns: of each table: name, type and whether it may be NULL.
        keys: the columns by which the rows of a table are told apart.
    """

    tables: Mapping[str, str]
    columns: Mapping[str, Sequence[tuple[str, str, bool]]]
    keys: Mapping[str, Sequence[str]]


@cache
def made() -> Made:
    """What this version makes."""
    with _empty() as connection:
        tables = dict(connection.execute(TABLES, ["memory"]).fetchall())
        columns = connection.execute(COLUMNS).fetchall()
        keys = dict(connection.execute(KEYS).fetchall())
    return Made(tables, {name: [row[1:] for row in columns if row[0] == name] for name in tables}, keys)


@cache
def _functions() -> set[tuple[str, str]]:
    """The names of the functions of this version, in lower case, and whether they give a value or a table."""
    from fa_tracking.results.views import create_views

    with _empty() as connection:
        create_views(connection)
        return set(connection.execute(FUNCTIONS, ["memory"]).fetchall())


@contextmanager
def _empty() -> "Iterator[DuckDBPyConnection]":
    """A database of this version without a row."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text(encoding="utf-8"))
        yield connection


def texts(values: Iterable[str]) -> str:
    """A list of texts in SQL."""
    return f"[{', '.join(map(_text, values))}]"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
