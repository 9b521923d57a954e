"""Takes one store's rows from an export into a database, in the place of its older ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.errors import UsageError
from fa_tracking.results.export.source import LABELLED, id_in_store, store_of
from fa_tracking.results.folders import ORDERS
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

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


def shared_runs(connection: "DuckDBPyConnection", source: str, key: str) -> int:
    """How many runs of a store both the export and the database hold."""
    arriving = connection.execute("select run_id from arriving.runs where source = $1", [source]).fetchall()
    held = connection.execute("select run_id from runs where source = $1", [key]).fetchall()
    return len({id_in_store(run) for (run,) in arriving} & {id_in_store(run) for (run,) in held})


def take(connection: "DuckDBPyConnection", source: str, key: str, path: Path, say: Callable[[str], None]) -> Merged:
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
    if has_runs and not shared_runs(connection, source, key):
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
    row: tuple[datetime | None] | None = connection.execute(NEWEST.format(schema=schema), [source]).fetchone()
    return row[0] if row else None


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
