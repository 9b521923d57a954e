"""Reads a SQL store's own tables in bulk, as Arrow: SQLite and PostgreSQL through ADBC, others through SQLAlchemy.

Only the tables and columns that MLflow's schema version promises are read, and nothing is written. SQLite is read in
chunks, each a statement of its own, so that a training run waits for one chunk at most; other stores have snapshots.
"""

import itertools
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.results.export.source import Progress, Snapshot, unseen
from fa_tracking.tracking import address, names
from fa_tracking.tracking.address import without_password
from fa_tracking.tracking.store import PATIENCE, find_experiment, reader, store_errors

if TYPE_CHECKING:
    import pyarrow as pa
    from adbc_driver_manager.dbapi import Connection

KNOWN_SCHEMAS = frozenset({"dc11669786a5", "f4a9b2c7d1e6"})
"""Alembic versions of MLflow's store whose tables are the ones read here: 3.17, 3.18."""

CHUNK = 65_536
"""Metric points a chunk of SQLite."""

BATCH = {"adbc.sqlite.query.batch_rows": "16384"}
"""A third faster than the driver's own 1,024."""

READERS = 2
"""Chunks of SQLite that are read at a time."""

IN_LIST = 500
FEW = 0.2
"""Up to this share of the runs, metrics are asked for run by run, by MLflow's own index; above it all are read."""

OF_DIAGNOSTICS = " or ".join(f"substr(m.key, 1, {len(prefix)}) = '{prefix}'" for prefix in names.OF_DIAGNOSTICS)
"""Exact, as SQLite's ``like`` is not."""
SUMMARIES = f"select t.run_uuid from tags t where t.key = '{names.TAG_SUMMARY}'"
ACTIVE = f"""
from runs r join experiments e on e.experiment_id = r.experiment_id
left join (
    select distinct t.value as run_uuid, c.experiment_id from tags t join runs c on c.run_uuid = t.run_uuid
    where t.key = '{names.TAG_PARENT}' and c.lifecycle_stage = 'active' and c.run_uuid not in ({SUMMARIES})
) p on p.run_uuid = r.run_uuid and p.experiment_id = r.experiment_id
where r.lifecycle_stage = 'active' and e.lifecycle_stage = 'active'
    and r.run_uuid not in ({SUMMARIES})
    and (
        p.run_uuid is null
        or r.run_uuid in (
            select t.run_uuid from tags t where t.key in ('{names.TAG_PROCESS}', '{names.TAG_CONFIG_SHA256}')
        )
        or r.run_uuid in (select l.source_run_id from logged_models l where l.source_run_id is not null)
        or r.run_uuid in (select m.run_uuid from latest_metrics m where {OF_DIAGNOSTICS})
    )
"""
"""The runs of `trainings` in fa_tracking/tracking/store.py."""
RUNS = """
select r.run_uuid as run_id, e.name as experiment, r.name as run_name, r.status as status, r.start_time as start_time,
    r.end_time as end_time, r.artifact_uri as artifact_uri
"""
POINTS = "select run_uuid as run_id, key, step, value, is_nan, timestamp from metrics"
COUNTS = "select run_uuid as run_id, count(*) as points from metrics group by run_uuid"


READ = {
    "experiments": ("experiment_id", "name", "lifecycle_stage"),
    "runs": (
        "run_uuid", "experiment_id", "name", "status", "start_time", "end_time", "artifact_uri", "lifecycle_stage"
    ),
    "params": ("run_uuid", "key", "value"),
    "tags": ("run_uuid", "key", "value"),
    "metrics": ("run_uuid", "key", "step", "value", "is_nan", "timestamp"),
    "latest_metrics": ("run_uuid", "key"),
    "logged_models": ("source_run_id",),
}  # fmt: skip
"""What is read of a store, by table."""


def has_what_is_read(uri: str) -> bool:
    """Whether a store of an older schema has every table and column that is read."""
    try:
        with _connection(uri) as connection:
            for table, columns in READ.items():
                connection.table(
                    f"select {', '.join(f'{table}.{column}' for column in columns)} from {table} where 1 = 0"
                )
    except FATrackError:
        return False
    return True


class SqlSource:
    """A SQL store of a known schema."""

    def __init__(self, uri: str) -> None:
        self.uri = without_password(uri)
        self._uri = uri
        self._is_sqlite = address.scheme(uri) == "sqlite"
        self._total = 0

    def snapshot(self, experiment: str | None) -> Snapshot:
        with _connection(self._uri) as connection:
            only = ""
            if experiment is not None:
                active = "select name, experiment_id from experiments where lifecycle_stage = 'active'"
                ids = {row["name"]: row["experiment_id"] for row in connection.table(active).to_pylist()}
                if experiment not in ids:
                    find_experiment(reader(self._uri), experiment)  # says what there is
                only = f" and e.experiment_id = {ids[experiment]}"
            runs = connection.table(f"{RUNS} {ACTIVE} {only} order by r.start_time, r.run_uuid")
            active = f"run_uuid in (select r.run_uuid {ACTIVE} {only})"
            params = connection.table(f"select run_uuid as run_id, key, value from params where {active}")
            tags = connection.table(f"select run_uuid as run_id, key, value from tags where {active}")
        self._total = runs.num_rows
        return Snapshot(runs, params, tags)

    def marks(self, snapshot: Snapshot, known: Mapping[str, str], progress: Progress = unseen) -> dict[str, str]:
        """How many points a run has: a point is never taken back, so that a run has changed where it has more."""
        run_ids = snapshot.runs["run_id"].to_pylist()
        with _connection(self._uri) as connection:
            found = {row["run_id"]: str(row["points"]) for row in connection.table(COUNTS).to_pylist()}
        return {run: found.get(run, "none") for run in run_ids}

    def metrics(self, run_ids: Sequence[str], progress: Progress = unseen) -> "Iterator[pa.Table]":
        few = len(run_ids) <= max(1, FEW * self._total)
        if self._is_sqlite and not few:
            yield from _by_chunks(self._uri, progress)
            return
        with _connection(self._uri) as connection:
            if not few:
                yield from _by_batches(connection, progress)
                return
            for start in range(0, len(run_ids), IN_LIST):
                chosen = ", ".join(map(_quoted, run_ids[start : start + IN_LIST]))
                yield from connection.batches(f"{POINTS} where run_uuid in ({chosen})")
                progress(min(start + IN_LIST, len(run_ids)), len(run_ids))


def _by_batches(connection: "_Reader", progress: Progress) -> "Iterator[pa.Table]":
    total = connection.table("select count(*) as points from metrics").to_pylist()[0]["points"]
    read = 0
    for table in connection.batches(POINTS):
        yield table
        read += table.num_rows
        progress(read, total)


def _by_chunks(uri: str, progress: Progress) -> "Iterator[pa.Table]":
    """Chunks of SQLite in order, read side by side: it spends its time in C, outside Python's lock."""
    with _connection(uri) as connection:
        ends = connection.table("select coalesce(min(rowid), 1) as low, coalesce(max(rowid), 0) as high from metrics")
    low, high = ends.to_pylist()[0].values()

    free: SimpleQueue[_Reader] = SimpleQueue()

    def read(start: int) -> "pa.Table":
        connection = free.get()
        try:
            return connection.table(f"{POINTS} where rowid >= {start} and rowid < {start + CHUNK}")
        finally:
            free.put(connection)

    with ExitStack() as connections, ThreadPoolExecutor(READERS) as pool:
        for _ in range(READERS):
            free.put(connections.enter_context(_connection(uri)))
        waiting: deque[Future[pa.Table]] = deque()
        for start in range(low, high + 1, CHUNK):
            waiting.append(pool.submit(read, start))
            if len(waiting) > 2 * READERS:
                yield waiting.popleft().result()
                progress(start + CHUNK - low - len(waiting) * CHUNK, high - low + 1)
        while waiting:
            yield waiting.popleft().result()
        progress(high - low + 1, high - low + 1)


class _Reader:
    """Statements in, Arrow out."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def table(self, sql: str) -> "pa.Table":
        import pyarrow as pa

        tables = list(self.batches(sql))
        return pa.concat_tables(tables, promote_options="permissive")

    def batches(self, sql: str) -> "Iterator[pa.Table]":
        import pyarrow as pa

        self._cursor.execute(sql)
        with self._cursor.fetch_record_batch() as reader:
            yield pa.Table.from_batches([], schema=reader.schema)
            for batch in reader:
                yield pa.Table.from_batches([batch])


@contextmanager
def _connection(uri: str) -> Iterator[_Reader]:
    """A read-only connection; whatever goes wrong in it is one line."""
    from adbc_driver_manager import Error

    try:
        if address.scheme(uri) in ("sqlite", "postgresql", "postgres"):
            is_sqlite = address.scheme(uri) == "sqlite"
            with _adbc(uri) as connection, connection.cursor(adbc_stmt_kwargs=BATCH if is_sqlite else {}) as cursor:
                if is_sqlite:
                    cursor.execute(f"pragma busy_timeout = {PATIENCE}")
                    cursor.execute("pragma query_only = true")
                yield _Reader(cursor)
        else:
            with store_errors(), _Rows(uri) as cursor:
                yield _Reader(cursor)
    except (Error, OSError) as error:
        raise FATrackError(f"the MLflow store failed: {str(error).strip().splitlines()[0]}") from error


def _adbc(uri: str) -> "Connection":
    if address.scheme(uri) == "sqlite":
        import adbc_driver_sqlite.dbapi as sqlite

        path = address.file(uri)
        if path is None or not path.is_file():
            raise UsageError(f"there is no store {path or uri}")
        return sqlite.connect(address.opened_by_sqlite(path, "rw"))
    import adbc_driver_postgresql.dbapi as postgresql

    connection: Connection = postgresql.connect("postgresql://" + uri.split("://", 1)[1])
    return connection


class _Rows:
    """A database without an ADBC driver, through SQLAlchemy: rows are turned into Arrow some at a time."""

    def __init__(self, uri: str) -> None:
        from sqlalchemy import create_engine

        try:
            self._engine = create_engine(uri)
        except ImportError as error:
            driver = f"{uri.split(':', maxsplit=1)[0]}:// needs the Python package {error.name}"
            raise FATrackError(f"{driver}: install it, or name another driver, as mysql+pymysql:// does") from error

    def __enter__(self) -> "_Rows":
        self._connection = self._engine.connect().execution_options(stream_results=True, yield_per=CHUNK)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._engine.dispose()

    def execute(self, sql: str) -> None:
        from sqlalchemy import text

        if self._engine.name in ("mysql", "mariadb"):
            sql = re.sub(r"\bkey\b", "`key`", sql)  # a reserved word there
            sql = re.sub(r"substr\([^)]*\)", r"cast(\g<0> as binary)", sql)  # which else is compared without case
        with store_errors():
            self._result = self._connection.execute(text(sql.replace(":", r"\:")))

    def fetch_record_batch(self) -> "pa.RecordBatchReader":
        import pyarrow as pa

        names = list(self._result.keys())
        rows = ([dict(zip(names, row, strict=True)) for row in part] for part in self._result.partitions())
        tables = (pa.Table.from_pylist(part) for part in rows)
        first = next(tables, None)
        if first is None:
            return pa.RecordBatchReader.from_batches(pa.schema([(name, pa.null()) for name in names]), [])
        batches = (b for table in itertools.chain([first], tables) for b in table.cast(first.schema).to_batches())
        return pa.RecordBatchReader.from_batches(first.schema, batches)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
