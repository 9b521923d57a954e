"""Replaces a results database as a whole, so that a reader never sees half of one; and no other file."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.errors import FATrackError, UsageError, first_line
from fa_tracking.results.files import must_be_folder
from fa_tracking.results.foreign import HELD, TABLES, beside, made, refuse_what_is_no_table, shut_off
from fa_tracking.results.views import create_views
from fa_tracking.scratch import scratch

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAGIC = slice(8, 12)
"""Where a file of DuckDB's says that it is one."""

MEMORY, MEMORY_A_RUN = 175_000_000, 6_000
"""DuckDB's own share in bytes. Beyond the first it sorts on disk; the keys of runs, params and tags it must hold."""


def fits(connection: "DuckDBPyConnection", schema: str = "") -> bool:
    """Whether a database, or a folder of its tables, was made by this version of fa-track.

    Args:
        schema: where its tables stand, with its dot; empty where they are those in use.
    """
    import duckdb

    try:
        return connection.execute(f"from {schema}schema_digest").fetchall() == [(_digest(schema_sql()),)]
    except duckdb.CatalogException:
        return False


def made_here(connection: "DuckDBPyConnection") -> tuple[bool, bool]:
    """Whether the file that a connection has as ``HELD`` is a results database, and one of this version.

    Its tables alone are read: what else it has of these names would run.
    """
    found = dict(connection.execute(TABLES, [HELD]).fetchall())
    is_told = found.get("schema_digest") == made().tables["schema_digest"]
    return "exports" in found, is_told and fits(connection, f"{HELD}.main.")


def refuse_other_files(database: Path) -> None:
    """Never put a database in the place of somebody's other file."""
    import duckdb

    if not database.name or database.name.startswith(":") or database.is_dir():
        raise UsageError(f"{str(database)!r} is no file name for a database")
    must_be_folder(database.parent)
    log = database.with_name(f"{database.name}.wal")
    if log.exists():
        raise UsageError(
            f"{log} holds what was not yet written into {database}: another process is writing it, or was killed; open "
            "it once with DuckDB, or delete the .wal"
        )
    if not database.is_file():
        return
    try:
        with beside(database) as connection:
            is_made_here, is_current = made_here(connection)
            if is_current:
                refuse_what_is_no_table(connection, database)
        if not is_made_here:
            raise UsageError(f"{database} is no results database, and will not be replaced: give another --db")
    except duckdb.Error as error:
        if isinstance(error, duckdb.IOException) and is_duckdb(database):  # such as one that a process is writing
            raise FATrackError(f"the database {database} cannot be opened: {first_line(error)}") from error
        raise UsageError(f"{database} is no results database, and will not be replaced: give another --db") from error
    if not is_current:
        raise UsageError(f"{database} was written by another version of fa-track: delete it, or give another --db")


def is_duckdb(path: Path) -> bool:
    """Whether a file begins as DuckDB's do."""
    with path.open("rb") as file:
        return file.read(MAGIC.stop)[MAGIC] == b"DUCK"


def allow_memory(connection: "DuckDBPyConnection", runs: int) -> None:
    """Let DuckDB take what ``runs`` more runs need."""
    (held,) = connection.execute("select count(*) from runs").fetchone() or (0,)
    connection.execute(f"set memory_limit = '{MEMORY + MEMORY_A_RUN * (held + runs)}B'")


@contextmanager
def replacing(database: Path, readable: Sequence[str] = ()) -> "Iterator[DuckDBPyConnection]":
    """A connection to a copy of ``database``, new where there is none, that takes its place at the end.

    It reaches nothing else but the files that are named.
    """
    import duckdb

    database = database.resolve()  # of a link, the file that it leads to
    try:
        with ExitStack() as stack:
            aside = stack.enter_context(scratch(database.parent))
            # DuckDB takes what stands behind a question mark for no part of a file's name, and loses its log
            is_odd = "?" in str(database.absolute())
            fresh = (stack.enter_context(scratch()) if is_odd else aside) / "new.duckdb"
            is_new = not database.is_file()
            if not is_new:
                shutil.copyfile(database, fresh)
                with beside(fresh) as connection:
                    refuse_what_is_no_table(connection, database)
            with duckdb.connect(str(fresh)) as connection:
                shut_off(connection, readable)
                if is_new:
                    connection.execute(schema_sql())
                    connection.execute("insert into schema_digest values ($1)", [_digest(schema_sql())])
                create_views(connection)  # before anything is asked that theirs could answer
                allow_memory(connection, 0)
                yield connection
            if not is_new:
                shutil.copymode(database, fresh)
            if is_odd:
                fresh = Path(shutil.copy(fresh, aside / fresh.name))
            fresh.replace(database)
    except (duckdb.Error, OSError) as error:
        raise FATrackError(f"the database {database} could not be written: {first_line(error)}") from error


def schema_sql() -> str:
    return files("fa_tracking.results").joinpath("schema.sql").read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
