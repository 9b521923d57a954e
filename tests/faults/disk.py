"""A full disk under the spool, the store and the database, and a read-only folder: one line says so, nothing is lost."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults._kill import SAID, fa_track, started
from tests.faults._store import TINY, learned, runs

TRAIN = ("train", "dfa", "--experiment", "small", "--epochs", "4", "--checkpoint-every", "1", *TINY)
EXPORT = ("export", "--db", "r.duckdb", "--parquet", "copy")
NO_SPACE = ("No space left", "disk is full", "disk I/O error")
READ_ONLY = ("read-only", "readonly", "Read-only")


def tried(folder: Path, small: bool) -> tuple[str, list[str]]:
    try:
        with mounted(folder / "try", "tmpfs", "1m"):
            pass
    except (OSError, subprocess.CalledProcessError):
        return "skipped: file systems cannot be mounted here", []
    saved = folder / "saved"
    saved.mkdir()
    fa_track(TRAIN, saved)
    problems = [*_full_spool(folder / "spool"), *_full_store(folder / "store")]
    problems += [*_full_results(folder / "results"), *_read_only(folder / "read_only")]
    return "a full spool, a full store, a full folder of the database, a read-only folder", problems


def _full_spool(here: Path) -> Iterator[str]:
    """What was logged before is brought to the store, and the run goes on when there is room."""
    here.mkdir()
    fa_track(TRAIN, here)
    with mounted(here / "spool", "tmpfs", "12k"):
        yield from _refused(here, NO_SPACE, *TRAIN)
        subprocess.run(["mount", "-o", "remount,size=9m", str(here / "spool")], check=True)
        fa_track(("recover",), here)
        for run, found in runs(here).items():
            if found["status"] != "FINISHED":
                yield f"spool: {found['status']} {len(found['metrics'])} {sorted(found['artifacts'])}"
                fa_track(("resume", run, "--checkpoint-every", "1"), here)
    whole, again = map(learned, runs(here).values())
    if whole != again:
        yield "full spool: the run that went on differs from an undisturbed one"


def _full_store(here: Path) -> Iterator[str]:
    """The run ends with a line; when there is room, its log comes from the spool."""
    here.mkdir()
    yield "todo"


def _full_results(here: Path) -> Iterator[str]:
    """The old database and the old copy stand."""
    with mounted(here, "tmpfs", "12m"):
        yield "todo"


def _read_only(here: Path) -> Iterator[str]:
    yield "todo"


def _refused(here: Path, words: tuple[str, ...], *command: str) -> Iterator[str]:
    """What is wrong with a refusal: it is one line with one of the words, and exit code 1."""
    process = started(command, here)
    process.join()
    said = (here / SAID).read_text()
    print(said)
    if process.exitcode != 1 or "Traceback" in said or not any(word in said for word in words):
        yield f"{command[0]} ended with {process.exitcode}: {said[-300:]}"
    if sum(line.startswith("Error: ") for line in said.splitlines()) != 1:
        yield f"{command[0]} says: {said[-500:]}"


@contextmanager
def mounted(folder: Path, kind: str, size: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", kind, "-o", f"size={size}", kind, str(folder)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
