"""Several exports, of several stores or laboratories, in one database.

Each store keeps its own runs under its laboratory and address, ``LABORATORY=URI`` in ``runs.source``. The laboratory is
a param of each of its runs as well, ``laboratory``, and so a part of the cell: no query takes runs of two laboratories
for seeds of one cell. A run whose id another store's run has already is ``ID@LABORATORY``.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.errors import UsageError
from fa_tracking.results.database import DEFAULT_DATABASE, connect
from fa_tracking.results.export.replace import allow_memory, fits, made_here, refuse_other_files, replacing
from fa_tracking.results.export.source import LABELLED, store_of
from fa_tracking.results.export.take import Merged, shared_runs, take
from fa_tracking.results.folders import create_tables, find_folders, readable
from fa_tracking.results.foreign import (
    HELD,
    SMALL,
    attaching,
    beside,
    made,
    opens,
    refuse_what_is_no_table,
    refuse_wrong_rows,
)
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LABEL = re.compile(r"\w[\w.-]*")


def merge(
    exports: Sequence[str], database: str | Path = DEFAULT_DATABASE, say: Callable[[str], None] = lambda message: None
) -> list[Merged]:
    """Bring ``exports`` into ``database``, which is made or, where it exists, kept and added to.

    A newer export of a store replaces its older rows; the same one twice changes nothing. The database is replaced as
    a whole at the end.

    Args:
        exports: database files and folders of Parquet, each as ``PATH`` or ``LABORATORY=PATH``; without a name, the
            laboratory is called as the file is. Stores of one laboratory are taken together.
        say: takes a line for the person at the terminal.

    Raises:
        UsageError: there is no such export, it is of another version, or a name is missing or given twice.
        FATrackError: the database cannot be written.
    """
    refuse_other_files(Path(database))
    given = [_named(export) for export in exports]
    for _, path in given:
        _refuse_unfit(path, Path(database))
    read = [file for _, path in given for file in (opens(path) if path.is_file() else readable(find_folders(path)))]
    with replacing(Path(database), read) as connection:
        refuse_wrong_rows(connection, Path(database), "main.", SMALL)
        done = []
        for label, path in given:
            with _arriving(connection, path):
                done += _take_all(connection, label, path, say)
        _say_shared(connection, say)
    return done


def refuse_own_sources(exports: Sequence[str], folder: str | Path) -> None:
    """Never put the copy of a merged database in the place of an export that it is made of.

    Raises:
        UsageError: ``folder`` is one of them, or stands in one, or the other way round.
    """
    made = Path(folder).resolve()
    for source in (_named(export)[1].resolve() for export in exports):
        if made.is_relative_to(source) or source.is_relative_to(made):
            raise UsageError(f"{folder} would take the place of the export {source}: give --parquet a new folder")


def _named(export: str) -> tuple[str | None, Path]:
    """The laboratory, where one is given, and the path."""
    label, equals, path = export.partition("=")
    if Path(export).exists() or not equals:
        return None, Path(export)
    if not LABEL.fullmatch(label):
        raise UsageError(f"{label!r} is no name of a laboratory: letters, digits, and then also . _ -")
    return label, Path(path)


def _refuse_unfit(path: Path, database: Path) -> None:
    if path.resolve() == database.resolve():
        raise UsageError(f"{path} is the database that is merged into: it need not be named")
    with connect(path) as connection:
        is_told = connection.execute("select 1 from schema_digest").fetchone() if not path.is_file() else None
        is_current = not is_told or fits(connection)
    if path.is_file():
        with beside(path) as connection:
            if is_current := made_here(connection)[1]:
                refuse_what_is_no_table(connection, path)
    if not is_current:
        raise UsageError(f"{path} was written by another version of fa-track: export it again with this one")


@contextmanager
def _arriving(connection: "DuckDBPyConnection", path: Path) -> Iterator[None]:
    """The tables of an export as ``arriving.TABLE``."""
    connection.execute("attach ':memory:' as arriving")
    if path.is_file():
        connection.execute(attaching(path, HELD))
        refuse_what_is_no_table(connection, path)  # it may be another file than the one that was looked at before
        for table in made().tables:
            connection.execute(f"create view arriving.{table} as from {HELD}.main.{table}")
    else:
        (home,) = connection.execute("select current_database()").fetchone() or ("",)
        connection.execute("use arriving")
        create_tables(connection, find_folders(path))
        connection.execute(f'use "{home}"')
    try:
        refuse_wrong_rows(connection, path, "arriving.", made().tables)
        yield
    finally:
        connection.execute("detach arriving")
        if path.is_file():
            connection.execute(f"detach {HELD}")


def _take_all(
    connection: "DuckDBPyConnection", label: str | None, path: Path, say: Callable[[str], None]
) -> list[Merged]:
    found = connection.execute("select source, count(*) from arriving.runs group by source order by 1").fetchall()
    allow_memory(connection, sum(runs for _, runs in found))
    if not found:
        say(f"{path} holds no runs")
    done = []
    for source, _ in found:
        if label and LABELLED.match(source):
            raise UsageError(f"{path} is merged already, its laboratories keep their names: leave {label}= out")
        done.append(take(connection, source, _key(connection, label, path, source), path, say))
    return done


def _key(connection: "DuckDBPyConnection", label: str | None, path: Path, source: str) -> str:
    """What a store is called in the database: as before where it holds runs of this very store, else by its label."""
    if LABELLED.match(source):
        return source
    held: list[str] = [key for (key,) in connection.execute("select distinct source from runs order by 1").fetchall()]
    if label is None:
        same = [key for key in held if store_of(key) == source and shared_runs(connection, source, key)]
        if same:
            return same[0]
    name = label or re.sub(r"[^\w.-]+|^\W+", "-", path.resolve().stem).strip("-.") or "laboratory"
    others = [key for key in held if key.startswith(f"{name}=") and key != f"{name}={source}"]
    if label is None and others:
        raise UsageError(
            f"{path} would be called {name}, as {store_of(others[0])} is already: name the laboratories, as in "
            f"theirs={path}"
        )
    return f"{name}={source}"


def _say_shared(connection: "DuckDBPyConnection", say: Callable[[str], None]) -> None:
    """A word on every experiment in which runs of several laboratories stand."""
    shared = connection.execute(
        "select experiment, string_agg(distinct value, ', ' order by value) "
        f"from runs join params using (run_id) where key = '{names.LABORATORY}' "
        "group by experiment having count(distinct value) > 1 order by 1"
    ).fetchall()
    for experiment, laboratories in shared:
        say(f"the experiment {experiment} is of several laboratories, and its cells are each of one: {laboratories}")
