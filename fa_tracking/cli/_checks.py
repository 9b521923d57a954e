"""What `fa-track doctor` looks at: each check says what it found and what to do about it. Nothing is created."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.cli import _check_installation as installation
from fa_tracking.cli._check_store import OK, PROBLEM, WARNING, Check, Store, store
from fa_tracking.cli._show import typed
from fa_tracking.errors import FATrackError
from fa_tracking.spelled import counted
from fa_tracking.tracking import address

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from fa_tracking.results.export.source import Snapshot

SCARCE, FULL = 2e9, 2e8
"""Free bytes below which a disk is a warning, and a problem."""


def checks(tracking_uri: str | None, db: str, data_dir: str | None) -> Iterator[Check]:
    """Every check, in the order in which one thing rests on the other; one that breaks is a problem, and no end."""
    yield from _guarded("Python", installation.python)
    yield from _guarded("packages", installation.packages)
    yield from _guarded("optional", installation.optional)
    yield from _guarded("torch", installation.torch_and_threads)
    yield from _guarded("plugins", installation.plugins)
    held = Store(tracking_uri or "", Check("store", PROBLEM, "not looked at"))
    try:
        held = store(tracking_uri)
    except Exception as error:
        held = Store(held.uri, _broken("store", error))
    yield held.check
    yield from _guarded("database", partial(database, db, held))
    yield from _guarded("data", partial(data, data_dir))
    yield from _guarded("artifacts", partial(artifacts, held))
    yield from _guarded("disk", partial(disk, db, held))
    yield from _guarded("git", installation.git)
    yield from _guarded("terminal", installation.terminal)


def _guarded(name: str, check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from check()
    except Exception as error:  # whatever is broken here, the other checks go on
        yield _broken(name, error)


def _broken(name: str, error: Exception) -> Check:
    said = " ".join(str(error).split()) or type(error).__name__
    return Check(name, PROBLEM, said if isinstance(error, FATrackError) else f"{type(error).__name__}: {said}")


def database(db: str, held: Store) -> Iterator[Check]:
    """Whether the results database opens, fits this version, and knows what the store knows."""
    from fa_tracking.results.database import connect
    from fa_tracking.results.export.replace import fits

    checked = partial(Check, "database")
    if not Path(db).exists():
        has_runs = held.snapshot is not None and held.snapshot.runs.num_rows
        advice = "makes it" if has_runs else "fa-track export makes it when there are runs"
        yield checked(WARNING, f"there is no {db} yet", advice, typed("export") if has_runs else "")
        return
    try:
        connection = connect(db)
    except FATrackError as error:
        yield checked(
            PROBLEM,
            str(error),
            "if another process writes it, wait; else name another database with --db or FA_TRACK_DB",
        )
        return
    with connection:
        if not Path(db).is_dir() and not fits(connection):
            advice = "delete it and export again; if its store is gone, read it with that version"
            yield checked(PROBLEM, f"{db} was written by another version of fa-track, or by something else", advice)
            return
        yield _how_old(connection, db, held)


def _how_old(connection: "DuckDBPyConnection", db: str, held: Store) -> Check:
    asked = connection.execute("select count(*), count(distinct experiment) from runs")
    (runs, experiments) = asked.fetchone() or (0, 0)
    (at,) = connection.execute("select max(exported_at) from exports").fetchone() or (None,)
    found = f"{db}: {counted(runs, 'run')} in {counted(experiments, 'experiment')}"
    found += f", exported {_ago(at)}" if at else ""
    if held.snapshot is None:
        return Check("database", OK, f"{found}; not compared, because the store could not be read")
    behind = _behind(connection, held.snapshot)
    if not behind:
        return Check("database", OK, f"{found}; it holds every run and verdict in the store")
    more = f"{found}; new or changed in the store since: {counted(behind, 'run')}"
    return Check("database", WARNING, more, "brings it up to date", typed("export"))


def _behind(connection: "DuckDBPyConnection", snapshot: "Snapshot") -> int:
    """How many runs of the store the database lacks, or knows in another state or with another audit."""
    from fa_tracking.tracking.names import TAG_AUDITED_AT

    audited = {t["run_id"]: t["value"] for t in snapshot.tags.to_pylist() if t["key"] == TAG_AUDITED_AT}
    there = {(r["run_id"], r["status"], audited.get(r["run_id"])) for r in snapshot.runs.to_pylist()}
    known = connection.execute(
        "select run_id, status, value from runs left join (from tags where key = $1) using (run_id)", [TAG_AUDITED_AT]
    )
    return len(there - set(known.fetchall()))


def _ago(at: datetime) -> str:
    minutes = (datetime.now(UTC).replace(tzinfo=None) - at).total_seconds() / 60
    size, unit = next(((s, u) for s, u in ((1440, "days"), (60, "hours")) if minutes >= 2 * s), (1, "minutes"))
    return f"{minutes / size:.0f} {unit} ago"


def data(data_dir: str | None) -> Iterator[Check]:
    """Which data sets are at hand."""
    from fa_tracking.trainers.data import built_in as carried

    built_in = f"built in: {', '.join(carried())}"
    if data_dir is None:
        advice = "for CIFAR-10 and others, give --data-dir DIR or set FA_TRACK_DATA=DIR"
        yield Check("data", OK, f"{built_in}; no folder with others is named", advice)
    elif not Path(data_dir).is_dir():
        yield Check(
            "data", PROBLEM, f"{built_in}; the folder {data_dir} does not exist", "correct --data-dir or FA_TRACK_DATA"
        )
    elif found := _data_sets(Path(data_dir)):
        yield Check("data", OK, f"{built_in}; in {data_dir}: {', '.join(found)}")
    else:
        advice = (
            "put NAME/train.parquet and NAME/test.parquet there, or let torchvision fetch a data set with --download"
        )
        yield Check("data", WARNING, f"{built_in}; none in {data_dir}", advice)


def _data_sets(folder: Path) -> list[str]:
    """The names of the data sets below a folder, or of the one that it holds itself; nothing is read."""
    from fa_tracking.trainers.data import from_files

    def is_whole(there: Path) -> bool:
        return all((there / f"{part}.parquet").is_file() for part in ("train", "test"))

    found = [each.name for each in sorted(folder.iterdir()) if each.is_dir() and is_whole(each)]
    itself = [f"{folder.name} (train.parquet, test.parquet)"] if is_whole(folder) else []
    found += [f"{name} ({files})" for name, files in from_files().items() if (folder / files).is_dir()]
    return [*itself, *found]


def artifacts(held: Store) -> Iterator[Check]:
    """Whether the artifacts of a store are where it says: one that was carried elsewhere does not know."""
    said = [] if held.snapshot is None else held.snapshot.runs["artifact_uri"].to_pylist()
    places = [place for uri in said if (place := address.lost(str(uri)))]
    for place in sorted(set(places)):
        found = f"{counted(places.count(place), 'run')}: the artifacts are at {place}, which is not here"
        yield Check(
            "artifacts", PROBLEM, found, "move the store back there, or link that path to its new place with ln -s"
        )


def disk(db: str, held: Store) -> Iterator[Check]:
    """Free space and leave to write where the store, its artifacts, the database and temporary files stand."""
    places = {"database": Path(db).absolute().parent, "temporary files": Path(tempfile.gettempdir())}
    where = address.place(held.uri)
    if where is not None:
        places = {"store": where.absolute().parent, **places}
    if held.snapshot is not None and held.snapshot.runs.num_rows:
        written = address.folder(str(held.snapshot.runs["artifact_uri"][-1].as_py()))
        places |= {"artifacts": written} if written and not address.lost(str(written)) else {}
    disks: dict[int, list[tuple[str, Path]]] = {}
    for name, path in places.items():
        standing = next(p for p in (path, *path.absolute().parents) if p.exists())
        disks.setdefault(standing.stat().st_dev, []).append((name, standing))
    for there in disks.values():
        yield _free(there)


def _free(places: list[tuple[str, Path]]) -> Check:
    """One disk, with what stands on it."""
    names = ", ".join(name for name, _ in places)
    free = shutil.disk_usage(places[0][1]).free
    if locked := [str(path) for _, path in places if not os.access(path, os.W_OK)]:
        found = f"no permission to write in {', '.join(locked)} ({names})"
        return Check("disk", PROBLEM, found, "change its owner or mode, or work in another folder")
    found = f"{free / 1e9:.1f} GB free and writable: {names}"
    if free < SCARCE:
        state = PROBLEM if free < FULL else WARNING
        return Check("disk", state, found, "make room; `mlflow gc` removes the files of deleted runs for good")
    return Check("disk", OK, found)
