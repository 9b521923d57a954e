"""Carries runs from an MLflow store into the results database."""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.errors import FATrackError, UsageError
from fa_tracking.results.database import DEFAULT_DATABASE, first_line
from fa_tracking.tracking import store

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection
    from mlflow import MlflowClient
    from mlflow.entities import Run

LARGEST = 1.7976931348623157e308
"""What MLflow's SQL stores write for infinity."""

Progress = Callable[[int, int], None]
"""progress(done, total): called after each run."""


@dataclass(frozen=True)
class Exported:
    """How many rows an export carried."""

    runs: int
    metrics: int


def export(
    database: str | Path = DEFAULT_DATABASE,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the store's runs into ``database``, replacing what it held of this store.

    The same store twice gives identical rows. The file is replaced as a whole at the end, so a reader never sees half
    of it and a killed export leaves the old one.

    Args:
        experiment: only this one; the database keeps the others. All of the store where None. Runs that the database
            holds of other stores are always kept.

    Raises:
        UsageError: there is no such experiment, or ``database`` is a file that is no results database.
        FATrackError: the store does not answer, or the database cannot be written.
    """
    _refuse_other_files(Path(database))
    client = store.client(tracking_uri)
    chosen = [store.find_experiment(client, experiment)] if experiment else store.all_experiments(client)
    names = {e.experiment_id: e.name for e in chosen}
    runs = list(store.search_runs(client, list(names)))
    tables = _read(client, runs, names, progress or (lambda *_: None))
    with _replacing(Path(database)) as connection:
        _write(connection, tables, experiment, client.tracking_uri)
    return Exported(len(runs), tables["metrics"].num_rows)


def _read(
    client: "MlflowClient", runs: "list[Run]", names: dict[str, str], progress: Progress
) -> "dict[str, pa.Table]":
    import pyarrow as pa

    rows: dict[str, list[tuple]] = {"runs": [], "params": [], "tags": [], "metrics": []}
    for done, run in enumerate(runs, start=1):
        info = run.info
        times = (_time(info.start_time), _time(info.end_time))
        rows["runs"].append(
            (info.run_id, names[info.experiment_id], info.run_name, info.status, *times, info.artifact_uri)
        )
        rows["params"] += [(info.run_id, k, v) for k, v in run.data.params.items()]
        rows["tags"] += [(info.run_id, k, v) for k, v in run.data.tags.items()]
        for key in run.data.metrics:
            with store.store_errors():
                history = client.get_metric_history(info.run_id, key)
            rows["metrics"] += [(info.run_id, key, m.step, _value(m.value), _time(m.timestamp)) for m in history]
        progress(done, len(runs))
    return {
        table: pa.table([pa.array(c) for c in zip(*rows[table], strict=True)] or [[]] * len(columns), names=columns)
        for table, columns in _COLUMNS.items()
    }


_COLUMNS = {
    "runs": ["run_id", "experiment", "run_name", "status", "start_time", "end_time", "artifact_uri"],
    "params": ["run_id", "key", "value"],
    "tags": ["run_id", "key", "value"],
    "metrics": ["run_id", "key", "step", "value", "timestamp"],
}


def _value(value: float) -> float:
    """Undo what the store does to infinities."""
    return math.copysign(math.inf, value) if abs(value) >= LARGEST else value


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _utc(datetime.fromtimestamp(milliseconds / 1000, UTC))


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=None)


def _write(
    connection: "DuckDBPyConnection", tables: "dict[str, pa.Table]", experiment: str | None, source: str
) -> None:
    connection.execute("begin")
    connection.register("arriving", tables["runs"])
    old = """
        select run_id from runs
        where run_id in (select run_id from arriving) or (source = $1 and experiment = coalesce($2, experiment))
    """
    for table in ("metrics", "tags", "params", "runs"):
        connection.execute(f"delete from {table} where run_id in ({old})", [source, experiment])
    for table, incoming in tables.items():
        columns = ", ".join(_COLUMNS[table])
        connection.register("incoming", incoming)
        order = "key, run_id, step, timestamp" if table == "metrics" else "all"
        if table == "runs":
            into, values = f"{columns}, source", f"{columns}, $1"
            connection.execute(f"insert into runs ({into}) select {values} from incoming order by all", [source])
        else:
            connection.execute(f"insert into {table} ({columns}) select {columns} from incoming order by {order}")
        connection.unregister("incoming")
    connection.execute(files("fa_tracking.results").joinpath("derive.sql").read_text())
    counts = [tables["runs"].num_rows, tables["metrics"].num_rows]
    connection.execute("delete from exports where source = $1", [source])
    connection.execute("insert into exports values ($1, $2, $3, $4)", [source, _utc(datetime.now(UTC)), *counts])
    connection.execute("commit")


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
                if is_new:
                    connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text())
                yield connection
            fresh.replace(database)
    except (duckdb.Error, OSError) as error:
        raise FATrackError(f"the database {database} could not be written: {first_line(error)}") from error
