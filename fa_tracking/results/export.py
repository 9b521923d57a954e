"""Carries runs from an MLflow store into the results database."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.results.database import DEFAULT_DATABASE, create_views, first_line
from fa_tracking.results.sources import Snapshot, Source, open_source

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

Progress = Callable[[int, int], None]
"""progress(done, total): runs whose metrics have been read."""

LARGEST = 1.7976931348623157e308
"""What MLflow's SQL stores write for infinity."""

MEMORY = "200MB"
"""DuckDB's own share while it sorts; beyond it DuckDB sorts on disk."""


@dataclass(frozen=True)
class Exported:
    """What an export found and what it carried.

    Attributes:
        runs: of the store, or of its one experiment.
        read: runs that were new or changed, whose metrics were read.
        removed: runs that the database held and the store has no longer.
        metrics: metric points that were read.
    """

    runs: int
    read: int
    removed: int
    metrics: int


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

    Args:
        experiment: only this one; the database keeps the others. All of the store where None. Runs that the database
            holds of other stores are always kept.
        say: takes a line for the person at the terminal.
        full: read the metrics of every run again.

    Raises:
        UsageError: there is no such experiment, or ``database`` is a file that is no results database.
        FATrackError: the store does not answer, or the database cannot be written.
    """
    _refuse_other_files(Path(database))
    source = open_source(tracking_uri, say)
    found = source.snapshot(experiment)
    with _replacing(Path(database)) as connection:
        connection.execute("begin")
        done = _bring_up_to_date(connection, source, found, experiment, full, progress or (lambda *_: None))
        connection.execute("commit")
    return done


def _bring_up_to_date(
    connection: "DuckDBPyConnection",
    source: Source,
    found: Snapshot,
    experiment: str | None,
    full: bool,
    progress: Progress,
) -> Exported:
    for name in ("runs", "params", "tags"):
        connection.register(f"arriving_{name}", _typed(getattr(found, name)))
    scope = [source.uri, experiment]
    connection.execute(
        "create temp table gone as select run_id from runs where source = $1 and experiment = coalesce($2, experiment) "
        "and run_id not in (select run_id from arriving_runs)",
        scope,
    )
    known = dict(connection.execute("select run_id, mark from marks where source = $1", [source.uri]).fetchall())
    marks = source.marks(found, {} if full else known)
    changed = [run for run, mark in marks.items() if full or not mark or known.get(run) != mark]
    connection.execute("create temp table changed as select unnest($1::varchar[]) as run_id", [changed])
    points = _read_metrics(connection, source, changed, progress)
    _replace_runs(connection, source.uri)
    connection.execute(files("fa_tracking.results").joinpath("derive.sql").read_text())
    create_views(connection)
    connection.execute("delete from marks where run_id in (select run_id from changed union select run_id from gone)")
    connection.execute(
        "insert into marks select unnest($1::varchar[]), $2, unnest($3::varchar[])",
        [changed, source.uri, [marks[run] for run in changed]],
    )
    (removed,) = connection.execute("select count(*) from gone").fetchone() or (0,)
    connection.execute("delete from exports where source = $1", [source.uri])
    connection.execute(
        "insert into exports select $1, now() at time zone 'UTC', (select count(*) from runs where source = $1), "
        "(select count(*) from metrics join runs using (run_id) where source = $1)",
        [source.uri],
    )
    return Exported(found.runs.num_rows, len(changed), removed, points)


def _typed(table: "pa.Table") -> "pa.Table":
    """Text and times in milliseconds: a column without a value has no type of its own yet."""
    import pyarrow as pa

    kinds = [pa.int64() if name.endswith("_time") else pa.string() for name in table.column_names]
    return table.cast(pa.schema(list(zip(table.column_names, kinds, strict=True))))


def _read_metrics(connection: "DuckDBPyConnection", source: Source, run_ids: list[str], progress: Progress) -> int:
    """Replace the points of ``run_ids``, sorted by key, run and step: the order in which queries ask for them."""
    import pyarrow as pa

    connection.execute("delete from metrics where run_id in (select run_id from changed union select run_id from gone)")
    tables = source.metrics(run_ids)
    first = next((table for table in tables if table.num_rows), None)
    if first is None:
        return 0
    read = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for table in itertools.chain([first], tables):
            read += table.num_rows
            progress(read, 0)
            yield from table.cast(first.schema).to_batches()

    connection.register("incoming", pa.RecordBatchReader.from_batches(first.schema, batches()))
    connection.execute(f"""
        insert into metrics
        select run_id, key, step,
            case
                when cast(is_nan as boolean) then 'nan'::double
                when value >= {LARGEST!r} then 'infinity'::double
                when value <= -{LARGEST!r} then '-infinity'::double
                else value
            end,
            make_timestamp(timestamp * 1000)
        from incoming where run_id in (select run_id from changed)
        order by key, run_id, step, timestamp
    """)
    connection.unregister("incoming")
    (kept,) = connection.execute("select count(*) from metrics semi join changed using (run_id)").fetchone() or (0,)
    return int(kept)


def _replace_runs(connection: "DuckDBPyConnection", uri: str) -> None:
    """The store's word on every run, its params and tags; they are few beside the metrics."""
    there = "(select run_id from arriving_runs union all select run_id from gone)"
    for table in ("tags", "params", "runs"):
        connection.execute(f"delete from {table} where run_id in {there}")
    connection.execute(
        """
        insert into runs (run_id, source, experiment, run_name, status, start_time, end_time, artifact_uri)
        select run_id, $1, experiment, run_name, status, make_timestamp(start_time * 1000),
            make_timestamp(end_time * 1000), artifact_uri
        from arriving_runs order by start_time, run_id
        """,
        [uri],
    )
    for table in ("params", "tags"):
        connection.execute(f"insert into {table} select run_id, key, value from arriving_{table} order by all")


def _refuse_other_files(database: Path) -> None:
    """Never put a database in the place of somebody's other file."""
    import duckdb

    if not database.name or database.name.startswith(":") or database.is_dir():
        raise UsageError(f"{str(database)!r} is no file name for a database")
    if not database.parent.is_dir():
        raise FATrackError(f"the folder {database.parent} for the database does not exist")
    if not database.is_file():
        return
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            connection.execute("select source from exports")
            connection.execute("select source from runs")
            known = connection.execute("select table_name, column_name from information_schema.columns").fetchall()
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise FATrackError(f"the database {database} is in use: {first_line(error)}") from error
        raise UsageError(f"{database} is no results database, and will not be replaced: give another --db") from error
    except duckdb.Error as error:
        raise UsageError(f"{database} is no results database, and will not be replaced: give another --db") from error
    with duckdb.connect() as fresh:
        fresh.execute(files("fa_tracking.results").joinpath("schema.sql").read_text())
        wanted = fresh.execute("select table_name, column_name from information_schema.columns").fetchall()
    if set(known) != set(wanted):
        raise UsageError(f"{database} was written by another version of fa-track: delete it, or give another --db")


@contextmanager
def _replacing(database: Path) -> "Iterator[DuckDBPyConnection]":
    """A connection to a copy of ``database``, new where there is none, that takes its place at the end."""
    import duckdb

    try:
        with tempfile.TemporaryDirectory(prefix=".fa-track-", dir=database.parent) as scratch:
            fresh = Path(scratch) / "new.duckdb"
            is_new = not database.is_file()
            if not is_new:
                shutil.copyfile(database, fresh)
            with duckdb.connect(str(fresh)) as connection:
                connection.execute(f"set memory_limit = '{MEMORY}'")
                if is_new:
                    connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text())
                yield connection
            fresh.replace(database)
    except (duckdb.Error, OSError) as error:
        raise FATrackError(f"the database {database} could not be written: {first_line(error)}") from error
