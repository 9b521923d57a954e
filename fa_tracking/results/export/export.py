"""Carries runs from an MLflow store into the results database."""

import hashlib
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking import cells
from fa_tracking.errors import FATrackError, UsageError, first_line
from fa_tracking.results.database import DEFAULT_DATABASE
from fa_tracking.results.export.codes import Codes
from fa_tracking.results.export.sources import LABELLED, Progress, Snapshot, Source, open_source, unseen
from fa_tracking.results.files import must_be_folder
from fa_tracking.results.folders import ORDERS
from fa_tracking.results.foreign import HELD, TABLES, beside, made, refuse_what_is_no_table, shut_off
from fa_tracking.results.views import create_views
from fa_tracking.scratch import scratch
from fa_tracking.tracking import names
from fa_tracking.tracking.store import LARGEST

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

MEMORY, MEMORY_A_RUN = 175_000_000, 6_000
"""DuckDB's own share in bytes. Beyond the first it sorts on disk; the keys of runs, params and tags it must hold."""


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


def export(
    database: str | Path = DEFAULT_DATABASE,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda message: None,
    full: bool = False,
) -> Exported:
    """Bring ``database`` up to date with the store: only the metrics of new or changed runs are read.

    The same store twice gives identical rows. The file is replaced as a whole at the end, so a reader never sees half
    of it and a killed export leaves the old one.

    A run whose audit cannot be read, because a tag of it was changed by hand, is carried without it, and named.

    Args:
        experiment: only this one; the database keeps the others. All of the store where None. Runs that the database
            holds of other stores are always kept.
        say: takes a line for the person at the terminal.
        full: read the metrics of every run again.

    Raises:
        UsageError: there is no such experiment, or ``database`` is a file that is no results database.
        FATrackError: the store does not answer, or the database cannot be written.
    """
    refuse_other_files(Path(database))
    source = open_source(tracking_uri, say)
    found = source.snapshot(experiment)
    with replacing(Path(database)) as connection:
        connection.execute("begin")
        done = _bring_up_to_date(connection, source, found, experiment, full, progress or unseen)
        unreadable = _unreadable(connection, source.uri, experiment)
        contradictory = _contradictory(connection, source.uri, experiment)
        absurd = _of_no_layer(connection)
        connection.execute("commit")
    for line in unreadable + contradictory + absurd:
        say(line)
    return replace(done, unreadable=len(unreadable))


def _bring_up_to_date(
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


def _unreadable(connection: "DuckDBPyConnection", uri: str, experiment: str | None) -> list[str]:
    """Of every run that has a verdict and no audit, what to do about it."""
    found = connection.execute(
        "select run_id, run_name, experiment from runs semi join (from tags where key = $3) using (run_id) "
        "anti join audits using (run_id) "
        "where source = $1 and experiment = coalesce($2, experiment) order by experiment, start_time, run_id",
        [uri, experiment, names.TAG_VERDICT],
    )
    return [
        f"{run_id} ({name}) stands as not audited: its tags {names.TAG_MEASURED}, {names.TAG_THRESHOLDS} or "
        f"{names.TAG_AUDITED_AT} are not as an audit writes them; `fa-track audit --experiment {shlex.quote(within)}` "
        "writes them anew"
        for run_id, name, within in found.fetchall()
    ]


def _contradictory(connection: "DuckDBPyConnection", uri: str, experiment: str | None) -> list[str]:
    """Of every run whose params say two things of its blocks, which of them counts."""
    found = connection.execute(
        "select run_id, run_name, map_from_entries(list((key, value))) from runs join params using (run_id) "
        "where source = $1 and experiment = coalesce($2, experiment) and key in ($3, $4, 'depth') "
        "group by all having bool_or(key = $3) order by all",
        [uri, experiment, names.TRAINABLE_BLOCKS, names.FROZEN_BLOCKS],
    )
    told = ((run_id, name, cells.contradiction(params)) for run_id, name, params in found.fetchall())
    return [f"{run_id} ({name}): {wrong}; the latter counts" for run_id, name, wrong in told if wrong]


def _of_no_layer(connection: "DuckDBPyConnection") -> list[str]:
    """Of every run that was read and names a layer which is none, which metric it is."""
    found = connection.execute(
        "select distinct run_id, run_name, key_codes.key from points join key_codes on key_codes.code = points.key "
        "join run_codes on run_codes.code = points.run join runs using (run_id) "
        "where key_codes.key in (select key from layer_names where not is_layer) order by all"
    )
    return [
        f"{run_id} ({name}): {cells.quoted(key)} names no layer, which is 0 to 9999 without leading zeros: it stands "
        "among the metrics, not among the layers"
        for run_id, name, key in found.fetchall()
    ]


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


def fits(connection: "DuckDBPyConnection", schema: str = "") -> bool:
    """Whether a database, or a folder of its tables, was made by this version of fa-track.

    Args:
        schema: where its tables stand, with its dot; empty where they are those in use.
    """
    import duckdb

    try:
        return connection.execute(f"from {schema}schema_digest").fetchall() == [(_digest(_schema()),)]
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
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise FATrackError(f"the database {database} is in use: {first_line(error)}") from error
        raise UsageError(f"{database} is no results database, and will not be replaced: give another --db") from error
    except duckdb.Error as error:
        raise UsageError(f"{database} is no results database, and will not be replaced: give another --db") from error
    if not is_current:
        raise UsageError(f"{database} was written by another version of fa-track: delete it, or give another --db")


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
                    connection.execute(_schema())
                    connection.execute("insert into schema_digest values ($1)", [_digest(_schema())])
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


def _schema() -> str:
    return files("fa_tracking.results").joinpath("schema.sql").read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
