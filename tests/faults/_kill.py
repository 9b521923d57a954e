"""Runs a command in a process group of its own, kills the whole group at a moment, and runs it again to its end.

A command is ``fa_tracking.cli.main`` in a fork of this process, which has imported what takes seconds: so a kill meets
the command at its work and not at its imports.
"""

import atexit
import math
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from fa_tracking.scratch import PREFIX
from tests.stores import TEMPLATE, new_store

FORK = multiprocessing.get_context("fork")
LONGEST = 600
SAID = "said.log"
Words = Sequence[str] | Callable[[], None]
IMPORTED = (
    "altair",
    "duckdb",
    "mlflow.artifacts",
    "mlflow.store.tracking.sqlalchemy_store",
    "rich.progress",
    "torch._dynamo",
    "fa_tracking.dashboards.draw",
    "fa_tracking.auditor.run",
    "fa_tracking.cli",
    "fa_tracking.results.export.export",
    "fa_tracking.trainers.study.schedule",
    "fa_tracking.trainers.study.worker",
)


@dataclass(frozen=True)
class Left:
    """What a killed command left: what it had said, and what its folder holds."""

    said: str
    held: Any


@dataclass
class Count:
    """What became of the kills of one command.

    Attributes:
        seconds: of the undisturbed run, the moments being spread over them.
        kills: commands that were killed before they had ended by themselves.
        ended: those that had ended before their moment came.
        problems: what was broken, each with its moment.
    """

    seconds: float
    kills: int = 0
    ended: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ended = f" ({self.ended} had ended before)" if self.ended else ""
        return f"{self.kills} kills{ended} in the {self.seconds:.1f} s of an undisturbed run"


def warm() -> None:
    """Import what commands import, and let MLflow make a store, before anything is forked."""
    if TEMPLATE not in os.environ:
        os.environ[TEMPLATE] = tempfile.mkdtemp(prefix="faults-")
        atexit.register(shutil.rmtree, os.environ[TEMPLATE], ignore_errors=True)
    with tempfile.TemporaryDirectory() as unused:
        new_store(Path(unused))
    for module in IMPORTED:
        import_module(module)
    torch = import_module("torch")
    torch.set_num_threads(1)


def kill(scene: ModuleType, kills: int, seed: int, told: Callable[[str], None]) -> Count:
    """Kill the scene's command ``kills`` times, once in each equal part of its undisturbed duration."""
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        saved, here = Path(folder) / "saved", Path(folder) / "here"
        here.mkdir()
        new_store(here)
        scene.prepare(here, partial(_typed, here))
        shutil.copytree(here, saved)
        count = Count(math.inf)
        for _ in range(2):  # the first takes longer, and the last moments would come when the command has ended
            before = _restored(saved, here, scene)
            began = time.monotonic()
            fa_track(scene.COMMAND, here)
            count.seconds = min(count.seconds, time.monotonic() - began)
        after, files = scene.held(here), _files(here)
        chance = random.Random(seed)
        for number in range(kills):
            moment = (number + chance.random()) / kills * count.seconds
            _restored(saved, here, scene)
            was_killed = _killed_at(moment, scene.COMMAND, here)
            count.kills += was_killed
            count.ended += not was_killed
            left = Left((here / SAID).read_text(), scene.held(here))
            found = [*scene.broken(before, left, after), *_rerun(scene, here, left, after, files)]
            count.problems += [f"{moment:.2f} s: {problem}" for problem in found]
            told(f"kill {number + 1} of {kills} at {moment:.2f} of {count.seconds:.2f} s{': broken' if found else ''}")
    return count


def _rerun(scene: ModuleType, here: Path, left: Left, after: Any, files: set[str]) -> Iterator[str]:
    """What is wrong when the command is run again: it brings what an undisturbed run does, and clears up."""
    again = getattr(scene, "again", lambda _, fa_track: fa_track(*scene.COMMAND))
    try:
        again(here, partial(_typed, here))
    except AssertionError as error:
        yield f"rerun: {error}"
        return
    yield from scene.unlike(left, scene.held(here), after)
    if strange := _files(here) - files:
        yield f"left behind: {', '.join(sorted(strange)[:3])}"


def _restored(saved: Path, here: Path, scene: ModuleType) -> Any:
    """The folder as the command finds it, always in the same place: a store knows its artifacts by their whole path."""
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(saved, here)
    return scene.held(here)


def fa_track(words: Words, here: Path, **env: str) -> str:
    """What ``fa-track WORDS`` says.

    Raises:
        AssertionError: it ends with another code than 0, or says a traceback.
    """
    process = started(words, here, **env)
    process.join(LONGEST)
    said = (here / SAID).read_text()
    assert process.exitcode == 0, f"{words} ended with {process.exitcode}: {said[-2000:]}"
    assert "Traceback" not in said, said[-2000:]
    return said


def _typed(here: Path, *words: str) -> None:
    fa_track(words, here)


def _killed_at(moment: float, words: Words, here: Path) -> bool:
    """Whether the command was still at work when it was killed, with all its children."""
    process = started(words, here)
    process.join(moment)
    was_running = process.exitcode is None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    with suppress(ProcessLookupError):
        for _ in range(500):  # its children are taken over, and counted by their pids until they are gone
            os.killpg(process.pid, 0)
            time.sleep(0.01)
    return was_running


def started(words: Words, here: Path, said: str = SAID, **env: str) -> Any:
    """``fa-track WORDS`` in ``here``; its scratch files and its spool lie there as well."""
    (here / said).write_bytes(b"")  # else an earlier command's words pass for its own until it comes to write
    process = FORK.Process(target=_command, args=(words, here, said, env))
    process.start()
    while process.exitcode is None and process.pid != os.getpgid(process.pid):
        time.sleep(0.001)
    return process


def _command(words: Words, here: Path, said: str, env: dict[str, str]) -> None:
    os.setsid()
    os.chdir(here)
    with suppress(OSError):  # a read-only folder
        (here / "tmp").mkdir(exist_ok=True)
    tempfile.tempdir = None
    os.environ |= {"TMPDIR": str(here / "tmp"), "FA_TRACK_SPOOL": str(here / "spool"), **env}
    log = os.open(said, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(log, stream)
    if callable(words):
        words()
        return
    sys.argv = ["fa-track", *words]
    import_module("fa_tracking.cli").main(prog_name="fa-track")


def _files(here: Path) -> set[str]:
    """Every file that holds something and whose name is not drawn anew each time, and every scratch folder.

    SQLite's journal of a transaction that was not to be is no matter: it is used again, or undone, by who writes next.
    """
    found = [p for p in here.rglob("*") if (p.is_file() and p.stat().st_size) or p.name.startswith(PREFIX)]
    names = {str(p.relative_to(here)) for p in found}
    return {name for name in names if not name.startswith(("mlruns", "mlflow.db-journal", SAID))}
