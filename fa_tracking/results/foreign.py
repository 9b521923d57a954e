"""What another laboratory's database file may hold: tables, as this version writes them, and nothing that runs.

A view in the place of a table, a generated column or a function that stands before one of DuckDB's own would be run by
whoever reads the file, with what that person may read. Names count without case, as they do for DuckDB.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.errors import UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TABLES = "select table_name, sql from duckdb_tables() where database_name = $1 and schema_name = 'main'"
SETTINGS = ("enable_external_access", "autoinstall_known_extensions", "autoload_known_extensions")
FUNCTIONS = "select function_name from duckdb_functions() where database_name = $1 and not internal"


def opened(path: Path) -> "DuckDBPyConnection":
    """A read-only connection to a database file, which reaches nothing outside it from its beginning.

    The path is made absolute: DuckDB takes ``md:x``, ``postgres:x`` or ``s3:x`` for an address elsewhere.
    """
    import duckdb

    named = str(path.absolute())
    # DuckDB takes what stands behind a question mark for no part of a file's name, and looks elsewhere for its log
    off: dict[str, str | bool | int | float | list[str]] = {} if "?" in named else dict.fromkeys(SETTINGS, "false")
    connection = duckdb.connect(named, read_only=True, config=off)
    shut_off(connection)
    return connection


def shut_off(connection: "DuckDBPyConnection") -> None:
    """From here on the connection reaches nothing outside the files that it has open: no file, extension or network.

    What another connection of this process has shut off already may be locked, and stays as it is.
    """
    for setting in SETTINGS:
        ((is_on,),) = connection.execute(f"select current_setting('{setting}')").fetchall()
        if is_on:
            connection.execute(f"set {setting} = false")


def refuse_what_is_no_table(connection: "DuckDBPyConnection", path: Path, database: str | None = None) -> None:
    """Hold the tables of an open file against those of ``schema.sql``, without reading from them.

    Args:
        path: of the file, for the message.
        database: its name in the connection; the one that is in use where None.

    Raises:
        UsageError: a table is a view or is made otherwise, or there is a function of others.
    """
    if database is None:
        ((database,),) = connection.execute("select current_database()").fetchall()
    found = dict(connection.execute(TABLES, [database]).fetchall())
    wrong = [name for name, sql in _tables().items() if found.get(name) != sql]
    if wrong:
        raise UsageError(f"{path} holds no table {', '.join(wrong)} as `fa-track export` makes it: it is not read")
    made = {name.lower() for (name,) in connection.execute(FUNCTIONS, [database]).fetchall()}
    if others := sorted(made - _functions()):
        said = ", ".join(others)
        raise UsageError(f"{path} holds functions that `fa-track export` does not make ({said}): it is not read")


@cache
def _tables() -> dict[str, str]:
    """The tables of this version, by name, as DuckDB writes them down."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text(encoding="utf-8"))
        return dict(connection.execute(TABLES, ["memory"]).fetchall())


@cache
def _functions() -> set[str]:
    """The names of the functions of this version, in lower case."""
    import duckdb

    from fa_tracking.results.database import create_views

    with duckdb.connect() as connection:
        connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text(encoding="utf-8"))
        create_views(connection)
        return {name.lower() for (name,) in connection.execute(FUNCTIONS, ["memory"]).fetchall()}
