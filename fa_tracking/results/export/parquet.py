"""A copy of the results database as Parquet, for Spark, Trino, Polars or a colleague's DuckDB.

A folder a table, a file an experiment: ``metrics/experiment=dfa_penalty/data.parquet``; and beside them which stores it
holds and which version of the tables, ``exports.parquet`` and ``schema_digest.parquet``.
"""

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.errors import FATrackError, UsageError, first_line
from fa_tracking.results.files import must_be_folder
from fa_tracking.results.folders import ORDERS, part_of
from fa_tracking.results.foreign import HELD, beside, refuse_what_is_no_table
from fa_tracking.scratch import scratch

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of Linux's renameat2."""

WHOLE = {"exports": "source", "schema_digest": "digest"}
"""Those of one file."""


def write_parquet(database: str | Path, folder: str | Path) -> int:
    """Write the copy, or replace an earlier one as a whole; the number of files.

    Raises:
        UsageError: ``folder`` holds something else.
        FATrackError: it cannot be written.
    """
    import duckdb

    folder = Path(folder)
    refuse_other_folders(folder)
    try:
        with scratch(folder.absolute().parent) as aside:
            fresh = aside / "new"
            with beside(Path(database), aside) as connection:
                refuse_what_is_no_table(connection, Path(database))
                written = _write(connection, fresh)
            if folder.exists():
                _exchange(fresh, folder)
            else:
                fresh.rename(folder)
    except (duckdb.Error, OSError) as error:
        raise FATrackError(f"the folder {folder} could not be written: {first_line(error)}") from error
    return written


def _exchange(fresh: Path, folder: Path) -> None:
    """Put one folder in the other's place at once; where the system cannot, by way of a moment without any."""
    libc = ctypes.CDLL(None)
    swap = getattr(libc, "renameat2", None)
    if swap is None or swap(AT_FDCWD, os.fsencode(fresh), AT_FDCWD, os.fsencode(folder), RENAME_EXCHANGE):
        folder.rename(fresh.with_name("old"))
        fresh.rename(folder)


def _write(connection: "DuckDBPyConnection", folder: Path) -> int:
    asked = f"select distinct experiment from {HELD}.main.runs order by 1"
    experiments = [row[0] for row in connection.execute(asked).fetchall()]
    for table, order in ORDERS.items():
        for experiment in experiments:
            part = folder / table / part_of(experiment)
            part.mkdir(parents=True)
            columns = "* exclude (experiment)" if table == "runs" else "*"
            of_experiment = f"select run_id from {HELD}.main.runs where experiment = $experiment"
            rows = f"from {HELD}.main.{table} where run_id in ({of_experiment})"
            connection.execute(
                f"copy (select {columns} {rows} order by {order}) to $file (format parquet, compression zstd)",
                {"experiment": experiment, "file": str(part / "data.parquet")},
            )
    folder.mkdir(exist_ok=True)  # where there is no experiment
    for table, order in WHOLE.items():
        file = str(folder / f"{table}.parquet")
        connection.execute(
            f"copy (from {HELD}.main.{table} order by {order}) to $file (format parquet)", {"file": file}
        )
    return len(ORDERS) * len(experiments) + len(WHOLE)


def refuse_other_folders(folder: str | Path) -> None:
    """Never put a copy in the place of anything else.

    Raises:
        UsageError: ``folder`` holds something else, or there is no folder to put it into.
    """
    must_be_folder(Path(folder).absolute().parent)
    if Path(folder).exists() and not _is_copy(Path(folder)):
        raise UsageError(f"{folder} holds other things than a copy of a database: give --parquet a new folder")


def _holds_data_alone(part: Path) -> bool:
    return part.is_dir() and all(p.name == "data.parquet" for p in part.iterdir())


def _is_copy(folder: Path) -> bool:
    """Whether all that it holds could have been written here, so that nothing of anybody else's is lost."""
    whole = {f"{table}.parquet" for table in WHOLE}
    return folder.is_dir() and all(
        entry.name in whole
        or (
            entry.is_dir()
            and entry.name in ORDERS
            and all(p.name.startswith("experiment=") and _holds_data_alone(p) for p in entry.iterdir())
        )
        for entry in folder.iterdir()
    )
