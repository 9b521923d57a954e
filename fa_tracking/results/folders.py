"""Opens folders of the tables as Parquet: views over files that stay where they are and are read at each query."""

import glob
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking import cells
from fa_tracking.errors import UsageError
from fa_tracking.results.parquet import ORDERS
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


ADDED = {
    "audits": dict.fromkeys(("stream_growth", "chance_error", "reference"), "null"),
    "runs": dict.fromkeys(cells.ABSENT, "null") | {names.TRAINABLE_BLOCKS: "if(frozen_blocks, 0, depth)"},
    "layers": dict.fromkeys(
        (
            "perturbation",
            "perturbation_bp",
            "perturbation_random",
            "perturbation_float32",
            "nudge",
            "nudge_bp",
            "nudge_random",
        ),
        "null",
    ),
}
"""Columns that a folder of an earlier version lacks, and what they are there."""


def find_folders(path: str | Path) -> list[Path]:
    """The folders of tables that ``path`` names: itself, those that stand in it or that it matches."""
    one = Path(path)
    if _parts(one, "runs"):
        return [one]
    named = one.iterdir() if one.is_dir() else map(Path, glob.glob(str(path)))  # noqa: PTH207 - or no absolute pattern
    return sorted(folder for folder in named if _parts(folder, "runs"))


def open_folders(folders: Sequence[Path]) -> "DuckDBPyConnection":
    """The tables of schema.sql over the files of ``folders``, which are all that the connection can read.

    Raises:
        UsageError: a run or an experiment stands in two of the folders, or one is a copy in part.
        duckdb.Error: a file is not what it should be.
    """
    import duckdb

    connection = duckdb.connect()
    for folder in folders:
        _refuse_part(connection, folder)
    create_tables(connection, folders)
    if len(folders) > 1:
        _refuse_doubles(connection, folders)
    readable = [part for table in _tables(connection) for part in paths(folders, table)]
    connection.execute(f"set allowed_paths = {texts([*readable, *map(literal_glob, readable)])}")
    return connection


def _refuse_part(connection: "DuckDBPyConnection", folder: Path) -> None:
    """Hold a folder against its own counts, where it has some.

    Raises:
        UsageError: it holds fewer runs or metrics, or not every table of an experiment.
    """
    if not (counts := folder / "exports.parquet").is_file():
        return
    asked = "select sum(runs)::bigint, sum(metrics)::bigint from read_parquet($1)"
    said = connection.execute(asked, [str(counts)]).fetchone() or (None, None)
    if None in said:  # it was made by hand, and tells of no store
        return
    held = [
        connection.execute(f"select count(*) from {_read(paths([folder], table))}").fetchone()
        if _parts(folder, table)
        else (0,)
        for table in ("runs", "metrics")
    ]
    wrong = [
        f"{found[0]} of {count} {what}"
        for what, count, found in zip(("runs", "metric points"), said, held, strict=True)
        if found is not None and found[0] != count
    ]
    experiments = {part.parent.name for part in folder.glob("*/experiment=*/*.parquet")}
    flat = [f"no {table}" for table in ORDERS if not experiments and not (folder / f"{table}.parquet").is_file()]
    lacking = flat + [
        f"no {table} of {name.partition('=')[2]}"
        for table in ORDERS
        for name in sorted(experiments)
        if not (folder / table / name / "data.parquet").is_file()
    ]
    if wrong or lacking:
        raise UsageError(
            f"{folder} is a copy in part, by its exports.parquet: holds {', '.join(wrong + lacking)}; copy all of it "
            "(without exports.parquet what is there is read as it is)"
        )


def create_tables(connection: "DuckDBPyConnection", folders: Sequence[Path]) -> None:
    """The tables of schema.sql in the connection's current database: views where ``folders`` hold files, else empty."""
    connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text(encoding="utf-8"))
    for table in _tables(connection):
        if parts := paths(folders, table):
            typed = connection.execute(
                "select column_name, data_type from duckdb_columns() where table_name = $1 and "
                "database_name = current_database() order by column_index",
                [table],
            ).fetchall()
            files_of = _read(parts, ", union_by_name = true" if table in ADDED else "")
            held = {name for name, *_ in connection.execute(f"describe from {files_of}").fetchall()}
            absent = {name: said for name, said in ADDED.get(table, {}).items() if name not in held}
            columns = ", ".join(f"cast({absent.get(name, name)} as {kind}) as {name}" for name, kind in typed)
            connection.execute(f"drop table {table}")
            connection.execute(f"create view {table} as select {columns} from {files_of}")


def paths(folders: Iterable[Path], table: str) -> list[str]:
    """The files of a table, absolute."""
    return [str(part.absolute()) for folder in folders for part in _parts(folder, table)]


def every_part(folders: Iterable[Path]) -> list[str]:
    """The files of all tables, absolute."""
    return [str(part.absolute()) for folder in folders for part in sorted(folder.rglob("*.parquet"))]


def _parts(folder: Path, table: str) -> list[Path]:
    """The files of a table in a folder.

    Raises:
        UsageError: one leads out of the folder, which is to be read alone.
    """
    found = sorted([*folder.glob(f"{table}.parquet"), *folder.glob(f"{table}/*/*.parquet")])
    home = folder.resolve()
    for part in found:
        if not part.resolve().is_relative_to(home):
            raise UsageError(f"{part} is a link that leads out of {folder}: put a copy of the file in its place")
    return found


def _read(parts: Iterable[str], also: str = "") -> str:
    return (
        f"read_parquet({texts(map(literal_glob, parts))}, hive_partitioning = true, hive_types_autocast = false{also})"
    )


def _tables(connection: "DuckDBPyConnection") -> list[str]:
    """Names of the tables of schema.sql, also where they are views already."""
    found = connection.execute(
        "select distinct table_name from duckdb_columns() where not internal and database_name = current_database()"
    ).fetchall()
    return sorted(name for (name,) in found)


def _refuse_doubles(connection: "DuckDBPyConnection", folders: Sequence[Path]) -> None:
    """Views cannot tell apart what two folders call by one name."""
    doubles = {
        "run": "select run_id from runs group by run_id having count(*) > 1",
        "experiment": (
            f"select experiment from {_read(paths(folders, 'runs'), ', filename = true')} "
            "group by experiment having count(distinct filename) > 1"
        ),
    }
    for what, sql in doubles.items():
        if found := connection.execute(f"{sql} order by all limit 1").fetchone():
            raise UsageError(
                f"the {what} {found[0]!r} stands in several of the {len(folders)} folders: `fa-track merge` makes one "
                "database of them, in which they are told apart"
            )


def literal_glob(path: str) -> str:
    """A path as a pattern that names it alone."""
    return re.sub(r"[*?\[]", r"[\g<0>]", path)


def texts(values: Iterable[str]) -> str:
    """A list of texts in SQL."""
    return "[" + ", ".join("'" + value.replace("'", "''") + "'" for value in values) + "]"
