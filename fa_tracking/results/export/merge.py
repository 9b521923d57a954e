"""Several exports, of several stores or laboratories, in one database.

Each store keeps its own runs under its laboratory and address, ``LABORATORY=URI`` in ``runs.source``. The laboratory is
a param of each of its runs as well, ``laboratory``, and so a part of the cell: no query takes runs of two laboratories
for seeds of one cell. A run whose id another store's run has already is ``ID@LABORATORY``.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.errors import UsageError
from fa_tracking.results.database import DEFAULT_DATABASE, connect
from fa_tracking.results.export.export import allow_memory, fits, made_here, refuse_other_files, replacing
from fa_tracking.results.export.sources import LABELLED, id_in_store, store_of
from fa_tracking.results.folders import ORDERS, create_tables, find_folders, readable
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

NEWEST = """
select coalesce(
    (select max(exported_at) from {schema}.exports where source = $1),
    (select max(greatest(r.start_time, r.end_time, a.audited_at))
     from {schema}.runs r left join {schema}.audits a using (run_id) where r.source = $1)
)
"""
"""When a store was exported; where a folder does not tell, when its newest run began, ended or was audited."""


@dataclass(frozen=True)
class Merged:
    """What became of one store of one export.

    Attributes:
        label: the laboratory.
        uri: of the store.
        runs: that the export holds of it.
        what: ``new``, ``newer`` (its older rows were replaced), ``held`` (nothing was to be done) or ``older`` (left).
        renamed: runs whose id another store's run has.
    """

    label: str
    uri: str
    runs: int
    what: str
    renamed: int = 0


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
        done.append(_take(connection, source, _key(connection, label, path, source), path, say))
    return done


def _key(connection: "DuckDBPyConnection", label: str | None, path: Path, source: str) -> str:
    """What a store is called in the database: as before where it holds runs of this very store, else by its label."""
    if LABELLED.match(source):
        return source
    held = [key for (key,) in connection.execute("select distinct source from runs order by 1").fetchall()]
    if label is None:
        same = [key for key in held if store_of(key) == source and _shared(connection, source, key)]
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


def _shared(connection: "DuckDBPyConnection", source: str, key: str) -> int:
    """How many runs of a store both the export and the database hold."""
    arriving = connection.execute("select run_id from arriving.runs where source = $1", [source]).fetchall()
    held = connection.execute("select run_id from runs where source = $1", [key]).fetchall()
    return len({id_in_store(run) for (run,) in arriving} & {id_in_store(run) for (run,) in held})


def _take(connection: "DuckDBPyConnection", source: str, key: str, path: Path, say: Callable[[str], None]) -> Merged:
    """Take over one store's rows, under ``key``."""
    label = (LABELLED.match(key) or ["", ""])[1]
    uri = store_of(key)
    ids = [
        run
        for (run,) in connection.execute(
            "select run_id from arriving.runs where source = $1 order by start_time, run_id", [source]
        ).fetchall()
    ]
    newest, held = (_newest(connection, *which) for which in (("arriving", source), ("main", key)))
    has_runs = connection.execute("select 1 from runs where source = $1 limit 1", [key]).fetchone()
    if has_runs and not _shared(connection, source, key):
        raise UsageError(
            f"{path} and the database hold runs of {uri}, and share none of them: where these are two stores, name "
            f"their laboratories apart, as in theirs={path}"
        )
    if held and newest and held >= newest:
        return Merged(label, uri, len(ids), "held" if held == newest else "older")
    if lost := _lost(connection, source, key):
        raise UsageError(
            f"{path} does not tell how much it should hold (exports.parquet), lacks rows of {uri} ({lost}) that "
            "the database has: copy all of it"
        )
    renamed = _rename(connection, key, label, ids)
    _replace_rows(connection, key)
    if label and not LABELLED.match(source):
        _name_laboratory(connection, label)
    connection.execute("delete from exports where source = $1", [key])
    connection.execute(
        "insert into exports by name select $1 as source, coalesce($2, now() at time zone 'UTC') as exported_at, "
        "(select count(*) from renamed) as runs, "
        "(select count(*) from metrics semi join renamed using (run_id)) as metrics",
        [key, newest],
    )
    connection.execute("drop table renamed")
    if renamed:
        first = next(iter(renamed.values()))
        say(
            f"{len(renamed)} runs of {key} have the ids of runs of other stores: they are ID@{label}, as {first}; "
            "where it is one store under two addresses, export it anew under one"
        )
    return Merged(label, uri, len(ids), "newer" if held else "new", len(renamed))


def _lost(connection: "DuckDBPyConnection", source: str, key: str) -> str:
    """What of a store the database has more of than a folder that does not tell how much it should hold."""
    if connection.execute("select 1 from arriving.exports where source = $1", [source]).fetchone():
        return ""  # held against its counts when it was opened
    counted = "select count(*) from {0}{1} semi join (from {0}runs where source = $1) using (run_id)"
    lost = []
    for table in ORDERS:
        (held,) = connection.execute(counted.format("main.", table), [key]).fetchone() or (0,)
        (arriving,) = connection.execute(counted.format("arriving.", table), [source]).fetchone() or (0,)
        missing = held - arriving - (_laboratories(connection, key) if table == "params" else 0)
        if missing > 0:
            lost.append(f"{missing} {table}")
    return ", ".join(lost)


def _laboratories(connection: "DuckDBPyConnection", key: str) -> int:
    """How many runs of a store were given the param that names their laboratory."""
    of_store = "(from runs where source = $1) using (run_id)"
    asked = f"select count(*) from params semi join {of_store} where key = '{names.LABORATORY}'"
    (found,) = connection.execute(asked, [key]).fetchone() or (0,)
    return int(found)


def _newest(connection: "DuckDBPyConnection", schema: str, source: str) -> datetime | None:
    (found,) = connection.execute(NEWEST.format(schema=schema), [source]).fetchone() or (None,)
    return found


def _rename(connection: "DuckDBPyConnection", key: str, label: str, ids: Sequence[str]) -> Mapping[str, str]:
    """The table ``renamed`` (id, run_id), from an export's ids to the database's; those that differ.

    A run keeps the id that the database has given it before.
    """
    import pyarrow as pa

    rows = connection.execute("select run_id, source = $1 from runs", [key]).fetchall()
    before = {id_in_store(run): run for run, is_own in rows if is_own}
    taken = {run for run, is_own in rows if not is_own}
    found = {}
    for run in ids:
        known = before.get(id_in_store(run))
        suffixed = (f"{run}@{label}{'' if i == 1 else f'.{i}'}" for i in count(1))
        found[run] = known or next(c for c in chain([run], suffixed) if c not in taken)
        taken.add(found[run])
    connection.register(
        "pairs", pa.table({"id": pa.array(ids, pa.string()), "run_id": pa.array(found.values(), pa.string())})
    )
    connection.execute("create temp table renamed as from pairs")
    connection.unregister("pairs")
    return {run: new for run, new in found.items() if run != new}


def _replace_rows(connection: "DuckDBPyConnection", key: str) -> None:
    """The rows of the runs in ``renamed``, in the place of all that the database holds under ``key``."""
    for table in [table for table in ORDERS if table != "runs"] + ["runs"]:
        connection.execute(f"delete from {table} where run_id in (select run_id from runs where source = $1)", [key])
    connection.execute("delete from marks where source = $1", [key])
    for table in ORDERS:
        source = ", $1 as source" if table == "runs" else ""
        connection.execute(
            f"insert into {table} by name select a.* replace (n.run_id as run_id{source}) "
            f"from arriving.{table} a join renamed n on n.id = a.run_id",
            [key] if table == "runs" else None,
        )
    connection.execute("""
        update audits set control_runs = named.control_runs
        from (
            select c.run_id, list(coalesce(n.run_id, control) order by place) as control_runs
            from (
                select run_id, unnest(control_runs) as control, generate_subscripts(control_runs, 1) as place
                from audits semi join renamed using (run_id)
            ) c left join renamed n on n.id = control
            group by c.run_id
        ) named
        where audits.run_id = named.run_id
    """)


def _name_laboratory(connection: "DuckDBPyConnection", label: str) -> None:
    """Write the laboratory into the params and cells of the runs in ``renamed``."""
    connection.execute(
        f"insert into params select run_id, '{names.LABORATORY}', $1 from renamed "
        "on conflict do update set value = excluded.value || ':' || params.value",  # a run may say one of its own
        [label],
    )
    connection.execute("create temp table touched as select run_id from renamed")
    connection.execute(files("fa_tracking.results").joinpath("name_cells.sql").read_text(encoding="utf-8"))
    connection.execute("drop table touched")


def _say_shared(connection: "DuckDBPyConnection", say: Callable[[str], None]) -> None:
    """A word on every experiment in which runs of several laboratories stand."""
    shared = connection.execute(
        "select experiment, string_agg(distinct value, ', ' order by value) "
        f"from runs join params using (run_id) where key = '{names.LABORATORY}' "
        "group by experiment having count(distinct value) > 1 order by 1"
    ).fetchall()
    for experiment, laboratories in shared:
        say(f"the experiment {experiment} is of several laboratories, and its cells are each of one: {laboratories}")
