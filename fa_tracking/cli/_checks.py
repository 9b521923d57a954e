"""What `fa-track doctor` looks at: each check says what it found and what to do about it. Nothing is created."""

import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, entry_points, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from fa_tracking.cli._check_store import OK, PROBLEM, WARNING, Check, Store, count, local_store, store
from fa_tracking.cli._show import typed
from fa_tracking.errors import FATrackError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from packaging.requirements import Requirement

    from fa_tracking.results.sources import Snapshot

SCARCE, FULL = 2e9, 2e8
"""Free bytes below which a disk is a warning, and a problem."""

OPTIONAL = ("lightning", "transformers", "tensorboard")
PLUGINS = {
    "mlflow.run_context_provider": "fa_track",
    "mlflow.model_evaluator": "fa_protocol",
    "mlflow.app": "fa-track",
    "fa_tracking.models": "trainers",
    "fa_tracking.datasets": "trainers",
}
REINSTALL = "python -m pip install --force-reinstall --no-deps ."


def checks(tracking_uri: str | None, db: str, data_dir: str | None) -> Iterator[Check]:
    """Every check, in the order in which one thing rests on the other; one that breaks is a problem, and no end."""
    yield from _guarded("Python", python)
    yield from _guarded("packages", packages)
    yield from _guarded("optional", optional)
    yield from _guarded("torch", torch_and_threads)
    yield from _guarded("plugins", plugins)
    held = Store(tracking_uri or "", Check("store", PROBLEM, "not looked at"))
    try:
        held = store(tracking_uri)
    except Exception as error:
        held = Store(held.uri, _broken("store", error))
    yield held.check
    yield from _guarded("database", partial(database, db, held))
    yield from _guarded("data", partial(data, data_dir))
    yield from _guarded("disk", partial(disk, db, held))
    yield from _guarded("git", git)
    yield from _guarded("terminal", terminal)


def _guarded(name: str, check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from check()
    except Exception as error:  # whatever is broken here, the other checks go on
        yield _broken(name, error)


def _broken(name: str, error: Exception) -> Check:
    said = " ".join(str(error).split()) or type(error).__name__
    return Check(name, PROBLEM, said if isinstance(error, FATrackError) else f"{type(error).__name__}: {said}")


def python() -> Iterator[Check]:
    from packaging.specifiers import SpecifierSet

    asked = metadata("fa-track")["Requires-Python"]
    found = f"{platform.python_version()} at {sys.executable}; fa-track {version('fa-track')} asks for {asked}"
    fits = SpecifierSet(asked).contains(platform.python_version(), prereleases=True)
    yield Check("Python", OK, found) if fits else Check("Python", PROBLEM, found, f"install Python {asked}")


def packages() -> Iterator[Check]:
    """The packages that fa-track needs, each against its range."""
    needed = [r for r in _requirements() if not r.marker or r.marker.evaluate()]
    unfit = [(r, said) for r in needed if (said := _unfit(r))]
    for requirement, said in unfit:
        yield Check("packages", PROBLEM, said, "a version of the range", _pip_install(requirement))
    shown = ", ".join(f"{r.name} {version(r.name)}" for r in needed if r.name in ("mlflow", "torch", "duckdb"))
    if not unfit:
        tested = next(_range(r) for r in needed if r.name == "mlflow")
        yield Check("packages", OK, f"{len(needed)} in their ranges: {shown} (MLflow is tested with {tested})")


def optional() -> Iterator[Check]:
    """The extras that users may want: there and in range, or how to get them."""
    wanted = [(e, r) for r in _requirements() for e in OPTIONAL if r.marker and r.marker.evaluate({"extra": e})]
    missing = [(extra, r) for extra, r in wanted if _version(r.name) is None]
    unfit = [(r, said) for extra, r in wanted if (extra, r) not in missing and (said := _unfit(r))]
    for requirement, said in unfit:
        yield Check("optional", WARNING, said, "a version of the range", _pip_install(requirement))
    there = ", ".join(f"{r.name} {version(r.name)}" for extra, r in wanted if (extra, r) not in missing)
    if not missing:
        yield Check("optional", OK, there)
        return
    lacking = f"not installed: {', '.join(r.name for _, r in missing)}"
    advice = f"only for {', '.join(dict.fromkeys(extra for extra, _ in missing))}"
    command = _pip_install(*(r for _, r in missing))
    yield Check("optional", OK, f"{there}; {lacking}" if there else lacking, advice, command)


def _requirements() -> "list[Requirement]":
    from packaging.requirements import Requirement

    return [Requirement(text) for text in requires("fa-track") or ()]


def _range(requirement: "Requirement") -> str:
    return ",".join(sorted(map(str, requirement.specifier), reverse=True))


def _pip_install(*wanted: "Requirement") -> str:
    return shlex.join(["python", "-m", "pip", "install", *(f"{r.name}{_range(r)}" for r in wanted)])


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _unfit(requirement: "Requirement") -> str:
    """What is wrong with the installed version; empty where it is in the range."""
    installed = _version(requirement.name)
    if installed is None:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"{requirement.name} {installed} is not {_range(requirement)}"


def torch_and_threads() -> Iterator[Check]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: the CPU"
    threads = torch.get_num_threads()
    found = f"{torch.__version__}, {device}; {threads} threads on {cores} usable cores"
    if threads <= cores:
        yield Check("torch", OK, found)
    else:
        set_by = " (OMP_NUM_THREADS is set)" if "OMP_NUM_THREADS" in os.environ else ""
        yield Check("torch", WARNING, found, f"more threads than cores are slower: OMP_NUM_THREADS={cores}{set_by}")


def plugins() -> Iterator[Check]:
    """Our entry points as MLflow finds them, and those of models and data sets; each is loaded."""
    fine, wrong = [], []
    for group, expected in PLUGINS.items():
        ours = group.startswith("fa_tracking")
        found = [point for point in entry_points(group=group) if ours or point.name == expected]
        if expected not in {point.name for point in found}:
            wrong.append(f"{group}: {expected} is not installed")
        for point in {point.name: point for point in found}.values():
            try:
                point.load()
                fine.append(f"{group}: {point.name}")
            except Exception as error:
                wrong.append(f"{group}: {point.name} = {point.value} does not load: {' '.join(str(error).split())}")
    if fine:
        yield Check("plugins", OK, "; ".join(fine))
    for said in wrong:
        yield Check("plugins", PROBLEM, said, "in the clone; of another's plugin, the like", REINSTALL)


def database(db: str, held: Store) -> Iterator[Check]:
    """Whether the results database opens, fits this version, and knows what the store knows."""
    from fa_tracking.results.database import connect
    from fa_tracking.results.export import fits

    checked = partial(Check, "database")
    if not Path(db).exists():
        has_runs = held.snapshot is not None and held.snapshot.runs.num_rows
        advice = "makes it" if has_runs else "fa-track export makes it, once there are runs"
        yield checked(WARNING, f"there is no {db} yet", advice, typed("export") if has_runs else "")
        return
    try:
        connection = connect(db)
    except FATrackError as error:
        yield checked(PROBLEM, str(error), "wait where it is being written; else name another with --db or FA_TRACK_DB")
        return
    with connection:
        if not Path(db).is_dir() and not fits(connection):
            advice = "delete it and export again; where its store is gone, read it with that version"
            yield checked(PROBLEM, f"{db} was written by another version of fa-track, or by something else", advice)
            return
        yield _how_old(connection, db, held)


def _how_old(connection: "DuckDBPyConnection", db: str, held: Store) -> Check:
    counted = connection.execute("select count(*), count(distinct experiment) from runs")
    (runs, experiments) = counted.fetchone() or (0, 0)
    (at,) = connection.execute("select max(exported_at) from exports").fetchone() or (None,)
    found = f"{db}: {count(runs, 'run')} in {count(experiments, 'experiment')}"
    found += f", exported {_ago(at)}" if at else ""
    if held.snapshot is None:
        return Check("database", OK, f"{found}; the store could not be read to compare")
    behind = _behind(connection, held.snapshot)
    if not behind:
        return Check("database", OK, f"{found}; it holds every run and verdict of the store")
    more = f"{found}; new or changed in the store since: {count(behind, 'run')}"
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
    from trainers.datasets import EMBEDDED

    built_in = f"built in: {', '.join(EMBEDDED)}"
    if data_dir is None:
        advice = "for CIFAR-10 and others: --data-dir DIR, or FA_TRACK_DATA=DIR in the environment"
        yield Check("data", OK, f"{built_in}; no folder of others is named", advice)
    elif not Path(data_dir).is_dir():
        yield Check("data", PROBLEM, f"{built_in}; the folder {data_dir} does not exist", "see to FA_TRACK_DATA")
    elif found := _data_sets(Path(data_dir)):
        yield Check("data", OK, f"{built_in}; in {data_dir}: {', '.join(found)}")
    else:
        advice = "it should hold NAME/train.parquet and NAME/test.parquet, or what torchvision fetches with --download"
        yield Check("data", WARNING, f"{built_in}; none in {data_dir}", advice)


def _data_sets(folder: Path) -> list[str]:
    """The names of the data sets below a folder, or of the one that it holds itself; nothing is read."""
    from torchvision import datasets

    from trainers.datasets import TORCHVISION

    def is_whole(there: Path) -> bool:
        return all((there / f"{part}.parquet").is_file() for part in ("train", "test"))

    found = [each.name for each in sorted(folder.iterdir()) if each.is_dir() and is_whole(each)]
    itself = [f"{folder.name} (train.parquet, test.parquet)"] if is_whole(folder) else []
    for name, kind in TORCHVISION.items():
        raw = getattr(getattr(datasets, kind), "base_folder", f"{kind}/raw")
        found += [f"{name} (torchvision's files)"] if (folder / raw).is_dir() else []
    return [*itself, *found]


def disk(db: str, held: Store) -> Iterator[Check]:
    """Free space and leave to write where the store, its artifacts, the database and temporary files stand."""
    places = {"database": Path(db).absolute().parent, "temporary files": Path(tempfile.gettempdir())}
    where = local_store(held.uri)
    if where is not None:
        places = {"store": where.absolute().parent, **places}
    if held.snapshot is not None and held.snapshot.runs.num_rows:
        artifacts = local_store(str(held.snapshot.runs["artifact_uri"][-1].as_py()))
        places |= {"artifacts": artifacts} if artifacts else {}
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
        found = f"no leave to write in {', '.join(locked)} ({names})"
        return Check("disk", PROBLEM, found, "change its owner or mode, or work in another folder")
    found = f"{free / 1e9:.1f} GB free, and leave to write: {names}"
    if free < SCARCE:
        state = PROBLEM if free < FULL else WARNING
        return Check("disk", state, found, "make room; `mlflow gc` removes the files of deleted runs for good")
    return Check("disk", OK, found)


def git() -> Iterator[Check]:
    """Whether runs that start here get a commit."""
    from fa_tracking.plugin.context import FATrackContext
    from fa_tracking.tracking.names import TAG_GIT_COMMIT

    commit = FATrackContext().tags().get(TAG_GIT_COMMIT)
    if commit:
        said = ", with changes that are not committed" if commit.endswith("-dirty") else ""
        yield Check("git", OK, f"runs that start here note the commit {commit[:12]}{said}")
    elif shutil.which("git"):
        yield Check("git", OK, "this folder is no checkout: runs that start here note no commit")
    else:
        yield Check("git", WARNING, "git is not installed: runs note no commit", "install git")


def terminal() -> Iterator[Check]:
    encoding = sys.stdout.encoding or "unknown"
    try:
        "✓⚑✗≥±‖λΓ".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        advice = "PYTHONIOENCODING=utf-8 in the environment, or a UTF-8 locale"
        yield Check("terminal", WARNING, f"{encoding}, which lacks some of the marks: they are spelled out", advice)
    else:
        yield Check("terminal", OK, f"{encoding}, {shutil.get_terminal_size((100, 24)).columns} columns")
