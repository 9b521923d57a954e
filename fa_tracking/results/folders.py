"""Opens folders of the tables as Parquet: views over files that stay where they are and are read at each query."""

import glob
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from fa_tracking import cells
from fa_tracking.errors import UsageError
from fa_tracking.results.foreign import SMALL, made, refuse_wrong_rows, shut_off, texts
from fa_tracking.tracking import names

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ORDERS = {
    "runs": "start_time, run_id",
    "params": "run_id, key",
    "tags": "run_id, key",
    "metrics": "key, run_id, step, timestamp",
    "layers": "run_id, step, layer",
    "audits": "run_id",
    "knockouts": "run_id, removed",
    "functional": "run_id, layer, credit",
}
"""The tables that a copy holds in parts, and the order of their rows."""
HIVES_NULL = "__HIVE_DEFAULT_PARTITION__"
"""What others that read such folders take for no experiment."""

ADDED = {
    "audits": dict.fromkeys(
        ("stream_growth", "chance_error", "reference", "kinds", "inexact", "extra", "further"), "null"
    ),
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


FILE = '"fa-track: file"'
"""The column of a row's file, while a folder is read."""


def part_of(experiment: str) -> str:
    """The name of the folder that holds an experiment's part of a table."""
    name = quote(experiment, safe=" ", errors="replace")
    return f"experiment={name.replace('_', '%5F', 1) if name == HIVES_NULL else name}"


def experiment_of(part: Path) -> str:
    """The experiment of a part, by the name of its folder."""
    return unquote(part.parent.name.partition("=")[2])


def find_folders(path: str | Path) -> list[Path]:
    """The folders of tables that ``path`` names: itself, those that stand in it or that it matches."""
    one = Path(path)
    if _holds_any(one):
        return [one]
    named = one.iterdir() if one.is_dir() else map(Path, glob.glob(str(path)))  # noqa: PTH207 - or no absolute pattern
    return sorted(folder for folder in named if _holds_any(folder))


def open_folders(folders: Sequence[Path]) -> "DuckDBPyConnection":
    """The tables of schema.sql over the files of ``folders``, which are all that the connection can read.

    Raises:
        UsageError: a run or an experiment stands in two of the folders, or one is a copy in part or holds too much.
        duckdb.Error: a file is not what it should be.
    """
    import duckdb

    for folder in folders if len(folders) > 1 else ():
        open_folders([folder]).close()
    connection = duckdb.connect()
    if len(folders) == 1:
        _refuse_other_parts(folders[0])
    create_tables(connection, folders)
    if len(folders) == 1:
        _refuse_part(connection, folders[0])
        refuse_wrong_rows(connection, folders[0], "", SMALL)
    else:
        _refuse_doubles(connection, folders)
    shut_off(connection, readable(folders))
    return connection


def _refuse_other_parts(folder: Path) -> None:
    """Look at the names of a folder's files.

    Raises:
        UsageError: one would be read with others, or passed over, though no copy has it; or there are no runs.
    """
    found = {*folder.glob("*.parquet"), *folder.glob("*/experiment=*/**/*.parquet")}
    for table in made().tables:
        parts = _parts(folder, table)
        if len({part.parent == folder for part in parts}) > 1:
            raise UsageError(f"{folder} holds too much: {table} as a file and as a folder; leave one of them there")
        found |= set(folder.glob(f"{table}/**/*.parquet"))
        found -= {part for part in parts if part.parent == folder or part.parent.name == part_of(experiment_of(part))}
    if found:
        raise UsageError(
            f"{folder} holds too much: {min(found).relative_to(folder)} is no file that `fa-track export --parquet` "
            "writes; take it out of the folder"
        )
    if not _parts(folder, "runs"):
        raise UsageError(
            f"{folder} is a copy in part: it holds no runs.parquet, nor a folder runs as `export --parquet` writes it; "
            "copy all of it"
        )


def _refuse_part(connection: "DuckDBPyConnection", folder: Path) -> None:
    """Hold a folder, whose tables the connection has, against its own counts, where it has some.

    Raises:
        UsageError: it holds fewer runs or metrics, or more, or not every table of an experiment.
    """
    asked = "select sum(runs)::bigint, sum(metrics)::bigint from exports"
    said = connection.execute(asked).fetchone() or (None, None)
    if None in said:  # it was made by hand, and tells of no store
        return
    counted = "select (select count(*) from runs), (select count(*) from metrics)"
    held = connection.execute(counted).fetchone() or (0, 0)
    wrong = [
        f"{found} of {count} {what}"
        for what, count, found in zip(("runs", "metric points"), said, held, strict=True)
        if found != count
    ]
    experiments = {part.parent.name for part in folder.glob("*/experiment=*/*.parquet")}
    flat = [f"no {table}" for table in ORDERS if not experiments and not (folder / f"{table}.parquet").is_file()]
    lacking = flat + [
        f"no {table} of {name.partition('=')[2]}"
        for table in ORDERS
        for name in sorted(experiments)
        if not (folder / table / name / "data.parquet").is_file()
    ]
    if not lacking and wrong and all(found >= count for count, found in zip(said, held, strict=True)):
        raise UsageError(
            f"{folder} holds too much, by its exports.parquet: {', '.join(wrong)}; copy it anew, into an empty folder"
        )
    if wrong or lacking:
        raise UsageError(
            f"{folder} is a copy in part, by its exports.parquet: holds {', '.join(wrong + lacking)}; copy all of it "
            "(without exports.parquet what is there is read as it is)"
        )


def create_tables(connection: "DuckDBPyConnection", folders: Sequence[Path]) -> None:
    """The tables of schema.sql in the connection's current database: views where ``folders`` hold files, else empty."""
    connection.execute(files("fa_tracking.results").joinpath("schema.sql").read_text(encoding="utf-8"))
    for table in made().tables:
        selected = []
        for files_of in _read(folders, table):
            held = {name for name, *_ in connection.execute(f"describe from {files_of}").fetchall()}
            absent = {name: value for name, value in ADDED.get(table, {}).items() if name not in held}
            said = ", ".join(
                f"cast({absent.get(name, name)} as {kind}) as {name}" for name, kind, _ in made().columns[table]
            )
            selected.append(f"select {said} from {files_of}")
        if selected:
            connection.execute(f"drop table {table}")
            connection.execute(f"create view {table} as {' union all '.join(selected)}")


def readable(folders: Iterable[Path]) -> list[str]:
    """The files of all tables, absolute, as a connection that is shut off has to be told of them."""
    parts = [str(part.absolute()) for folder in folders for table in made().tables for part in _parts(folder, table)]
    return [*parts, *map(literal_glob, parts)]


def _holds_any(folder: Path) -> bool:
    return any(_parts(folder, table) for table in made().tables)


def _parts(folder: Path, table: str) -> list[Path]:
    """The files of a table in a folder.

    Raises:
        UsageError: one leads out of the folder, which is to be read alone.
    """
    named = [*folder.glob(f"{table}.parquet"), *folder.glob(f"{table}/experiment=*/data.parquet")]
    found = sorted(part for part in named if part.is_file())
    home = folder.resolve()
    for part in found:
        if not part.resolve().is_relative_to(home):
            raise UsageError(f"{part} is a link that leads out of {folder}: put a copy of the file in its place")
    return found


def _read(folders: Iterable[Path], table: str) -> list[str]:
    """What the rows of a table are selected from, in one or two pieces; nothing where there is no file of it.

    A part of the runs has its experiment in the name of its folder. What folders above are called says nothing: they
    are the reader's.
    """
    parts = [part for folder in folders for part in _parts(folder, table)]
    laid = [part for part in parts if table == "runs" and part.name != "runs.parquet"]
    flat, laid_out = (
        f"read_parquet({texts(literal_glob(str(part.absolute())) for part in some)}, hive_partitioning = false"
        for some in ([part for part in parts if part not in laid], laid)
    )
    also = ", union_by_name = true" if table in ADDED else ""
    read = [f"{flat}{also})"] if len(parts) > len(laid) else []
    if laid:
        own = "columns(lambda name: lower(name) <> 'experiment')"
        told = f"url_decode(regexp_extract({FILE}, 'experiment=([^/]*)/data[.]parquet$', 1)) as experiment"
        read.append(f"(select {own}, {told} from {laid_out}, filename = '{FILE[1:-1]}'{also}))")
    return read


def _refuse_doubles(connection: "DuckDBPyConnection", folders: Sequence[Path]) -> None:
    """Views cannot tell apart what two folders call by one name."""
    of_folders = " union all ".join(
        f"select distinct experiment, {number} as folder from {rows}"
        for number, folder in enumerate(folders)
        for rows in _read([folder], "runs")
    )
    doubles = {
        "run": "select run_id from runs group by run_id having count(*) > 1",
        "experiment": f"select experiment from ({of_folders}) group by experiment having count(distinct folder) > 1",
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
