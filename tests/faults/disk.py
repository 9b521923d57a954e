"""A full disk under the spool, the store or the database, and a read-only folder: one line, and nothing is lost."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults._kill import SAID, fa_track, started
from tests.faults._store import TINY, learned, runs
from tests.faults.export import held
from tests.stores import new_store

TRAIN = ("train", "dfa", "--experiment", "small", "--epochs", "4", "--checkpoint-every", "1", *TINY)
AUDIT = ("audit", "--experiment", "small")
EXPORT = ("export", "--db", "r.duckdb", "--parquet", "copy")
FULL, READ_ONLY = ("No space left", "disk is full"), ("Read-only", "readonly")


def tried(folder: Path, small: bool) -> tuple[str, list[str]]:
    try:
        with _mounted(folder / "try"):
            pass
    except (OSError, subprocess.CalledProcessError):
        return "skipped: file systems cannot be mounted here", []
    trials = (_full_spool, _full_store, _full_results, _read_only)
    problems = [f"{each.__name__}: {problem}" for each in trials for problem in each(_new(folder / each.__name__))]
    return "a full spool, store and folder of the database, a read-only folder", problems


def _full_spool(here: Path) -> Iterator[str]:
    """The run ends; when there is room it goes on."""
    new_store(here)
    fa_track(TRAIN, here)
    with _mounted(here / "spool") as resize:
        resize("12k")
        yield from _refused(here, FULL, TRAIN)
        resize("9m")
        fa_track(("recover",), here)
        for run, found in runs(here).items():
            if found["status"] != "FINISHED":
                fa_track(("resume", run, "--checkpoint-every", "1"), here)
    yield from _two_of_a_kind(here)


def _full_store(here: Path) -> Iterator[str]:
    """The run is trained to its end; when there is room, the spool has its log."""
    spool = str(_new(here.with_name("spool")))
    with _mounted(here) as resize:
        new_store(here)
        fa_track(TRAIN, here)
        resize(f"{_used(here) + 120}k")
        yield from _refused(here, FULL, TRAIN, FA_TRACK_SPOOL=spool, FA_TRACK_PATIENCE="1")
        if [run["status"] for run in runs(here).values()].count("FINISHED") != 1:
            yield "a run is finished whose log has not arrived"
        resize("20m")
        fa_track(("recover",), here, FA_TRACK_SPOOL=spool)
        yield from _two_of_a_kind(here)


def _full_results(here: Path) -> Iterator[str]:
    """The old database and the old copy stand."""
    with _mounted(here) as resize:
        new_store(here)
        fa_track(TRAIN, here)
        fa_track(EXPORT, here)
        before = held(here)
        fa_track(TRAIN, here)
        resize(f"{_used(here) + 120}k")
        yield from _refused(here, FULL, EXPORT)
        if held(here) != before:
            yield "the old database or copy is not what it was"
        resize("40m")
        fa_track(EXPORT, here)
        if held(here) == before:
            yield "an export with room again has brought nothing"


def _read_only(here: Path) -> Iterator[str]:
    new_store(here)
    fa_track(TRAIN, here)
    fa_track(AUDIT, here)
    fa_track(EXPORT, here)
    before = (runs(here), held(here))
    subprocess.run(["mount", "--bind", str(here), str(here)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(here)], check=True)
        for words in (TRAIN, AUDIT, EXPORT):
            yield from _refused(here, READ_ONLY, words, said=str(here.with_name("read_only.log")))
    finally:
        subprocess.run(["umount", "-l", str(here)], check=True)
    if (runs(here), held(here)) != before:
        yield "what the folder held is not what it was"


def _two_of_a_kind(here: Path) -> Iterator[str]:
    whole, again = runs(here).values()
    if (whole["status"], learned(whole)) != (again["status"], learned(again)):
        yield f"the run differs from an undisturbed one: it is {again['status']}, {len(again['metrics'])} points"


def _refused(
    here: Path, reasons: tuple[str, ...], command: tuple[str, ...], said: str = SAID, **env: str
) -> Iterator[str]:
    process = started(command, here, said, **env)
    process.join()
    lines = [line for line in (here / said).read_text().splitlines() if any(reason in line for reason in reasons)]
    text = (here / said).read_text()
    if process.exitcode != 1 or not lines or "Traceback" in text or text.count("Error: ") > 1:
        yield f"{command[0]} ended with {process.exitcode}: {text[-400:]}"


@contextmanager
def _mounted(folder: Path) -> Iterator[Callable[[str], None]]:
    """A file system in memory; yields what gives it another size."""
    _new(folder)

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)], check=True, capture_output=True)
    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _used(folder: Path) -> int:
    """Kilobytes."""
    return int(subprocess.run(["du", "-sk", str(folder)], capture_output=True, text=True, check=True).stdout.split()[0])
