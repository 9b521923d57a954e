"""Carries a store's runs and their points into the tables of a results database."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from fa_tracking.errors import UsageError
from fa_tracking.results.export.audits import fill_audits
from fa_tracking.results.export.codes import Codes
from fa_tracking.results.export.replace import allow_memory
from fa_tracking.results.export.source import LABELLED, Progress, Snapshot, Source
from fa_tracking.results.folders import ORDERS
from fa_tracking.tracking.store import LARGEST

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Exported:
    """What an export found and what it carried.

    Attributes:
        runs: of the store, or of its one experiment.
        changed: runs that were new, or had changed in anything.
        read: those of them whose metrics were read.
        removed: runs that the database held and the store has no longer.
        metrics: metric points that were read.
        unreadable: runs whose tags of an audit cannot be read; the database holds them as not audited.
    """

    runs: int
    changed: int
    read: int
    removed: int
    metrics: int
    unreadable: int


def bring_up_to_date(
    connection: "DuckDBPyConnection",
    source: Source,
    found: Snapshot,
    experiment: str | None,
    full: bool,
    progress: Progress,
) -> Exported:
    allow_memory(connection, found.runs.num_rows)
    for name in ("runs", "params", "tags"):
        connection.register(f"arriving_{name}", _typed(getattr(found, name)))
    _take_over(connection, source.uri)
    scope = [source.uri, experiment]
    connection.execute(
        "create temp table gone as select run_id from runs where source = $1 and experiment = coalesce($2, experiment) "
        "and run_id not in (select run_id from arriving_runs)",
        scope,
    )
    known = dict(connection.execute("select run_id, mark from marks where source = $1", [source.uri]).fetchall())
    marks = source.marks(found, {} if full else known, progress)
    changed = [run for run, mark in marks.items() if full or not mark or known.get(run) != mark]
    connection.execute("create temp table changed as select unnest($1::varchar[]) as run_id", [changed])
    dropped = _drop_metrics(connection, [run for run in changed if run in known])
    points = _read_metrics(connection, source, changed, progress)
    _replace_runs(connection, source.uri)
    for file in ("derive.sql", "name_cells.sql"):
        connection.execute(files("fa_tracking.results").joinpath(file).read_text(encoding="utf-8"))
    fill_audits(connection)
    connection.execute("delete from marks where run_id in (select run_id from changed union select run_id from gone)")
    connection.execute(
        "insert into marks select unnest($1::varchar[]), $2, unnest($3::varchar[])",
        [changed, source.uri, [marks[run] for run in changed]],
    )
    (removed,) = connection.execute("select count(*) from gone").fetchone() or (0,)
    connection.execute(
        "insert or replace into exports select $1, now() at time zone 'UTC', "
        "(select count(*) from runs where source = $1), "
        "coalesce((select metrics from exports where source = $1), 0) + $2",
        [source.uri, points - dropped],
    )
    (differing,) = connection.execute(
        "select count(*) from (from changed union from touched) anti join gone using (run_id)"
    ).fetchone() or (0,)
    return Exported(found.runs.num_rows, differing, len(changed), removed, points, 0)


def _take_over(connection: "DuckDBPyConnection", uri: str) -> None:
    """Forget the arriving runs that stand in the database as another store's: it is one store under two addresses.

    Raises:
        UsageError: they stand there as a laboratory's.
    """
    connection.execute(
        "create temp table moved as select run_id, source from runs semi join arriving_runs using (run_id) "
        "where source <> $1",
        [uri],
    )
    sources = connection.execute("select source, count(*) from moved group by all order by all").fetchall()
    for source, runs in sources:
        if LABELLED.match(source):
            raise UsageError(
                f"{runs} runs of this store stand in the database as {source}, where `fa-track merge` has put them: "
                "export to another --db, and merge that"
            )
    for table in (*ORDERS, "marks") if sources else ():
        connection.execute(f"delete from {table} where run_id in (select run_id from moved)")
    for source, _ in sources:
        left = "select run_id from runs where source = $1"
        connection.execute(
            f"update exports set runs = (select count(*) from ({left})), "
            f"metrics = (select count(*) from metrics where run_id in ({left})) where source = $1",
            [source],
        )


def _time(milliseconds: str) -> str:
    """The SQL of a time since 1970; one outside the years 1 to 9999, which Python has not, is the nearest inside."""
    return f"make_timestamp(greatest(least({milliseconds}, 253402300799999), -62135596800000) * 1000)"


def _typed(table: "pa.Table") -> "pa.Table":
    """Text and times in milliseconds: a column without a value has no type of its own yet."""
    import pyarrow as pa

    kinds = [pa.int64() if name.endswith("_time") else pa.string() for name in table.column_names]
    return table.cast(pa.schema(list(zip(table.column_names, kinds, strict=True))))


def _drop_metrics(connection: "DuckDBPyConnection", known: list[str]) -> int:
    """Forget the points of the runs that are read again, and of those that are gone; how many they were."""
    (dropped,) = connection.execute(
        "delete from metrics where run_id in (select unnest($1::varchar[]) union select run_id from gone)", [known]
    ).fetchone() or (0,)
    return int(dropped)


def _read_metrics(connection: "DuckDBPyConnection", source: Source, run_ids: list[str], progress: Progress) -> int:
    """Add the points of ``run_ids``, in the order in which queries ask for them: key by key, each by run and step."""
    import pyarrow as pa

    codes = Codes(run_ids)
    read = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for table in source.metrics(run_ids, progress):
            if table.num_rows:
                yield from codes.encode(table).to_batches()
                read += table.num_rows

    connection.register("incoming", pa.RecordBatchReader.from_batches(codes.schema, batches()))
    connection.execute(f"""
        create temp table points as
        select run, key, step,
            case
                when is_nan then 'nan'::double
                when value >= {LARGEST!r} then 'infinity'::double
                when value <= -{LARGEST!r} then '-infinity'::double
                else value
            end as value,
            {_time("timestamp")} as timestamp
        from incoming where run is not null
    """)
    # Of what a run logged twice at one step, the last counts; at one millisecond MLflow takes the larger value for it.
    connection.execute("""
        create temp table twice as select key, run, step from points group by all having count(*) > 1;
        delete from points where rowid in (
            select rowid from points semi join twice using (key, run, step)
            qualify row_number() over (partition by key, run, step order by timestamp desc, value desc) > 1
        )
    """)
    connection.unregister("incoming")
    connection.register("run_codes", codes.runs())
    connection.register("key_codes", codes.keys())
    (inserted,) = connection.execute("""
        insert into metrics
        select r.run_id, k.key, p.step, p.value, p.timestamp
        from (from points order by key, run, step) p
        join run_codes r on r.code = p.run join key_codes k on k.code = p.key
    """).fetchone() or (0,)
    return int(inserted)


def _replace_runs(connection: "DuckDBPyConnection", uri: str) -> None:
    """Take over the store's word on every run that differs in it: its state, params or tags."""
    connection.execute(
        f"""
        create temp table found_runs as
        select run_id, $1 as source, experiment, run_name, status, {_time("start_time")} as start_time,
            {_time("end_time")} as end_time, artifact_uri
        from arriving_runs
        """,
        [uri],
    )
    connection.execute("""
        create temp table touched as
        select run_id from gone
        union select run_id from (
            from found_runs except
            select run_id, source, experiment, run_name, status, start_time, end_time, artifact_uri from runs
        )
        union select run_id from (from arriving_params except from params)
        union select run_id from (from params semi join found_runs using (run_id) except from arriving_params)
        union select run_id from (from arriving_tags except from tags)
        union select run_id from (from tags semi join found_runs using (run_id) except from arriving_tags)
    """)
    for table in ("tags", "params", "runs"):
        connection.execute(f"delete from {table} where run_id in (from touched)")
    connection.execute(
        "insert into runs by name select * from found_runs semi join touched using (run_id) order by start_time, run_id"
    )
    for table in ("params", "tags"):
        connection.execute(
            f"insert into {table} select * from arriving_{table} semi join touched using (run_id) order by all"
        )
